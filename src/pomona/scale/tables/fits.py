"""Lines through points and pairs in the wrong order, with intervals from resampled clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona import stats

Floats = NDArray[np.float64]
_SURE = 0.95  # of resamples must have a value, or there is no interval
_ROWS = 512  # of a matrix of pairs at a time
_MOST = 8000  # clusters whose pairs are kept: 256 MB a matrix
_LEAST = 3  # clusters of which an interval can be told


@dataclass(frozen=True)
class Estimate:
    """A number of `n` models, or pairs, with its 95 % interval; ends are None where nothing is
    known of the error, and so is the value where it is not defined.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0

    def times(self, factor: float) -> Estimate:
        """The same in another unit."""
        ends = (None if end is None else factor * end for end in (self.value, self.low, self.high))
        value, low, high = ends
        low, high = (high, low) if factor < 0 else (low, high)
        return Estimate(value, low, high, self.n)


@dataclass(frozen=True)
class Line:
    """A least-squares line of y on x: what y gains for one of x, where it is at x = 0, the share of
    variance it explains.
    """

    slope: Estimate
    intercept: float | None
    r2: Estimate


class _Slope:
    """The slope from sums of 1, x, y, xx, yy, xy."""

    def aggregate(self, sums: Floats) -> Floats:
        n, x, y, xx, _, xy = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = xx - x * x / n
            return np.where(spread > 1e-12 * xx, (xy - x * y / n) / spread, np.nan)


class _Explained:
    """The squared correlation from the same sums."""

    def aggregate(self, sums: Floats) -> Floats:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread, height = xx - x * x / n, yy - y * y / n
            known = (spread > 1e-12 * xx) & (height > 1e-12 * yy)
            return np.where(known, (xy - x * y / n) ** 2 / (spread * height), np.nan)


def resamples_of(labels: Sequence[str], resamples: int, seed: int) -> stats.Resamples | None:
    """Resamples of clusters; None where there are too few of them to tell an interval. Raises
    PomonaError for a number of resamples or a seed that is out of range, also then.
    """
    if len(set(labels)) < _LEAST:
        stats.Resamples(1, resamples, seed)
        return None
    own = len(set(labels)) == len(labels)
    return stats.Resamples(len(labels), resamples, seed, None if own else list(labels))


def estimate(value: float, drawn: Floats | None, draws: stats.Resamples | None, n: int) -> Estimate:
    """A value with the percentile interval of its resamples, where it can be told."""
    if not np.isfinite(value):
        return Estimate(None, n=n)
    if drawn is None or draws is None or np.isfinite(drawn).mean() < _SURE:
        return Estimate(float(value), n=n)
    low, high = stats.percentiles(drawn[np.isfinite(drawn)], draws)
    return Estimate(float(value), low, high, n)


def moments(x: Floats, y: Floats) -> Floats:
    """What lines are made of, [n, 6]; both centred before, so that no digits are lost."""
    return np.column_stack([np.ones(len(x)), x, y, x * x, y * y, x * y])


def line(x: Floats, y: Floats, draws: stats.Resamples | None) -> Line:
    """The line of y on x, float64 [n]."""
    if len(x) < 2:
        return Line(Estimate(None, n=len(x)), None, Estimate(None, n=len(x)))
    centre_x, centre_y = x.mean(), y.mean()
    sums = moments(x - centre_x, y - centre_y)
    found: list[Estimate] = []
    for metric in (_Slope(), _Explained()):
        drawn = None if draws is None else draws.resampled(metric, sums)
        found.append(estimate(float(metric.aggregate(sums.sum(0))), drawn, draws, len(x)))
    slope, r2 = found
    start = None if slope.value is None else float(centre_y - slope.value * centre_x)
    return Line(slope, start, r2)


def exact_line(x: Floats, y: Floats) -> Line:
    """The line of y on x with Student's interval of its slope, for points too few to resample: it
    takes errors as normal and alike (Draper & Smith 1998, §1.4).
    """
    from scipy import special

    told, free = line(x, y, None), len(x) - 2
    slope = told.slope.value
    if slope is None or free < 1:
        return told
    left = y - y.mean() - slope * (x - x.mean())
    error = np.sqrt((left**2).sum() / free / ((x - x.mean()) ** 2).sum())
    wide = float(special.stdtrit(free, 0.975) * error)
    return Line(Estimate(slope, slope - wide, slope + wide, len(x)), told.intercept, told.r2)


def slopes_of(x: Floats, y: Floats, draws: stats.Resamples) -> Floats:
    """The slope in every resample, for differences of slopes over the same resamples."""
    return draws.resampled(_Slope(), moments(x - x.mean(), y - y.mean()))


def discordant(
    size: Floats,
    score: Floats,
    labels: Sequence[str],
    draws: stats.Resamples | None,
    factors: Sequence[float],
) -> list[Estimate]:
    """Of the pairs whose sizes differ, by at least each factor, the share in which the smaller one
    has the higher score. A pair of equal scores is not in the wrong order. `n` counts the pairs.
    """
    # Without an interval all are one cluster: pairs need not be told apart, which takes longest.
    names, member = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
    if draws is None or len(names) > _MOST:
        draws, member = None, np.zeros(len(size), np.intp)
    order = np.argsort(member, kind="stable")
    starts = np.flatnonzero(np.diff(member[order], prepend=-1))
    weights = None
    if draws is not None:
        first = order[starts]
        weights = np.concatenate([block[:, first] for block in draws.counts()]).astype(np.float32)
    found = []
    for wrong, pairs in _pair_counts(size[order], score[order], starts, factors):
        total = float(pairs.sum())
        if total == 0:
            found.append(Estimate(None))
            continue
        drawn = None
        if weights is not None:
            both = [_weighed(weights, one) for one in (wrong, pairs)]
            with np.errstate(invalid="ignore", divide="ignore"):
                drawn = both[0] / both[1]
        share = float(wrong.sum()) / total
        found.append(estimate(share, drawn, draws, round(total)))
    return found


def _weighed(weights: NDArray[np.float32], pairs: Floats) -> Floats:
    """Pairs in each resample, `[resamples]`: those of two clusters as often as both were drawn."""
    return ((weights @ pairs.astype(np.float32)) * weights).sum(1, dtype=np.float64)


def _pair_counts(
    size: Floats, score: Floats, starts: NDArray[np.intp], factors: Sequence[float]
) -> list[tuple[Any, Any]]:
    """For each factor the pairs in the wrong order and all pairs between each two clusters, [k, k],
    the larger one in the row's. Rows come sorted by clusters, which begin at `starts`.
    """
    shape = (len(starts), len(starts))
    found = [(np.zeros(shape), np.zeros(shape)) for _ in factors]
    member = np.searchsorted(starts, np.arange(len(size)), side="right") - 1
    for row in range(0, len(size), _ROWS):
        part = slice(row, row + _ROWS)
        better = score[part, None] < score[None]
        first = np.flatnonzero(np.diff(member[part], prepend=-1))
        for (wrong, pairs), factor in zip(found, factors, strict=True):
            # Compared as they stand: the logarithms of two sizes may be equal where these are not.
            apart = size[part, None] > size[None]
            if factor > 1:
                apart &= size[part, None] >= factor * (1 - 1e-12) * size[None]
            for into, which in ((wrong, apart & better), (pairs, apart)):
                if len(starts) == 1:
                    into += np.count_nonzero(which)
                    continue
                summed = np.add.reduceat(which.view(np.int8), starts, axis=1, dtype=np.int32)
                into[member[part][first]] += np.add.reduceat(summed, first, axis=0)
    return found
