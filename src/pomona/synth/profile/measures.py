"""Figures of a side as statistics whose sums give them: with intervals, group by group, and their
differences to those of another side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.stats import FEWEST, MINIMUM, Resamples, holm, percentiles, two_sided, wilson

Floats = NDArray[np.float64]
FEW = "too few to say how sure it is"
_MOST = 0.01  # of resamples may have nothing to measure, where the others still make an interval


def share(sums: Floats) -> Floats:
    """The quotient of sums `[..., 2]`, NaN where there is nothing to divide by."""
    whole = sums[..., 1]
    return np.divide(sums[..., 0], whole, out=np.full(whole.shape, np.nan), where=whole != 0)


@dataclass(frozen=True, eq=False)
class Units:
    """What is counted, and drawn again: texts, prompts, pairs or blocks of texts. Labels are arrays
    of objects `[n]`: of groups, of clusters that are drawn whole, and of what is the same on other
    sides.
    """

    per: str
    n: int
    groups: NDArray[Any] | None = None
    clusters: NDArray[Any] | None = None
    ids: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Measure:
    """A figure: statistics `[n, k]` of units, whose sums `aggregate` turns into it. A unit to which
    it does not apply has zeros, and the last statistic counts to how many it does.

    reason: why it is not there at all; `reasons`: why it does not apply to how many units.
    """

    name: str
    units: Units
    statistics: Floats
    aggregate: Callable[[Floats], Floats] = share
    reason: str | None = None
    reasons: Mapping[str, int] = field(default_factory=Counter)
    of_units: bool = False  # the share of units that have something

    def applied(self) -> NDArray[np.bool_]:
        """To which units it applies, bool `[n]`."""
        return self.statistics[:, -1] != 0


@dataclass(frozen=True)
class Estimate:
    """A figure over the n units, each a `per`, to which it applies; null with the reason where it
    applies to none, or nothing says how sure it is.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    per: str
    reason: str | None = None


@dataclass(frozen=True)
class Difference:
    """What a figure of B is above that of A. Paired: of units that are on both sides; p_holm is
    corrected over the figures of the group.
    """

    delta: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    n: int
    paired: bool
    p_holm: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Drawing:
    """How often what is drawn again, from which seed, and what intervals cover."""

    resamples: int = MINIMUM
    seed: int = 0
    level: float = 0.95

    def of(self, side: _Side, more: int = 0) -> Resamples:
        """Resamples of the units of a side."""
        return Resamples(side.n, self.resamples, self.seed + more, side.clusters)


class _Sums:
    def aggregate(self, sums: Floats) -> Floats:
        return sums


def estimates(
    measures: Sequence[Measure], rows: Mapping[str, NDArray[np.intp]], drawing: Drawing
) -> dict[str, Estimate]:
    """Each figure over the units that `rows` gives for what is counted, over all where it gives
    none.
    """
    found: dict[str, Estimate] = {}
    for several in _by_units(measures):
        side = _Side.of(several, rows)
        resamples = drawing.of(side) if side.n > 1 else None
        drawn = [None] * len(several) if resamples is None else side.drawn(resamples)
        for one, statistics, sums in zip(several, side.statistics, drawn, strict=True):
            found[one.name] = _estimate(one, statistics, sums, resamples, drawing)
    return {one.name: found[one.name] for one in measures}


def differences(
    a: Sequence[Measure],
    b: Sequence[Measure],
    rows_a: Mapping[str, NDArray[np.intp]],
    rows_b: Mapping[str, NDArray[np.intp]],
    drawing: Drawing,
) -> dict[str, Difference]:
    """B − A for each figure that both have: over what both have by its id, where units have ids,
    else over all of both, and then p-values and intervals take the sides for independent. Each
    p-value is also corrected over all these figures.
    """
    found: dict[str, Difference] = {}
    others = {one.name: one for one in b}
    for several in _by_units([one for one in a if one.name in others]):
        told = [others[one.name] for one in several]
        sides = _Side.of(several, rows_a), _Side.of(told, rows_b)
        paired = all(side.ids is not None for side in sides)
        if paired:
            sides = _matched(*sides)
        for one, (other, change) in zip(
            several, zip(told, _changes(sides, several, drawing, paired), strict=True), strict=True
        ):
            missing = one.reason or other.reason
            found[one.name] = replace(change, reason=missing) if missing else change
    return _corrected({one.name: found[one.name] for one in a if one.name in found})


def _by_units(measures: Sequence[Measure]) -> list[list[Measure]]:
    """Figures of the same units together: they share one drawing of them."""
    by_units: dict[str, list[Measure]] = {}
    for one in measures:
        by_units.setdefault(one.units.per, []).append(one)
    return list(by_units.values())


@dataclass(frozen=True, eq=False)
class _Side:
    """The statistics `[n, k]` of several figures of the same n units."""

    statistics: list[Floats]
    clusters: NDArray[Any] | None
    ids: NDArray[Any] | None

    @staticmethod
    def of(measures: Sequence[Measure], rows: Mapping[str, NDArray[np.intp]]) -> _Side:
        """Those of the units that `rows` gives."""
        units = measures[0].units
        place = rows.get(units.per, np.arange(units.n))
        labels = (None if one is None else one[place] for one in (units.clusters, units.ids))
        return _Side([one.statistics[place] for one in measures], *labels)

    @property
    def n(self) -> int:
        """Units."""
        return len(self.statistics[0])

    def drawn(self, resamples: Resamples) -> list[Floats]:
        """The sums of each figure in every resample, `[resamples, k]`."""
        sums = resamples.resampled(_Sums(), np.concatenate(self.statistics, axis=1))
        ends = np.cumsum([one.shape[1] for one in self.statistics])[:-1]
        return np.split(sums, ends, axis=1)


def _estimate(
    measure: Measure,
    statistics: Floats,
    drawn: Floats | None,
    resamples: Resamples | None,
    drawing: Drawing,
) -> Estimate:
    n, per = int((statistics[:, -1] != 0).sum()), measure.units.per
    if n == 0:
        why = max(measure.reasons, key=lambda name: measure.reasons[name], default=None)
        reason = measure.reason or (f"no {per} has it: each {why}" if why else f"there is no {per}")
        return Estimate(None, None, None, 0, per, reason)
    value = float(measure.aggregate(statistics.sum(0)))
    ends = None
    if drawn is not None and resamples is not None and n > 1:
        ends = _ends(measure.aggregate(drawn), resamples, drawing)
    if ends is None or resamples is None:
        return Estimate(value, None, None, n, per, FEW)
    if measure.of_units and ends[0] == ends[1]:
        # None or all have it, which resamples cannot tell from never and always
        low, high = wilson(value * resamples.units, resamples.units, drawing.level)
        ends = float(low), float(high)
    return Estimate(value, *ends, n, per)


def _ends(values: Floats, resamples: Resamples, drawing: Drawing) -> tuple[float, float] | None:
    """The interval of a figure from its value in every resample; None where too many have none, or
    there are but a few units.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < (1 - _MOST) * len(values) or resamples.units < FEWEST:
        return None
    return percentiles(finite, resamples, drawing.level)


def _changes(
    sides: tuple[_Side, _Side], measures: Sequence[Measure], drawing: Drawing, paired: bool
) -> list[Difference]:
    """B − A of each figure. Pairs are drawn together, sides apart otherwise."""
    counts = [[int((one[:, -1] != 0).sum()) for one in side.statistics] for side in sides]
    if min(side.n for side in sides) < 1:
        none = "nothing is on both sides" if paired else "a side has none"
        return [Difference(None, None, None, None, 0, paired, reason=none)] * len(measures)
    draws = [drawing.of(side, 0 if paired else more) for more, side in enumerate(sides)]
    drawn = [side.drawn(draw) for side, draw in zip(sides, draws, strict=True)]
    fewest = min(draws, key=lambda draw: draw.units)
    told = []
    for place, measure in enumerate(measures):
        n = min(counts[0][place], counts[1][place])
        if n == 0:
            none = "applies to nothing on both sides" if paired else "applies to nothing on a side"
            told.append(Difference(None, None, None, None, 0, paired, reason=none))
            continue
        before, after = (measure.aggregate(side.statistics[place].sum(0)) for side in sides)
        deltas = measure.aggregate(drawn[1][place]) - measure.aggregate(drawn[0][place])
        ends = _ends(deltas, fewest, drawing) if n > 1 else None
        value = float(after - before)
        if ends is None:
            told.append(Difference(value, None, None, None, n, paired, reason=FEW))
            continue
        p_value = two_sided(deltas[np.isfinite(deltas)], fewest)
        told.append(Difference(value, *ends, p_value, n, paired))
    return told


def _matched(a: _Side, b: _Side) -> tuple[_Side, _Side]:
    """Both over the ids that both have, in one order, and each figure over those to which it
    applies on both sides. What has one id is summed, such as several answers to a prompt.
    """
    names = [list(map(str, () if side.ids is None else side.ids)) for side in (a, b)]
    shared = {name: place for place, name in enumerate(sorted({*names[0]} & {*names[1]}))}
    clusters = None
    if a.clusters is not None:
        clusters = np.empty(len(shared), dtype=object)
    summed: list[list[Floats]] = []
    for side, own in zip((a, b), names, strict=True):
        places = np.array([shared.get(name, -1) for name in own], np.intp)
        kept = np.flatnonzero(places >= 0)
        sums = [np.zeros((len(shared), one.shape[1])) for one in side.statistics]
        for whole, one in zip(sums, side.statistics, strict=True):
            np.add.at(whole, places[kept], one[kept])
        summed.append(sums)
        if side is a and clusters is not None and side.clusters is not None:
            clusters[places[kept]] = side.clusters[kept]
    for one, other in zip(*summed, strict=True):
        lacks = (one[:, -1] == 0) | (other[:, -1] == 0)
        one[lacks], other[lacks] = 0, 0
    return _Side(summed[0], clusters, None), _Side(summed[1], clusters, None)


def _corrected(found: dict[str, Difference]) -> dict[str, Difference]:
    tested = [name for name, one in found.items() if one.p_value is not None]
    adjusted = holm([found[name].p_value or 0.0 for name in tested])
    corrected = dict(zip(tested, adjusted.tolist(), strict=True))
    return {name: replace(one, p_holm=corrected.get(name)) for name, one in found.items()}
