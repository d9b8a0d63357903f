"""How fast published models grow: doubling times of parameters, data and compute, of all models and
of the largest of their time; and who makes them.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona import stats
from pomona.errors import PomonaError, are, quantity
from pomona.records import Where
from pomona.scale.tables.columns import Columns, Published, parse_day, read_published
from pomona.scale.tables.fits import Estimate, line, resamples_of
from pomona.scale.tables.results import QUANTITIES, Growth, Makers, Quantity, Trend
from pomona.scale.tables.sectors import sectors_of

_YEAR = 365.25
_LEAST = 5  # points of a line
_SPAN = 1.0  # years that they span


def growth(
    table: Where,
    *,
    columns: Columns | None = None,
    top: int = 10,
    since: str | None = None,
    until: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    page: str | Path | None = None,
) -> Growth:
    """Say how fast models grow: doubling times of parameters, data and compute, and who makes them.

    The logarithm of each is fitted by a line on the date, of all models and of those that were
    among the largest of their time. Models of one organisation are resampled together.

    Args:
        table: Table of published models: names, dates, and parameters, training tokens or compute.
        columns: Which columns hold what; see `Columns`.
        top: The frontier: models that were among this many largest until their day.
        since: Day from which models count, YYYY-MM-DD or YYYY-MM.
        until: Day until which they count.
        resamples: Resamples behind each interval.
        seed: Seed of the resamples.
        page: Folder for a page with pictures.

    Raises:
        PomonaError: the table cannot be read, it has no dates or nothing that grows, or a value is
            not what its column holds.
    """
    if top < 1:
        raise PomonaError(f"{top} models are no frontier", where="top", remedy="give 1 or more")
    if page is not None:
        from pomona.scale.tables.page import check_page

        check_page(Path(page), table)
    published, _ = read_published(table, columns or Columns(), ("date",))
    found = _Dated(published, top, (since, until), resamples, seed)
    told = found.growth()
    if page is not None:
        from pomona.scale.tables.page import write_growth

        write_growth(told, found.points(), Path(page))
    return told


class _Dated:
    """Models with dates, in a window."""

    def __init__(
        self,
        published: Published,
        top: int,
        window: tuple[str | None, str | None],
        resamples: int,
        seed: int,
    ) -> None:
        self.published, self.top, self.window = published, top, window
        self.resamples, self.seed = resamples, seed
        self.there = [name for name in QUANTITIES if name in published.numbers]
        if not self.there:
            message = "there is no column of parameters, tokens or compute"
            remedy = "name one by --params, --tokens or --flop"
            raise PomonaError(message, where=published.name, remedy=remedy)
        assert published.dates is not None  # it was asked for
        self.days = published.dates
        since, until = (
            None if one is None else parse_day(one, name, "a day", last=name == "until")
            for one, name in zip(window, ("since", "until"), strict=True)
        )
        inside = ~np.isnat(self.days)
        inside &= (self.days >= since) if since is not None else True
        inside &= (self.days <= until) if until is not None else True
        if not inside.any():
            message, remedy = "no model has a date in the window", "widen --since and --until"
            raise PomonaError(message, where=published.name, remedy=remedy)
        self.rows = np.flatnonzero(inside)
        _, self.called = published.clusters(self.rows)

    def growth(self) -> Growth:
        """Every quantity, and the makers."""
        quantities = {name: self._quantity(name) for name in self.there}
        makers = self._makers()
        return Growth(
            self.published.name,
            self.top,
            quantities,
            makers,
            self.called,
            self.signature,
            self.seed,
            self._notes(),
        )

    def known(self, name: str) -> NDArray[np.intp]:
        """The rows in which a quantity is known, by date."""
        rows = self.rows[np.isfinite(self.published.numbers[name][self.rows])]
        return rows[np.argsort(self.days[rows], kind="stable")]

    def frontier(self, name: str) -> NDArray[np.intp]:
        """Of these rows those that were among the largest until their day, of one day together;
        models from before the window count among these.
        """
        rows, values = self.known(name), self.published.numbers[name]
        known = np.flatnonzero(np.isfinite(values) & ~np.isnat(self.days))
        found = []
        for row in rows:
            before = values[known[self.days[known] <= self.days[row]]]
            if (before > values[row]).sum() < self.top:
                found.append(int(row))
        return np.array(found, np.intp)

    def _quantity(self, name: str) -> Quantity:
        column = self.published.columns[name]
        return Quantity(
            column, self._trend(name, self.known(name)), self._trend(name, self.frontier(name))
        )

    def _trend(self, name: str, rows: NDArray[np.intp]) -> Trend:
        days = self.days[rows]
        years = (days - np.datetime64("2000-01-01", "D")).astype(float) / _YEAR
        nothing = Estimate(None, n=len(rows))
        ends = (str(days.min()), str(days.max())) if len(rows) else (None, None)
        why = None
        if len(rows) < _LEAST:
            why = (
                f"{quantity(len(rows), 'model is', 'models are')}"
                f" too few for a line: {_LEAST} are needed"
            )
        elif np.ptp(years) < _SPAN:
            why = f"the models span {12 * np.ptp(years):.0f} months: a line needs a year"
        if why:
            return Trend(len(rows), *ends, nothing, nothing, nothing, why)
        labels, _ = self.published.clusters(rows)
        draws = resamples_of(labels, self.resamples, self.seed)
        fitted = line(years, np.log2(self.published.numbers[name][rows]), draws)
        slope = fitted.slope
        value, low, high = (None if end is None else 2**end for end in _ends(slope))
        per_year = Estimate(value, low, high, slope.n)
        months = Estimate(_months(slope.value), _months(slope.high), _months(slope.low), slope.n)
        return Trend(len(rows), *ends, months, per_year, fitted.r2)

    def points(self) -> list[dict[str, Any]]:
        """Each model of each quantity, for pictures."""
        told = []
        for name in self.there:
            top = set(self.frontier(name).tolist())
            for row in self.known(name).tolist():
                value = float(self.published.numbers[name][row])
                named = {"quantity": QUANTITIES[name], "model": self.published.models[row]}
                told.append(
                    {**named, "date": str(self.days[row]), "value": value, "frontier": row in top}
                )
        return told

    def _makers(self) -> list[Makers]:
        if not {"organisation", "sector"} & set(self.published.texts):
            return []
        sectors = sectors_of(self.published)
        years = self.days.astype("datetime64[Y]")
        told = []
        for year in np.unique(years[self.rows]):
            mine = [sectors[row] for row in self.rows if years[row] == year]
            known = [one for one in mine if one is not None]
            shares = []
            for sector in ("academia", "industry", "both", "other"):
                hits = known.count(sector)
                low, high = stats.wilson(hits, len(known))
                share = hits / len(known) if known else None
                ends = (float(low), float(high)) if known else (None, None)
                shares.append(Estimate(share, *ends, len(known)))
            told.append(Makers(int(str(year)), len(mine), len(known), *shares))
        return told

    def _notes(self) -> list[str]:
        notes = list(self.published.notes)
        undated = int(np.isnat(self.days).sum())
        if undated:
            notes.append(f"{quantity(undated, 'row')} without a date {are(undated)} left out")
        for name in self.there:
            missing = len(self.rows) - len(self.known(name))
            if missing:
                notes.append(f"{QUANTITIES[name]}: unknown of {missing} of {len(self.rows)} models")
        if "organisation" not in self.published.texts and "sector" not in self.published.texts:
            notes.append("there is no column of organisations: who makes models is unknown")
        notes.append("the frontier is chosen by size: its interval takes the choice as given")
        return notes

    @property
    def signature(self) -> str:
        """All that the numbers depend on."""
        since, until = (one or "any" for one in self.window)
        parts = [
            "growth",
            f"table:{self.published.digest}",
            f"top:{self.top}",
            f"since:{since}",
            f"until:{until}",
            f"by:{self.called}",
            f"resamples:{self.resamples}",
            f"seed:{self.seed}",
            f"pomona:{version('pomona')}",
        ]
        return "|".join(parts)


def _ends(one: Estimate) -> tuple[float | None, float | None, float | None]:
    return one.value, one.low, one.high


def _months(slope: float | None) -> float | None:
    """Months of a doubling from doublings a year; none where it does not grow."""
    return None if slope is None or slope <= 0 else 12 / slope
