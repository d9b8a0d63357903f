"""The answers of all teachers to rows of `ui` in ten languages, as one table.

    python experiments/arbitrage/experts.py
    python experiments/arbitrage/candidates.py [--out FOLDER] [--parts test valid more empty]

Rows are the items of the test and validation splits ("test", "valid"; "more": validation items of
the ladder's other languages) and cells of the train split that nobody has translated ("empty").
Teachers are `ui-m`, `ui-l`, two language experts, what Apertium makes of sister languages' human
translations, and a translation memory: the answer of the nearest row of training. Programs that are
not installed are named and left out.

FOLDER/candidates.parquet has a row for each answer: id, part, lang, cluster (the English), domain,
text, teacher, sample, answer, finish_reason, reference (null in empty cells), prompt_tokens and tokens
(null of what is no model), flops, cpu_seconds; FOLDER/rejects.parquet those without: id, teacher,
sample, reason.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pomona import records
from pomona.files import atomic_file
from pomona.ledger import Meter
from pomona.memory import find
from pomona.models import Codec, Sampling, inference_flops, load, locate, shape_of
from pomona.synth.teachers import (
    Assignment,
    Lesson,
    Lessons,
    ModelTeacher,
    PivotTeacher,
    Reject,
    Teacher,
    Terms,
    Usage,
    find_cells,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from _shared import DATA, ROOT
from experts import FAMILIES
from pivots import PIVOTS, teacher_of

SAMPLED = "ui-l"
LANGS = ("af", "be", "mk", "nn", "hsb", "cy", "hi", "nb", "fr", "tr")
MORE_PIVOTS = (
    ("nb", "sv", "swe-nob", "apertium-swe-nor"),
    ("nb", "da", "dan-nob", "apertium-dan-nor"),
)
PROMPT = "<|{lang}|>{text}<|to|>"
Rows = list[dict[str, Any]]


def rows_of(part: str, table: Rows) -> Rows:
    """The rows of a part."""
    if part == "empty":
        return list(empty_cells(table))
    split, langs = {
        "test": ("test", LANGS),
        "valid": ("valid", LANGS),
        "more": ("valid", [lang for lang in DATA.groups or () if lang not in LANGS]),
    }[part]
    return [row for row in table if row["split"] == split and row["lang"] in langs]


def empty_cells(table: Rows) -> Iterator[dict[str, Any]]:
    """Sources of the train split that a language has not, each once."""
    held = {(row["lang"], row["english"]) for row in table}
    elsewhere = {row["english"] for row in table if row["split"] != "train"}
    sources = {}
    for row in table:
        if row["split"] == "train" and row["english"] not in elsewhere:
            sources.setdefault(row["english"], row["domain"])
    for lang in LANGS:
        for english, domain in sources.items():
            if (lang, english) not in held:
                number = hashlib.sha256(english.encode()).hexdigest()[:12]
                yield {
                    "id": f"{lang}-{number}",
                    "lang": lang,
                    "domain": domain,
                    "english": english,
                    "translation": None,
                }


@dataclass(frozen=True)
class Memory:
    """The translation of the nearest source of training in the same language."""

    table: Rows
    name: str = "memory"
    terms: Terms = field(default_factory=Terms)

    def teach(self, rows: Sequence[Assignment], sample: int = 0) -> Lessons:
        """See `Teacher`."""
        if sample:
            raise ValueError("a memory has one answer")
        own = [row for row in self.table if row["split"] == "train"]
        langs = {row.lang for row in rows}
        own = [row for row in own if row["lang"] in langs]
        texts, groups = [row["english"] for row in own], [row["lang"] for row in own]
        with Meter() as meter:
            found = find(texts, groups, [r.text for r in rows], [r.lang for r in rows], 1)
        made = tuple(
            Lesson(row.id, own[int(near[0])]["translation"], self.name, None)
            if len(near)
            else Reject(row.id, self.name, "nothing is near")
            for row, near in zip(rows, found.rows, strict=True)
        )
        return Lessons(made, Usage(fresh=len(rows), cpu_seconds=meter.cpu_seconds))


def pivots_of(table: pa.Table, folder: Path) -> Iterator[tuple[str, Teacher]]:
    """The pivots whose program is installed, each with its language."""
    for lang, sister, mode, package in (*PIVOTS, *MORE_PIVOTS):
        inner = teacher_of(sister, lang, mode, package, folder / "programs.db")
        if (missing := inner.program.missing) is not None:
            print(f"{inner.name} is left out: {missing}", flush=True)
            continue
        cells = find_cells(table, lang, sister)
        hers = dict(cells.empty) | {source: text for source, (text, _) in cells.known.items()}
        yield lang, PivotTeacher(inner, sister, hers)


def model(name: str, folder: Path, langs: Sequence[str] | None = None) -> ModelTeacher:
    """A model as a teacher, of these languages."""
    expert = folder / "experts" / name
    pairs = None if langs is None else frozenset(("en", lang) for lang in langs)
    terms = Terms(pairs, "BSD-3-Clause", concurrency=512)
    uri = str(expert) if expert.exists() else name
    store = folder / "answers.db"
    return ModelTeacher(
        uri, PROMPT, store, terms, raw=True, max_tokens=96, sampling=Sampling(min_p=0.1)
    )


class Costs:
    """Tokens and FLOPs of a model's answers."""

    def __init__(self, uri: str) -> None:
        opened: Any = load(uri)
        self.codec = Codec(locate(uri), opened.network, chat=False)
        self.shape = shape_of(opened.network)

    def of(self, row: Assignment, answer: str) -> dict[str, Any]:
        """Those of an answer, its end token counted."""
        prompt = PROMPT.format(text=row.text, lang=row.lang)
        read = len(self.codec.prompts([prompt])[0])
        made = len(self.codec.completions([answer], end=True)[0])
        flops = inference_flops(self.shape, read, made)
        return {"prompt_tokens": read, "tokens": made, "flops": float(flops)}


def asked(teacher: Teacher, name: str, rows: Rows, part: str, sample: int) -> tuple[Rows, Rows]:
    """The answers and rejects of a teacher."""
    of = {row["id"]: row for row in rows}
    tasks = [
        Assignment(row["id"], row["english"], "en", row["lang"], row["translation"], row["english"])
        for row in rows
    ]
    with Meter() as meter:
        made = teacher.teach(tasks, sample)
    costs = Costs(teacher.model) if isinstance(teacher, ModelTeacher) else None  # pyright: ignore
    whole, fresh = (
        (meter.cpu_seconds, made.usage.fresh)
        if costs
        else (made.usage.cpu_seconds or 0.0, len(made.taught))
    )
    # What a model wrote in an earlier call is in the store, and what that took is not known.
    each = whole / fresh if fresh > len(made.taught) / 2 else None
    kept, lost = [], []
    for task, one in zip(tasks, made.rows, strict=True):
        if isinstance(one, Reject):
            lost.append({"id": one.id, "teacher": name, "sample": sample, "reason": one.reason})
            continue
        row = of[one.id]
        told = costs.of(task, one.text) if costs else {}
        kept.append(
            {
                "id": one.id, "part": part, "lang": row["lang"], "cluster": row["english"],
                "domain": row["domain"], "text": row["english"], "teacher": name,
                "sample": sample, "answer": one.text, "finish_reason": one.finish_reason,
                "reference": row["translation"], "cpu_seconds": each, **told,
            }
        )  # fmt: skip
    print(
        f"{part} {rows[0]['lang']} {name} {sample}: {len(kept):,} of {len(rows):,} rows, {whole:.1f} CPU s",
        flush=True,
    )
    return kept, lost


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "part", "lang", "cluster", "domain", "text")),
        *((name, pa.string()) for name in ("teacher", "answer", "finish_reason", "reference")),
        *((name, pa.int64()) for name in ("sample", "prompt_tokens", "tokens")),
        *((name, pa.float64()) for name in ("flops", "cpu_seconds")),
    ]
)
REJECTS = pa.schema(
    [(name, pa.string()) for name in ("id", "teacher", "reason")] + [("sample", pa.int64())]
)


def write(folder: Path, name: str, rows: Rows, schema: pa.Schema) -> None:
    """Write a table, whole or not at all."""
    with atomic_file(folder / name) as path:
        pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")


def main() -> None:
    """Ask whom the table has not yet, and write it after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/arbitrage")
    parser.add_argument("--parts", nargs="+", default=["test", "valid", "more", "empty"])
    parser.add_argument("--samples", type=int, default=1, help="draws of ui-l")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    whole = records.read(ROOT / "src/pomona/assets/ui/ui.parquet").to_table()
    table = whole.to_pylist()
    kept, lost = [], []
    if (given.out / "candidates.parquet").exists():
        kept = pq.read_table(given.out / "candidates.parquet").to_pylist()
        lost = pq.read_table(given.out / "rejects.parquet").to_pylist()
    done = {(row["part"], row["lang"], row["teacher"], row["sample"]) for row in kept}
    pivots = list(pivots_of(whole, given.out))
    for part in given.parts:
        every = rows_of(part, table)
        for lang in dict.fromkeys(row["lang"] for row in every):
            rows = [row for row in every if row["lang"] == lang]
            for teacher, name, sample in work_of(lang, given.out, table, pivots, given.samples):
                if (part, lang, name, sample) not in done:
                    more, rejects = asked(teacher, name, rows, part, sample)
                    kept, lost = kept + more, lost + rejects
                    write(given.out, "rejects.parquet", lost, REJECTS)
                    write(given.out, "candidates.parquet", kept, SCHEMA)


def work_of(
    lang: str, folder: Path, table: Rows, pivots: Sequence[tuple[str, Teacher]], samples: int
) -> Iterator[tuple[Teacher, str, int]]:
    """Who is asked in a language, under what name, for which draw."""
    for name in ("ui-m", "ui-l"):
        yield model(name, folder), name, 0
    for sample in range(1, samples):
        yield model(SAMPLED, folder), SAMPLED, sample
    for name, langs in FAMILIES.items():
        if lang in langs and (folder / "experts" / name).exists():
            yield model(name, folder), f"expert {name}", 0
        elif lang in langs:
            print(f"expert {name} is left out: it is not made yet", flush=True)
    yield Memory(table), "memory", 0
    for own, pivot in pivots:
        if own == lang:
            yield pivot, pivot.name, 0


if __name__ == "__main__":
    main()
