"""The files of a dataset: rows, rejects, preferences, and the card for programs and for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona._version import __version__
from pomona.errors import quantity
from pomona.synth.pipeline.case import NOBODY
from pomona.synth.pipeline.journal import Journal
from pomona.synth.pipeline.recipe import SynthRecipe
from pomona.synth.pipeline.tally import COSTS, Counts, Tally, most
from pomona.synth.rewards import spent

NAMES = ("rows.parquet", "rejects.parquet", "preferences.jsonl", "card.json", "README.md")
KIND = "a synthetic set"
_BATCH = 4096
_REASONS = 20  # of a kind that a card tells
_OTHERS = pa.list_(
    pa.struct(
        [
            ("answer", pa.string()),
            ("reward", pa.float64()),
            ("teacher", pa.string()),
            ("licence", pa.string()),
            ("sample", pa.int32()),
        ]
    )
)
ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source_lang", pa.string()),
        ("lang", pa.string()),
        ("answer", pa.string()),
        ("rank", pa.int32()),
        ("reward", pa.float64()),
        ("teacher", pa.string()),
        ("drafted_by", pa.string()),
        ("licence", pa.string()),
        ("source_licence", pa.string()),
        ("sample", pa.int32()),
        ("finish_reason", pa.string()),
        ("unknown_words", pa.int32()),
        ("reference", pa.string()),
        ("cluster", pa.string()),
    ]
)
_ATTEMPT = [
    ("teacher", pa.string()),
    ("reason", pa.string()),
    ("finish_reason", pa.string()),
    ("trace", pa.string()),
]
REJECTS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source_lang", pa.string()),
        ("lang", pa.string()),
        *_ATTEMPT,
        ("attempts", pa.list_(pa.struct(_ATTEMPT))),
    ]
)


@dataclass(frozen=True)
class Copies:
    """What was found among the rows as they are written: the share that is a near copy of a row
    before it in its language, text and answer together, and how many come near a test item. None
    where nobody looked.
    """

    share: float | None = None
    of_test: int | None = None


@dataclass(frozen=True)
class Synthesized:
    """What became of a recipe: rows out and rejects, who wrote what, under which licence, and at
    what cost. `to_json` is `card.json`; unknown is null.
    """

    tally: Tally
    validation: Tally
    signature: str
    recipe: Mapping[str, Any]
    absent: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    licences: Mapping[str, str | None] = field(default_factory=dict)
    copies: Copies = Copies()

    @property
    def rejected(self) -> int:
        """Rows without an answer."""
        return self.tally.rows_in - self.tally.rows_out

    @property
    def cost(self) -> dict[str, float | None]:
        """What all teachers and rewards cost together."""
        both = (self.tally, self.validation)
        paid = [one.costs for tally in both for one in tally.paid]
        paid += [*(tally.rewards for tally in both), *self.tally.unused.values()]
        return {kind: _sum([costs[kind] for costs in paid]) for kind in COSTS}

    def reasons(self) -> list[tuple[str, int]]:
        """Why rows were rejected, the most frequent first."""
        counts = {
            f"{teacher}: {reason}" if teacher else reason: count
            for teacher, reasons in self.tally.rejects.items()
            for reason, count in reasons.items()
        }
        return most(counts)

    def to_json(self) -> dict[str, Any]:
        """The card."""
        tally, alike = self.tally, self.recipe["checks"]["near_duplicates"]
        teachers = {
            name: {
                "licence": self.licences.get(name),
                "asked": one.asked,
                "answered": one.answered,
                "rows": one.chosen,
                "failed": dict(most(one.failed, _REASONS)),
                "not_asked": dict(most(one.not_asked, _REASONS)),
                "rejects": dict(most(tally.rejects.get(name, {}), _REASONS)),
                "stopped": one.stopped,
                **one.costs,
                "estimated": one.estimated,
            }
            for name, one in tally.teachers.items()
        }
        return {
            "signature": self.signature,
            "seed": self.recipe["seed"],
            "rows_in": tally.rows_in,
            "rows_out": tally.rows_out,
            "rejects": self.rejected,
            "answers": tally.answers,
            "rejects_by_teacher": {
                name or "none": dict(most(reasons, _REASONS))
                for name, reasons in tally.rejects.items()
            },
            "refilled": tally.refilled,
            "preferences": tally.preferences,
            "teachers": teachers,
            "absent": dict(self.absent),
            "cost": self.cost,
            "rewards_cost": tally.rewards,
            "pilot_cost": tally.unused,
            "validation_cost": {
                **{name: one.costs for name, one in self.validation.teachers.items()},
                **(
                    {"rewards": rewards}
                    if any((rewards := self.validation.rewards).values())
                    else {}
                ),
            },
            "near_duplicates": {
                "threshold": alike,
                "refused": tally.near_duplicates,
                "share": self.copies.share,
            },
            "test_copies": self.copies.of_test,
            "licences": dict(tally.licences),
            "source_licences": dict(tally.source_licences),
            "languages": {
                lang: {"rows_in": one[0], "rows_out": one[1]} for lang, one in tally.langs.items()
            },
            "notes": self.told,
            "recipe": dict(self.recipe),
            "version": __version__,
        }

    @property
    def told(self) -> list[str]:
        """The notes, and whose tokens are a guess."""
        guessed = [name for name, one in self.tally.teachers.items() if one.estimated]
        guessed += ["rewards"] if self.tally.guessed else []
        why = "are guessed from texts: its server does not count them all"
        return [*self.notes, *(f"the tokens of {name} {why}" for name in guessed)]

    def headline(self) -> str:
        """Rows in, out, and rejects."""
        tally = self.tally
        return (
            f"{quantity(tally.rows_in, 'row')} in, {tally.rows_out:,} out, "
            f"{quantity(self.rejected, 'reject')}"
        )

    def limits_met(self) -> list[str]:
        """The limits of the budget for which a teacher or a reward was not asked."""
        reasons = {reason for one in self.tally.teachers.values() for reason in one.not_asked}
        reasons |= self.tally.rejects.get(NOBODY, {}).keys()
        names = self.recipe["budget"] or {}
        return [name for name in names if spent(name) in reasons]

    def _looked(self) -> list[str]:
        """What is told of copies."""
        told = (
            [
                f"{quantity(self.tally.near_duplicates, 'near copy was', 'near copies were')}"
                " left out."
            ]
            if self.recipe["checks"]["near_duplicates"]
            else []
        )
        told += ["Nothing is a near copy of a test item."] if self.recipe["test"] else []
        return [" ".join(told), ""] if told else []

    def readme(self) -> str:
        """The card for people."""
        rows = [
            "| teacher | licence | asked | rows | prompt tokens | answer tokens | FLOPs | money "
            "| CPU s |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for name, one in self.tally.teachers.items():
            costs = " | ".join(_figure(value) for value in one.costs.values())
            licence = self.licences.get(name) or "unknown"
            rows.append(f"| {name} | {licence} | {one.asked:,} | {one.chosen:,} | {costs} |")
        if any(value != 0 for value in self.tally.rewards.values()):
            costs = " | ".join(_figure(value) for value in self.tally.rewards.values())
            rows.append(f"| (rewards) | | | | {costs} |")
        lines = [
            "# A synthetic set",
            "",
            f"{self.headline()}.",
            "",
            *rows,
            "",
            *(f"- not asked: {name}, which {reason}" for name, reason in self.absent.items()),
            *(f"- {note}" for note in self.told),
            *(f"- rejects: {count:,} × {reason}" for reason, count in self.reasons()[:10]),
            "",
            *self._looked(),
            f"Licences of the answers: {_counted(self.tally.licences)}. Of the texts: "
            f"{_counted(self.tally.source_licences)}.",
            "",
            f"`{self.signature}`",
        ]
        return "\n".join(lines) + "\n"


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _figure(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _counted(counts: Counts) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in most(counts)) or "none"


def write_tables(journal: Journal, folder: Path, recipe: SynthRecipe) -> dict[str, Path]:
    """The files of all windows, beside each other in `folder`, by their names."""
    schema = ROWS.append(pa.field("alternatives", _OTHERS)) if recipe.alternatives else ROWS
    paths = {name: folder / name for name in NAMES[: 3 if recipe.preferences else 2]}
    for name, kind, form in (
        ("rows.parquet", "rows", schema),
        ("rejects.parquet", "rejects", REJECTS),
    ):
        with pq.ParquetWriter(paths[name], form) as writer:
            for batch in _batched(row for window in journal.windows() for row in window[kind]):
                writer.write_table(pa.Table.from_pylist(batch, form))
    if recipe.preferences is None:
        return paths
    with paths["preferences.jsonl"].open("w", encoding="utf-8") as file:
        for window in journal.windows():
            for pair in window["preferences"]:
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")
    return paths


def _batched(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
