from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pomona
from pomona.cli import main
from pomona.data.scores import learning_order, make_probes, order, score
from pomona.errors import PomonaError
from pomona.records import card_of

from .conftest import PROMPT

MODELS = ["ui-s@10", "ui-s"]
PAIR: dict[str, Any] = {
    "models": MODELS,
    "prompt": PROMPT,
    "completion": "translation",
    "group": "lang",
}


@pytest.fixture(scope="module")
def many() -> pa.Table:
    """240 pairs of two languages."""
    table = pq.read_table(
        Path(pomona.__file__).parent / "assets" / "ui" / "ui.parquet",
        columns=["id", "lang", "english", "translation"],
    )
    rows = [row for row, lang in enumerate(table["lang"].to_pylist()) if lang in ("de", "fr")]
    return table.take(random.Random(0).sample(rows, 240))


def test_kinds_are_those_of_the_nearest_probes(many: pa.Table, tmp_path: Path) -> None:
    card = order(many, tmp_path / "out.parquet", **PAIR, corrupt="english", n=40, k=5, seed=3)
    table = pq.read_table(tmp_path / "out.parquet")
    names = [f"perplexity@{model}" for model in MODELS]
    assert table.column_names == [*many.column_names, *names, "vog", "learnt"]
    assert table.select(many.column_names).equals(many)
    made = make_probes(
        *(many[name].to_pylist() for name in ("english", "translation")),
        n=40,
        groups=many["lang"].to_pylist(),
        seed=3,
    )
    losses, best = (
        np.log([table[name].to_numpy() for name in names]).T,
        np.argsort(table["vog"].to_numpy(), kind="stable"),
    )
    probes: dict[str, Any] = {"typical": best[:40], "atypical": best[-40:]}
    for kind, spoilt in made.items():
        rows = {
            "lang": many["lang"].take(spoilt.rows),
            "english": spoilt.inputs,
            "translation": spoilt.completions,
        }
        score(
            pa.table(rows),
            tmp_path / "probes.parquet",
            models=MODELS,
            prompt=PROMPT,
            completion="translation",
        )
        probes[kind] = np.log(
            [pq.read_table(tmp_path / "probes.parquet")[name].to_numpy() for name in names]
        ).T
    expected = learning_order(losses, probes, k=5)
    assert np.mean(np.array(table["learnt"].to_pylist()) == expected) > 0.98  # batches round
    assert card.details["learnt"] == {
        kind: Counter(table["learnt"].to_pylist())[kind] for kind in probes
    }
    assert card.rows_in == card.rows_out == 240
    assert card.groups == {
        name: (count, count) for name, count in Counter(many["lang"].to_pylist()).items()
    }
    assert "corrupt:english|group:lang|n:40|k:5" in card.signature
    assert json.loads(card_of(tmp_path / "out.parquet").read_text())["signature"] == card.signature


def test_the_command_finds_what_was_spoilt(
    many: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = make_probes(
        *(many[name].to_pylist() for name in ("english", "translation")),
        n=40,
        groups=many["lang"].to_pylist(),
        seed=9,
    )
    labels, swapped = many["translation"].to_pylist(), spoilt["random label"]
    for row, text in zip(swapped.rows, swapped.completions, strict=True):
        labels[row] = text
    pq.write_table(many.set_column(3, "translation", pa.array(labels)), tmp_path / "in.parquet")
    out = tmp_path / "out.jsonl"
    arguments = [
        str(tmp_path / "in.parquet"),
        "--out",
        str(out),
        "--prompt",
        PROMPT,
        "--completion",
        "translation",
        "--corrupt",
        "english",
    ]
    arguments += [
        "--models",
        MODELS[0],
        "--models",
        MODELS[1],
        "--group",
        "lang",
        "--n",
        "40",
        "--format",
        "json",
    ]
    assert main(["data", "order", *arguments, "--dry-run"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
    assert main(["data", "order", *arguments]) == 0
    wet = json.loads(capsys.readouterr().out)
    assert (dry["signature"], dry["details"]["models"]) == (
        wet["signature"],
        wet["details"]["models"],
    )
    noisy = np.array(
        [json.loads(line)["learnt"] == "random label" for line in out.read_text().splitlines()]
    )
    planted = np.isin(np.arange(240), swapped.rows)
    assert noisy[planted].mean() > 2 * noisy[~planted].mean()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.parquet",
        "out.jsonl",
        "out.jsonl.card.json",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ["ui-s"]}, r'"vog" needs 2 or more models, and 1 are given'),
        ({}, r"prompt: .* has 2 columns — name the one to spoil: --corrupt"),
        ({"corrupt": "id"}, '"id" is not a column of the prompt alone'),
        (
            {"completion": "{english} {translation}", "corrupt": "english"},
            r"completion: .* has 2 columns — give a column",
        ),
        ({"corrupt": "english", "n": 121}, "242 probes of 240 rows — use a smaller n"),
        (
            {"corrupt": "english", "group": "id", "n": 5},
            "0 rows have another completion in their group, and 5 are wanted",
        ),
        (
            {"corrupt": "english", "group": "langs"},
            r'there is no column "langs" — did you mean "lang"\?',
        ),
    ],
)
def test_errors_say_what_to_name(
    many: pa.Table, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PomonaError, match=message):
        order(many, tmp_path / "out.parquet", **{**PAIR, **options})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PomonaError, match='there is a column "learnt" already'):
        order(many.append_column("learnt", many["id"]), tmp_path / "out.parquet", **PAIR)


def test_fields_and_conversations_are_learnt_as_columns_are(tmp_path: Path) -> None:
    pairs = [(f"Save the page {n}", f"Sichere Seite {n % 5} so") for n in range(12)]
    flat = [{"q": asked, "a": told} for asked, told in pairs]
    chats = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
        for asked, told in pairs
    ]
    found = []
    for rows, prompt, completion in (
        (flat, "q", "a"),
        ([{"p": row} for row in flat], "p.q", "{p.a}"),
        ([{"m": chat} for chat in chats], "m.user", "m.assistant"),
    ):
        table, out = pa.Table.from_pylist(rows), tmp_path / "o.parquet"
        order(table, out, models=MODELS, prompt=prompt, completion=completion, n=3, k=2)
        made = pq.read_table(out)
        assert made.select(table.column_names) == table
        found.append(made.drop_columns(table.column_names))
    assert found[0] == found[1] == found[2] and found[0].column_names[-1] == "learnt"
    with pytest.raises(PomonaError, match="completion: is the prompt too"):
        order(table, out, models=MODELS, prompt="m", completion="m")
