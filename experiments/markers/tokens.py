"""What lists of markers cost: tokens of rows of `ui` with and without them, by form and tokenizer.

    python experiments/markers/tokens.py [--rows N] [--out FILE]

Rows are of the test split. All tokens are those of a prompt (`English`, and of `ui-s` two more), of
an answer and of its end; of SmolLM2 also those of its chat template, 30. Inferred: a list before
the answer alone; given: the whole of it behind the prompt too. `list` are the tokens that a list
adds to an answer, `places alone` the share of lists each place of which is a token of its own,
and `over the border` that of rows, half of them with a list behind the prompt, in which a token
spans prompt and answer where both are one text, as TRL makes them of plain rows.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from tokenizers import Tokenizer

from pomona import models, records
from pomona.markers import Form, Taxonomy, attach, begin, list_of, tag
from pomona.records import Records, TableSource

HERE = Path(__file__).parent
PROJECTS = ["django", "oscar", "wagtail", "sphinx", "cms"]
MARKERS: dict[str, Any] = {
    "project": {"kind": "values", "column": "domain", "values": PROJECTS},
    "characters": {"kind": "integer", "measure": "characters"},
    "length": {
        "kind": "buckets", "of": "characters", "edges": [8, 16, 32, 64, 128],
        "values": ["to7", "to15", "to31", "to63", "to127", "longer"],
    },
    "untranslated": {"kind": "values", "measure": "untranslated", "values": ["yes", "no"]},
    "lang": {"kind": "text", "column": "lang"},
}  # fmt: skip
SETS = ("length untranslated", "project length untranslated", "project length untranslated lang",
        "project characters length untranslated lang")  # fmt: skip


def count(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    """Tokens of all texts."""
    return sum(map(len, tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)))


def alone(tokenizer: Tokenizer, form: Form, told: Taxonomy, values: Sequence[Any]) -> float | None:
    """The share of compact lists, half of their markers left out, of which each place is a token of
    its own; None where values are written out.
    """
    if form == "verbose" or any(not one.values for one in told.listed.values()):
        return None
    rng, found = random.Random(0), 0
    for row in values:
        text = list_of({n: v for n, v in row.items() if rng.random() < 0.5}, told, form)
        places = text.split(" ")[1:] if form == "compact" else [*text]
        spelled = tokenizer.encode(text, add_special_tokens=False).tokens
        found += [one.removeprefix("Ġ") for one in spelled] == [one for one in places if one]
    return round(found / len(values), 3)


def over_the_border(tokenizer: Tokenizer, prompts: Sequence[str], answers: Sequence[str]) -> float:
    """The share of rows in which a token spans prompt and answer, where both are one text."""
    apart = [
        [one.ids for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        for texts in (prompts, answers)
    ]
    joined = [one + two for one, two in zip(prompts, answers, strict=True)]
    whole = tokenizer.encode_batch(joined, add_special_tokens=False)
    found = [a + b != one.ids for a, b, one in zip(*apart, whole, strict=True)]
    return round(sum(found) / len(found), 3)


def measured(tokenizer: Tokenizer, more: int, form: Form, told: Taxonomy, rows: Any) -> Any:
    """Multiples of all tokens, and the tokens of a list."""
    values = [{n: v for n, v in one.items() if v is not None} for one in rows["values"]]
    pairs = list(zip(rows["answers"], values, strict=True))
    listed = [begin(text, one, told, form) for text, one in pairs]
    shown = [
        attach(text, one, told, form) for text, one in zip(rows["prompts"], values, strict=True)
    ]
    n = len(pairs)
    prompt, answer = count(tokenizer, rows["prompts"]), count(tokenizer, rows["answers"])
    bare = prompt + answer + more * n
    before = count(tokenizer, listed) - answer
    behind = count(tokenizer, shown) - prompt
    return {
        "inferred": round(1 + before / bare, 3),
        "given": round(1 + (before + behind) / bare, 3),
        "list": round(before / n, 2),
        "behind a prompt": round(behind / n, 2),
        "tokens without": round(bare / n, 1),
        "places alone": alone(tokenizer, form, told, values),
        "over the border": over_the_border(
            tokenizer, (*rows["prompts"], *shown), (*listed, *listed)
        ),
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=HERE / "results/tokens.json")
    given = parser.parse_args()
    table = records.read("ui").where(split="test").to_table()
    table = table.take(list(range(0, len(table), len(table) // given.rows))[: given.rows])
    with tempfile.TemporaryDirectory() as work:
        out = Path(work, "tagged.parquet")
        every = Taxonomy.model_validate({"markers": MARKERS})
        tag(Records.of(TableSource(table)), out, taxonomy=every, completion="translation",
            prompt="english")  # fmt: skip
        tags = records.read(out).to_table()
    tokenizers = {
        name: (Tokenizer.from_file(str(models.locate(name) / "tokenizer.json")), more)
        for name, more in (("ui-s", 3), ("smollm2", 31))
    }
    told: dict[str, Any] = {}
    for names in SETS:
        listed = {n: {**MARKERS[n]} for n in MARKERS if n in names.split() or n == "characters"}
        listed["characters"]["listed"] = "characters" in names.split()
        own = Taxonomy.model_validate({"markers": listed})
        columns = {n: tags[f"marker_{n}"].to_pylist() for n in own.listed}
        rows = {
            "prompts": table["english"].to_pylist(),
            "answers": table["translation"].to_pylist(),
            "values": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        }  # fmt: skip
        told[names] = {
            form: {name: measured(*how, form, own, rows) for name, how in tokenizers.items()}
            for form in get_args(Form)
        }
        told[names]["examples"] = {
            form: list_of({n: v for n, v in rows["values"][0].items() if v is not None}, own, form)
            for form in get_args(Form)
        }
    given.out.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
