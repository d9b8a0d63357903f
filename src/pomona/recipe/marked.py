"""What a run's models inferred of markers, and what became of those that were given, as a table:
`markers.csv`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.markers import PREFIX, Marker, Taxonomy, same_language
from pomona.recipe.accounts import Accounts
from pomona.recipe.graph import RunFolder, Step, ancestors
from pomona.recipe.lever import Beside
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps import Served, checkpoint
from pomona.recipe.steps.markers import (
    GIVEN,
    INFERRED,
    TAGS,
    begin_answers,
    show_lists,
    tagged,
    take_lists_off,
)
from pomona.recipe.steps.results import read_rows
from pomona.recipe.system import Measurement
from pomona.stats import Share, interval, value_of

FILE = "markers.csv"
_SHARES = ("inferred", "repeated", "kept", "below", "above")
_SURE = ("inferred", "kept")
Values = Sequence[Any]
Sums = NDArray[np.float64]
Known = tuple[float, float | None, float | None]  # a value with its interval


@dataclass(frozen=True)
class Marked:
    """What a lever measured: by which taxonomy, the steps of the test items' tags and of what is
    given with them, and the names of its systems and of the base.
    """

    taxonomy: Taxonomy
    tags: Step
    given: Step | None
    names: Collection[str]


def marked(plan: RunPlan, folder: RunFolder, about: Marked) -> Beside:
    """The table of a finished run, and a note for each system that answers with lists.

    A row is a system and a marker. `listed` is the share of answers that begin with a list,
    `inferred` that of lists with the reference's value, where none is given, `repeated` that with
    the value that is given; `kept` is the share of answers that have the wished value themselves,
    as far as it can be measured on them, `below` and `above` those that have a lower and a higher
    one, where values are numbers or buckets of these. What is not known is empty.
    """
    table = _Table(plan, folder, about)
    rows = [row for m in table.measurements for row in table.rows(m)]
    told = io.StringIO()
    header = ["system", "marker", "given", *_columns({})]
    writer = csv.DictWriter(told, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    notes = [note for m in table.measurements if (note := _note(m.variant, rows))]
    return Beside({FILE: told.getvalue()}, notes)


def _note(variant: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    mine = [row for row in rows if row["system"] == variant]
    if not mine or mine[0]["listed"] is None:
        return None
    parts = [f"{mine[0]['listed']:.1%} of its answers began with a list"]
    for name, words in (("inferred", "as the reference has it"), ("kept", "as it was wished")):
        known = [f"{row['marker']} {row[name]:.1%}" for row in mine if row[name] is not None]
        parts += [f"{words}: {', '.join(known)}"] if known else []
    return f"{variant}: {'; '.join(parts)} ({FILE})."


class _Table:
    def __init__(self, plan: RunPlan, folder: RunFolder, about: Marked) -> None:
        self.plan, self.folder, self.about = plan, folder, about
        self.accounts = Accounts(plan, folder)
        self.measurements = [
            m for m in self.accounts.measurements if m.system.lists or m.variant in about.names
        ]
        self.items = self.accounts.items
        self.tags = read_rows(folder.result(about.tags) / TAGS).to_pydict()
        given = None if about.given is None else folder.result(about.given) / GIVEN
        self.wished: dict[str, Values] = {} if given is None else read_rows(given).to_pydict()

    def rows(self, m: Measurement) -> list[dict[str, Any]]:
        """What is said of a system, a row for each marker that stands in lists."""
        lists = [self._lists(step) for step in m.answers]
        read = all(lists)  # not where a memory answers in a model's place
        listed = self._share([one["listed"] for one in lists]) if read else None
        given = _given_in(m)
        told = []
        for name, marker in self.about.taxonomy.listed.items():
            sums: dict[str, list[Sums]] = {}
            if read:
                wanted = self.wished[name] if name in given else self.tags[PREFIX + name]
                what = "repeated" if name in given else "inferred"
                sums[what] = [_agreeing(one[name], wanted) for one in lists]
            if name in self.wished and name in self._measured.markers:
                sums |= self._followed(m, name, marker)
            shares = {what: self._share(one, what in _SURE) for what, one in sums.items()}
            if any(shares.values()):
                row = {"system": m.variant, "marker": name, "given": name in given}
                told.append(row | _columns({"listed": listed, **shares}))
        return told

    def _lists(self, step: Step) -> dict[str, Any]:
        """What the lists of the test items' answers say, each `[items, answers]`; and whether there
        was one, as sums.
        """
        for one in ancestors([step]):
            if one.work not in (take_lists_off, begin_answers):
                continue
            table = read_rows(self.folder.result(one) / INFERRED)
            ids = table["id"].to_pylist()
            if list(dict.fromkeys(ids)) == self.items.ids:
                columns = {
                    name: np.array(column, object).reshape(len(self.items), -1)
                    for name, column in table.to_pydict().items()
                }
                listed = columns["listed"].astype(np.float64)
                columns["listed"] = np.stack([listed.sum(1), np.ones_like(listed).sum(1)], 1)
                return columns
        return {}

    @cached_property
    def _measured(self) -> Taxonomy:
        """The markers that can be measured on any text; none are for others."""
        markers = self.about.taxonomy.markers
        found = {
            name: one
            for name, one in markers.items()
            if one.measure or any(value.rules for value in one.values.values())
        }
        found |= {n: one for n, one in markers.items() if one.of in found and one.edges is not None}
        return Taxonomy.model_construct(markers=found)

    @cached_property
    def _answers(self) -> dict[tuple[str, int], dict[str, Values]]:
        """What is measured on the answers of each system, by its name and the place of a seed."""
        keys, texts = [], []
        for m in self.measurements:
            for place, step in enumerate(m.answers):
                rows = read_rows(self.folder.result(step) / "answers.parquet", "id", "answer")
                answers = dict(zip(*(rows[n].to_pylist() for n in ("id", "answer")), strict=True))
                keys.append((m.variant, place))
                texts += [answers[id_] for id_ in self.items.ids]
        with TemporaryDirectory(prefix="pomona-") as work:
            sources = self.items.sources * len(keys)
            table = tagged(Path(work), self._measured, sources, texts, {}, self._tokenizer)
        n = len(self.items)
        columns = {name: table[PREFIX + name].to_pylist() for name in self._measured.markers}
        return {
            key: {name: column[at * n : (at + 1) * n] for name, column in columns.items()}
            for at, key in enumerate(keys)
        }

    @property
    def _tokenizer(self) -> str | None:
        model = self.plan.model(self.plan.recipe.base)
        return None if isinstance(model, Served) else str(checkpoint(self.folder.result(model)))

    def _followed(self, m: Measurement, name: str, marker: Marker) -> dict[str, list[Sums]]:
        """How many answers have the wished value, a lower or a higher one."""
        found: dict[str, list[Sums]] = {"kept": [], "below": [], "above": []}
        order = list(marker.values) if marker.edges is not None else None
        for place in range(len(m.answers)):
            pairs = list(zip(self._answers[m.variant, place][name], self.wished[name], strict=True))
            same = same_language if marker.measure == "language" else _same
            found["kept"].append(_sums(pairs, same))
            if order or marker.kind in ("integer", "float"):
                at: Callable[[Any], Any] = order.index if order else float
                found["below"].append(_sums(pairs, lambda a, b, at=at: at(a) < at(b)))
                found["above"].append(_sums(pairs, lambda a, b, at=at: at(a) > at(b)))
        return {what: sums for what, sums in found.items() if sums}

    def _share(self, seeds: Sequence[Sums], sure: bool = False) -> Known | None:
        """A share from sums `[items, 2]` of each seed, and its interval where that is asked for;
        None where nothing is known of any item.
        """
        sums = np.stack(seeds)
        rows = np.flatnonzero(sums[..., 1].any(0))
        if not rows.size:
            return None
        value = value_of(Share(), sums[:, rows])
        if not sure:
            return value, None, None
        with np.errstate(invalid="ignore"):  # a resample may have no item of which it is known
            return value, *interval(Share(), sums[:, rows], self.accounts.draws(rows))


def _given_in(m: Measurement) -> set[str]:
    """The markers that are given in the prompts of a system."""
    shown = [step for step in ancestors(m.answers) if step.work is show_lists]
    return {name for step in shown for name in step.params["fixed"]}


def _columns(shares: Mapping[str, Known | None]) -> dict[str, float | None]:
    """The cells of a row: shares, two of them with their intervals."""
    cells: dict[str, float | None] = {}
    for what in ("listed", *_SHARES):
        value, low, high = shares.get(what) or (None, None, None)
        cells[what] = value
        if what in _SURE:
            cells |= {f"{what}_low": low, f"{what}_high": high}
    return cells


def _agreeing(said: NDArray[Any], wanted: Values) -> Sums:
    """How many of the lists `[items, answers]` say what is wanted, and how many there are, where
    that is known.
    """
    rows = zip(said, wanted, strict=True)
    counts = [(0, 0) if want is None else (sum(row == want), len(row)) for row, want in rows]
    return np.array(counts, np.float64)


def _sums(pairs: Sequence[tuple[Any, Any]], holds: Callable[[Any, Any], bool]) -> Sums:
    counts = [(0, 0) if None in pair else (holds(*pair), 1) for pair in pairs]
    return np.array(counts, np.float64)


def _same(answer: Any, wish: Any) -> bool:
    return answer == wish
