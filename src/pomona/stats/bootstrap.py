"""Paired bootstrap over items, or over clusters of items: the same resamples for every system, each
value one matrix product of counts and statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError

FEWEST = 5  # units that tell how sure a figure is: the range of fewer is no interval
MINIMUM = 1000  # fewer leave a 95 % bound resting on fewer than 25 resamples
_MAXIMUM = 1_000_000  # more make no bound visibly better, and fill the memory
_BLOCK = 1 << 21  # item counts in one block: 16 MB as float64
_KEEP = 1 << 25  # item counts kept for the next system: 64 MB as uint16


class Aggregator(Protocol):
    """What of a metric the bootstrap needs, which is all that is known of one here."""

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric of summed statistics, `[..., k]` to `[...]`."""
        ...


class Share:
    """The sum of the first statistic by that of the second, such as right answers by items."""

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quotient of sums `[..., 2]`, `[...]`."""
        return sums[..., 0] / sums[..., 1]


class Resamples:
    """How often each item occurs in each of `resamples` draws of `n_items` items with replacement
    (Efron & Tibshirani 1993, §13.3).

    With `clusters`, a label for every item, whole clusters are drawn instead, as many as there are:
    items that share a source err alike, and drawn singly they would count as independent (Davison
    & Hinkley 1997, §3.8; Field & Welsh 2007). A resample then need not have `n_items` items.

    Units are drawn once, from `seed`, so every system measured with one `Resamples` — or with an
    equal one — is paired. Memory stays below 128 MB for up to two million items: counts of many
    items are drawn again, the same ones, on every use. Raises PomonaError for no items, fewer
    than 1000 resamples or more than a million, a seed below 0, and another number of labels than of
    items.
    """

    def __init__(
        self,
        n_items: int,
        resamples: int = MINIMUM,
        seed: int = 0,
        clusters: Sequence[str] | NDArray[Any] | None = None,
    ) -> None:
        if n_items < 1:
            raise PomonaError("there are no items to resample", remedy="give at least one item")
        if resamples < MINIMUM:
            message = f"{resamples} resamples are too few for an interval"
            raise PomonaError(message, where="resamples", remedy=f"use at least {MINIMUM}")
        if resamples > _MAXIMUM:
            message = f"{resamples:,} resamples are more than any interval needs"
            raise PomonaError(message, where="resamples", remedy=f"use at most {_MAXIMUM:,}")
        if seed < 0:
            raise PomonaError(f"{seed} is below 0", where="seed", remedy="use 0 or more")
        if clusters is not None and len(clusters) != n_items:
            message = f"{len(clusters)} labels for {n_items} items"
            raise PomonaError(message, where="clusters", remedy="give one label an item")
        self.n_items, self.resamples, self.seed = n_items, resamples, seed
        self._cluster: NDArray[np.intp] | None = None
        self.units = n_items
        if clusters is not None:
            labels, member = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
            self._cluster, self.units = member, len(labels)
        self._kept = list(self._draw()) if self.units * resamples <= _KEEP else None

    @property
    def clustered(self) -> bool:
        """Whether clusters are drawn."""
        return self._cluster is not None

    def _draw(self) -> Iterator[NDArray[np.uint16]]:
        rng = np.random.default_rng(self.seed)
        rows = max(1, _BLOCK // self.units)
        for start in range(0, self.resamples, rows):
            size = min(rows, self.resamples - start)
            drawn = rng.integers(0, self.units, size=(size, self.units))
            # One count over all rows: each row of draws has unit numbers of its own.
            drawn += np.arange(size)[:, None] * self.units
            counts = np.bincount(drawn.ravel(), minlength=drawn.size)
            yield counts.reshape(drawn.shape).astype(np.uint16)

    def counts(self) -> Iterator[NDArray[np.uint16]]:
        """How often each item occurs in each resample, in blocks `[b, n_items]`: for what is no
        function of sums.
        """
        for counts in self._kept or self._draw():
            yield counts if self._cluster is None else counts[:, self._cluster]

    def _by_unit(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Statistics of items `[n_items, k]` summed within each drawn unit, `[units, k]`."""
        if self._cluster is None:
            return statistics
        sums = np.zeros((self.units, statistics.shape[1]))
        np.add.at(sums, self._cluster, statistics)
        return sums

    def resampled(
        self, metric: Aggregator, statistics: NDArray[np.float64], system: int = 0
    ) -> NDArray[np.float64]:
        """The metric in every resample, float64 `[resamples]`, from statistics `[n_items, k]`.

        Statistics `[replicates, n_items, k]` are of one system trained `replicates` times: every
        resample then also draws replicates with replacement, independently for each number
        `system` and of the items or clusters, with which they are crossed. With few replicates that
        understates their variance by 1 / replicates.
        """
        replicates = statistics if statistics.ndim == 3 else statistics[None]
        if replicates.shape[1] != self.n_items:
            message = f"statistics of {replicates.shape[1]} items for resamples of {self.n_items}"
            raise PomonaError(message, remedy="score the same items")
        parts = [
            [counts.astype(np.float64) @ one for counts in self._kept or self._draw()]
            for one in map(self._by_unit, replicates)
        ]
        sums = np.stack([np.concatenate(part) for part in parts])
        if len(sums) == 1:
            return metric.aggregate(sums[0])
        rng, several = np.random.default_rng([self.seed, system]), len(sums)
        drawn = rng.multinomial(several, np.full(several, 1 / several), self.resamples) / several
        return metric.aggregate(np.einsum("bs,sbk->bk", drawn, sums))


@dataclass(frozen=True)
class Comparison:
    """`delta` = value − baseline_value over the same n items, in the metric's direction, with its
    percentile interval [ci_low, ci_high].

    `p_value` is two-sided: twice the share of resamples on the other side of zero (Efron &
    Tibshirani 1993, §15.4), never below 2 / (resamples + 1).
    """

    value: float
    baseline_value: float
    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int


def compare(
    metric: Aggregator,
    ours: NDArray[np.float64],
    base: NDArray[np.float64],
    resamples: Resamples,
    level: float = 0.95,
    *,
    systems: tuple[int, int] = (0, 1),
) -> Comparison:
    """Compare two systems by their statistics on the same items; `level` is the interval's
    coverage, in (0, 1).

    Statistics are `[n, k]`, or `[replicates, n, k]` of a system trained several times (see
    `Resamples.resampled`, which gets `systems`). The interval is the percentile interval of the
    paired differences (Efron & Tibshirani 1993, §13.3; Koehn 2004, §4). Clusters are few, and over
    few of anything that interval is too narrow: over m clusters it and the p-value are widened to
    Student's t on m − 1 degrees of freedom (Hesterberg 2015, §5.3, "expanded percentile").
    """
    _coverage(level)
    drawn = resamples.resampled(metric, ours, systems[0])
    deltas = drawn - resamples.resampled(metric, base, systems[1])
    p_value = two_sided(deltas, resamples)
    low, high = percentiles(deltas, resamples, level)
    value, baseline = value_of(metric, ours), value_of(metric, base)
    delta, n = value - baseline, ours.shape[-2]
    return Comparison(value, baseline, delta, low, high, p_value, n)


def interval(
    metric: Aggregator,
    statistics: NDArray[np.float64],
    resamples: Resamples,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of one system's value, from statistics as `compare` takes them, and
    widened over clusters as there.
    """
    return percentiles(resamples.resampled(metric, statistics), resamples, level)


def percentiles(
    drawn: NDArray[np.float64], resamples: Resamples, level: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of anything, from its value in every resample, float64 `[resamples]`;
    widened over clusters as in `compare`.
    """
    outside = 1 - _coverage(level)
    if resamples.clustered:
        outside, _ = _expanded(outside, 1.0, resamples.units)
    low, high = np.quantile(drawn, [outside / 2, 1 - outside / 2])
    return float(low), float(high)


def two_sided(deltas: NDArray[np.float64], resamples: Resamples) -> float:
    """The two-sided p-value that a difference is 0, from its value in every resample, float64
    `[resamples]`; widened over clusters as in `compare`.
    """
    fewer = 1 + min(int(np.sum(deltas <= 0)), int(np.sum(deltas >= 0)))
    p_value = min(1.0, 2 * fewer / (len(deltas) + 1))
    return _expanded(0.05, p_value, resamples.units)[1] if resamples.clustered else p_value


def _coverage(level: float) -> float:
    if not 0 < level < 1:
        message = f"{level} is not a coverage between 0 and 1"
        raise PomonaError(message, where="level", remedy="use 0.95 for a 95 % interval")
    return level


def _expanded(outside: float, p_value: float, units: int) -> tuple[float, float]:
    """The share of resamples to leave outside so that an interval over so many `units` leaves
    `outside` of them, and the p-value by the same rule. One unit says nothing of its error: 0, 1.
    """
    from scipy import special

    if units < 2:
        return 0.0, 1.0
    wider = math.sqrt(units / (units - 1))
    left = special.ndtr(wider * special.stdtrit(units - 1, outside / 2))
    tail = special.stdtr(units - 1, special.ndtri(p_value / 2) / wider)
    return 2 * float(left), 2 * float(tail)


def value_of(metric: Aggregator, statistics: NDArray[np.float64]) -> float:
    """The metric from statistics `[n, k]`, or from the mean statistics of `[replicates, n, k]`."""
    mean = statistics.mean(0) if statistics.ndim == 3 else statistics
    return float(metric.aggregate(mean.sum(0)))


def rows_of(column: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """The rows of each value of a group column, values in order."""
    names, member = np.unique(np.asarray(column, dtype=object), return_inverse=True)
    return {str(name): np.flatnonzero(member == i) for i, name in enumerate(names)}


def by_group(
    metric: Aggregator,
    ours: NDArray[np.float64],
    base: NDArray[np.float64],
    groups: Mapping[str, ArrayLike],
    *,
    resamples: int = MINIMUM,
    seed: int = 0,
    level: float = 0.95,
    clusters: Sequence[str] | None = None,
) -> dict[str, Comparison]:
    """Compare two systems on all items ("overall", first) and on the rows of every group; groups
    may overlap.

    A group's items — or its `clusters`, see `Resamples` — are resampled among themselves, so that
    no resample is without them.
    Raises PomonaError naming an empty group, and for a group called "overall".
    """
    if "overall" in groups:
        message, remedy = 'a group cannot be called "overall"', "rename it: overall is all items"
        raise PomonaError(message, where="groups", remedy=remedy)
    labels = None if clusters is None else np.asarray(clusters, dtype=object)
    draws = Resamples(len(ours), resamples, seed, labels)
    results = {"overall": compare(metric, ours, base, draws, level)}
    for name, members in groups.items():
        rows = np.asarray(members, dtype=np.intp)
        if rows.size == 0:
            message, remedy = f'group "{name}" has no items', "leave it out or add items"
            raise PomonaError(message, where="groups", remedy=remedy)
        within = None if labels is None else labels[rows]
        draws = Resamples(rows.size, resamples, seed, within)
        results[name] = compare(metric, ours[rows], base[rows], draws, level)
    return results
