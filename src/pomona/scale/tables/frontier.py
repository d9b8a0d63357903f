"""Small models against larger ones over time: how many of them the best small one beats, with and
without hoaxes, merges and wrong labels, and how much of a score size explains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, are, quantity
from pomona.records import Where
from pomona.scale.tables.bases import base_rows
from pomona.scale.tables.columns import (
    Columns,
    Published,
    parse_day,
    parse_size,
    read_published,
    require_models,
    rows_with,
)
from pomona.scale.tables.fits import Estimate, discordant, line, resamples_of
from pomona.scale.tables.flags import KINDS, Flagged, RowFlag, labelled_pretrained, told_merged
from pomona.scale.tables.names import merge_word, tuned_word
from pomona.scale.tables.results import (
    APART,
    ArenaFit,
    Frontier,
    FrontierCurve,
    ListedModel,
    Month,
    Overcome,
)

Rows = NDArray[np.intp]


def frontier(
    table: Where,
    *,
    columns: Columns | None = None,
    small: float | str = "13B",
    dates: Sequence[str] | None = None,
    bases: Where | None = None,
    keep: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    page: str | Path | None = None,
) -> Frontier:
    """Compare the best small model with all larger ones, over time.

    By month the best model of at most `small` parameters is compared with all that are larger: all
    models, those whose rows do not contradict themselves, those that are neither merged nor tuned,
    and curated bases. Rows that contradict themselves are listed with a reason.

    Args:
        table: Table of published models: names, parameters, a score, and where known dates,
            compute, families, kinds, arena ratings.
        columns: Which columns hold what; see `Columns`.
        small: Parameters that a small model has at most, such as 13B or 13e9.
        dates: Days until which models count, instead of the end of each month.
        bases: Table with a column model of names or patterns: the models that were really
            pretrained. Without it a short list of ours.
        keep: Kinds of flags that do not keep a row out: contamination, label, size, compute.
        resamples: Resamples behind each interval.
        seed: Seed of the resamples.
        page: Folder for a page with pictures and all flags.

    Raises:
        PomonaError: the table cannot be read, a column is missing, a value is not what its column
            holds, or fewer than two models have a size and a score.
    """
    limit = parse_size(small, "small")
    for kind in keep:
        if kind not in KINDS:
            remedy = f"known: {', '.join(KINDS)}"
            raise PomonaError(f'"{kind}" is unknown', where="keep", remedy=remedy)
    if page is not None:
        from pomona.scale.tables.page import check_page

        check_page(Path(page), table, bases)
    columns = columns or Columns()
    published, _ = read_published(table, columns, ("params", "score"))
    require_models(published, rows_with(published, "params", "score"))
    found = _Table(published, limit, bases, tuple(keep), resamples, seed).frontier(dates)
    if page is not None:
        from pomona.scale.tables.page import write_frontier

        write_frontier(found, Path(page))
    return found


class _Table:
    """A table of published models with its flags and curves."""

    def __init__(
        self,
        published: Published,
        small: float,
        bases: Where | None,
        keep: tuple[str, ...],
        resamples: int,
        seed: int,
    ) -> None:
        self.published, self.small, self.keep = published, small, keep
        self.resamples, self.seed = resamples, seed
        self.params, self.score = published.numbers["params"], published.numbers["score"]
        base, self.bases = base_rows(published, bases)
        self.base = np.array(base, bool)
        merged, note = told_merged(published)
        self.merged = np.array([m is True for m in merged or [None] * len(published)])
        self.flagged = Flagged(published, small, base, merged)
        self.notes = [*published.notes, *([note] if note else [])]
        self.members = self._members()
        self.flags = self._flags()
        _, self.resampled = published.clusters(np.arange(len(published)))

    def _members(self) -> dict[str, NDArray[np.bool_]]:
        """Which rows each curve is of, bool [n]."""
        out = {kind: rows & (kind not in self.keep) for kind, rows in self.flagged.rows.items()}
        known = np.isfinite(self.params) & np.isfinite(self.score)
        said = self.flagged.small_but_said_larger & ("size" not in self.keep)
        every = known & ~out["contamination"] & ~said
        consistent = every & ~out["size"] & ~out["compute"]
        kinds = self.published.texts.get("kind")
        if kinds is None:
            words = [bool(merge_word(m) or tuned_word(m)) for m in self.published.models]
            pretrained = ~np.array(words, bool) | self.base
        else:
            pretrained = np.array([labelled_pretrained(kind) for kind in kinds])
        merged = self.merged & ("label" not in self.keep)
        return {
            "all": every,
            "consistent": consistent,
            "no_merges": consistent & pretrained & ~out["label"] & ~merged,
            "bases": consistent & self.base,
        }

    def frontier(self, dates: Sequence[str] | None) -> Frontier:
        """Every month, or the days that were given."""
        ends = self._ends(dates)
        # What is later than all that counts is in no month either, unless days were asked for.
        days, counted = self.published.dates, self._until(ends[-1][1])
        nowhere = ~counted if days is None or not dates else np.isnat(days)
        months = []
        for place, (month, end) in enumerate(ends):
            before = ends[place - 1][1] if place else None
            last = place == len(ends) - 1
            months.append(self._month(month, end, before, nowhere if last else None))
        return Frontier(
            self.published.name,
            self.published.columns["score"],
            self.small,
            months,
            self.flags,
            self.bases,
            self.resampled,
            self._signature([month.until for month in months] if dates else None),
            self.seed,
            self._notes(months),
        )

    def _ends(self, dates: Sequence[str] | None) -> list[tuple[str | None, np.datetime64 | None]]:
        days = self.published.dates
        known = None if days is None else days[~np.isnat(days) & self.members["all"]]
        if known is None or not len(known):
            if dates:
                raise PomonaError(
                    "there are no dates", where=self.published.name, remedy="name one by --date"
                )
            return [(None, None)]
        if dates:
            ends = sorted(parse_day(one, "dates", "a day", last=True) for one in dates)
            return [(str(end.astype("datetime64[M]")), end) for end in ends]
        first, last = (day.astype("datetime64[M]") for day in (known.min(), known.max()))
        months = np.arange(first, last + 1)
        return [(str(m), (m + 1).astype("datetime64[D]") - np.timedelta64(1, "D")) for m in months]

    def _until(self, end: np.datetime64 | None) -> NDArray[np.bool_]:
        days = self.published.dates
        if end is None or days is None:
            return np.ones(len(self.published), bool)
        return ~np.isnat(days) & (days <= end)

    def _month(
        self,
        month: str | None,
        end: np.datetime64 | None,
        before: np.datetime64 | None,
        nowhere: NDArray[np.bool_] | None,
    ) -> Month:
        """A month; the last one has the flags of the rows that are in no month, `nowhere`."""
        until = self._until(end)
        new = until & ~self._until(before) if before is not None else until
        mine, last = (new, False) if nowhere is None else (new | nowhere, True)
        curves = {
            name: self._curve(np.flatnonzero(rows & until), last=last)
            for name, rows in self.members.items()
        }
        told = [flag for flag in self.flags if mine[flag.row - 1]]
        until_text = None if end is None else str(end)
        arena = self._arena(np.flatnonzero(until))
        return Month(month, until_text, int((new & self.members["all"]).sum()), curves, arena, told)

    def _curve(self, rows: Rows, *, last: bool) -> FrontierCurve:
        params, score = self.params[rows], self.score[rows]
        small = params <= self.small
        best = rows[small][np.argmax(score[small])] if small.any() else None
        beaten = 0 if best is None else int((score[~small] < self.score[best]).sum())
        larger = int((~small).sum())
        return FrontierCurve(
            len(rows),
            None if best is None else self._model(best),
            larger,
            beaten,
            beaten / larger if larger and best is not None else None,
            self._overcome(rows),
            self._half(rows[small], score[~small]),
            self._explained(rows),
            self._discordant(rows, surely=last),
        )

    def _model(self, row: int) -> ListedModel:
        values = float(self.params[row]), float(self.score[row])
        return ListedModel(int(row) + 1, self.published.models[row], *values)

    def _overcome(self, rows: Rows) -> Overcome | None:
        """The largest ratio: for each model, the smallest of those that score higher."""
        if len(rows) < 2:
            return None
        order = rows[np.lexsort((self.params[rows], -self.score[rows]))]
        sizes, scores = self.params[order], self.score[order]
        smallest = np.minimum.accumulate(sizes)
        # Of equal scores none is higher: compare with what stands before the first of them.
        firsts = np.searchsorted(-scores, -scores, side="left")
        least = np.where(firsts > 0, smallest[np.maximum(firsts - 1, 0)], np.inf)
        at = int(np.argmax(sizes / least))
        if not sizes[at] / least[at] > 1:
            return None
        smaller = order[int(np.argmin(sizes[: firsts[at]]))]
        ratio = float(sizes[at] / least[at])
        return Overcome(self._model(smaller), self._model(order[at]), ratio)

    def _half(self, small: Rows, larger: NDArray[np.float64]) -> ListedModel | None:
        if not len(larger):
            return None
        beaten = np.searchsorted(np.sort(larger), self.score[small], side="left")
        enough = small[beaten >= len(larger) / 2]
        if not len(enough):
            return None
        order = np.lexsort((-self.score[enough], self.params[enough]))
        return self._model(int(enough[order[0]]))

    def _axes(self, rows: Rows) -> dict[str, Rows]:
        """The rows by what measures size: all, and those whose compute is known."""
        axes = {"params": rows}
        if "flop" in self.published.numbers:
            axes["flop"] = rows[np.isfinite(self.published.numbers["flop"][rows])]
        return axes

    def _explained(self, rows: Rows) -> dict[str, Estimate]:
        axes = self._axes(rows)
        named = {name: (name, of) for name, of in axes.items()}
        if "flop" in axes:
            named["params where flop is known"] = ("params", axes["flop"])
        return {
            name: line(
                np.log(self.published.numbers[axis][of]),
                self.score[of],
                resamples_of(self.published.clusters(of)[0], self.resamples, self.seed),
            ).r2
            for name, (axis, of) in named.items()
        }

    def _discordant(self, rows: Rows, *, surely: bool) -> dict[str, dict[str, Estimate]]:
        """Shares of pairs, with intervals where they are told `surely`."""
        told: dict[str, dict[str, Estimate]] = {}
        for axis, of in self._axes(rows).items():
            if len(of) < 2:
                continue
            labels = self.published.clusters(of)[0]
            draws = resamples_of(labels, self.resamples, self.seed) if surely else None
            size, score = self.published.numbers[axis][of], self.score[of]
            shares = discordant(size, score, labels, draws, (1.0, APART))
            told[axis] = dict(zip(("any", f"{APART}x"), shares, strict=True))
        return told

    def _arena(self, rows: Rows) -> ArenaFit | None:
        rating = self.published.numbers.get("arena")
        if rating is None:
            return None
        hoax = self.flagged.rows["contamination"] & ("contamination" not in self.keep)
        rated = rows[np.isfinite(rating[rows]) & ~hoax[rows]]
        known = rated[np.isfinite(self.params[rated])]
        draws = resamples_of(self.published.clusters(known)[0], self.resamples, self.seed)
        fitted = line(np.log2(self.params[known]), rating[known], draws)
        return ArenaFit(fitted.r2, fitted.slope, len(rated) - len(known))

    def _flags(self) -> list[RowFlag]:
        """Every flag with the curves that it keeps its row out of."""
        told = []
        for flag in self.flagged.found:
            out = [name for name, rows in self.members.items() if not rows[flag.row - 1]]
            ours = {
                "contamination": out,
                "size": out,
                "compute": [name for name in out if name != "all"],
                "label": [name for name in out if name == "no_merges"],
            }
            left = [] if flag.kind in self.keep else ours.get(flag.kind, [])
            told.append(replace(flag, left_out=left))
        return told

    def _notes(self, months: Sequence[Month]) -> list[str]:
        notes = list(self.notes)
        unknown = len(self.published) - int(
            (np.isfinite(self.params) & np.isfinite(self.score)).sum()
        )
        if unknown:
            notes.append(
                f"{quantity(unknown, 'row')} without parameters or a score {are(unknown)} left out"
            )
        days = self.published.dates
        if days is None:
            notes.append("there is no column of dates: all models are compared at once")
        elif months[0].month is None:
            notes.append("no model that counts has a date: all are compared at once")
        elif undated := int(np.isnat(days).sum()):
            notes.append(f"{quantity(undated, 'row')} without a date {are(undated)} in no month")
        if again := len(self.published) - len(set(self.published.models)):
            notes.append(
                f"{quantity(again, 'row has', 'rows have')}"
                " the name of another one: each counts as a model"
            )
        labels, called = self.published.clusters(np.flatnonzero(self.members["all"]))
        if not labels:
            notes.append("no model is left to compare: the flags say why")
        elif len(set(labels)) < 3:
            notes.append(f"all models are of {len(set(labels))} {called}: intervals are unknown")
        return notes

    def _signature(self, days: Sequence[str | None] | None) -> str:
        """All that the numbers depend on."""
        listed = hashlib.sha256(self.base.tobytes()).hexdigest()[:12]
        parts = [
            "frontier",
            f"table:{self.published.digest}",
            f"metric:{self.published.columns['score']}",
            f"small:{self.small:.17g}",
            f"bases:{self.bases}:{listed}",
            f"until:{'+'.join(map(str, days)) if days else 'every month'}",
            f"keep:{'+'.join(self.keep) or 'none'}",
            f"by:{self.resampled}",
            f"resamples:{self.resamples}",
            f"seed:{self.seed}",
            f"pomona:{version('pomona')}",
        ]
        return "|".join(parts)
