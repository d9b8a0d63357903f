"""How sure strengths are: sandwich covariances over clusters, bounds for each model and for the
whole board, and differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pomona.arena.loops import FAMILY
from pomona.arena.ratings.bradley_terry import (
    Cells,
    Counts,
    Solution,
    hessian,
    inverse,
    sums,
)
from pomona.arena.ratings.clusters import Clusters

_DRAWS = 10_000  # of the largest deviation on a board
_TAIL = 10  # of them at least are beyond a quantile that they tell
_FEWEST = 0.5  # degrees of freedom of an interval
_LEAST = 0.05  # of 1 less a cluster's share: what is nearly all has no degree of freedom anyhow
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """The covariance of strengths, [k, k] about their mean, with a last row and column for the
    parameter of ties where there is one.

    by: vote, or what clusters are, several with + between.
    units: clusters, or votes where each is one; of several kinds the fewest.
    degrees: [k] of freedom of Student's t, infinite for votes.
    """

    covariance: Floats
    by: str
    units: int
    models: int
    degrees: Floats

    @property
    def standard(self) -> Floats:
        """[k] standard errors of the strengths."""
        return np.sqrt(np.maximum(np.diag(self.covariance)[: self.models], 0))

    def of_difference(self, first: int, second: int) -> float:
        """The standard error of one strength minus another."""
        c = self.covariance
        square = c[first, first] + c[second, second] - 2 * c[first, second]
        return float(np.sqrt(max(square, 0.0)))

    def differences(self) -> Floats:
        """Standard errors of all differences of strengths, [k, k]."""
        c = self.covariance[: self.models, : self.models]
        square = np.diag(c)[:, None] + np.diag(c)[None, :] - 2 * c
        return np.sqrt(np.maximum(square, 0))


def errors(
    counts: Counts,
    solution: Solution,
    clusters: Clusters | Sequence[Clusters] | None = None,
    bread: Floats | None = None,
    *,
    leverage: bool = True,
) -> Errors | None:
    """The sandwich: bread, the inverse Hessian, about the sum over clusters of the products of
    their scores. Without clusters each vote is one (Huber 1967), times n / (n - p) for n votes and
    p parameters.

    A cluster pulls the strengths towards its votes, so that its scores are too small: each is over
    1 less the cluster's share of all information on the model (CR3, the jackknife of Bell &
    McCaffrey 2002, by the diagonal), times (G - 1) / G for G clusters. Degrees of freedom are one
    less than as many equal clusters as have the same information on the model. Without `leverage`
    the errors are those of Liang & Zeger (1986) as statsmodels has them, times G / (G - 1)
    (n - 1) / (n - p).

    Clusters of two kinds, such as items and voters, add up less what they share (Cameron, Gelbach
    & Miller 2011), which is taken to be single votes.

    None where there are no more votes than parameters, or there is one cluster.
    """
    free = solution.tie is not None
    curvature = hessian(counts, solution)
    bread = inverse(curvature, counts.models) if bread is None else bread
    n = float((counts.outcomes[:, :2] if solution.ties == "drop" else counts.outcomes).sum())
    parameters = counts.models - 1 + free
    scores = _scores(counts, solution)
    kinds = [] if clusters is None else [clusters] if isinstance(clusters, Clusters) else clusters
    found = []
    for kind in kinds:
        if (factor := small_sample(kind.units, n, parameters)) is None:
            return None
        if leverage:
            factor = (kind.units - 1) / kind.units
        diagonal = np.diag(curvature) if leverage else None
        meat, degrees = _meat(counts, scores, kind, diagonal, free)
        degrees = degrees if leverage else np.full(counts.models, kind.units - 1.0)
        covariance = factor * (bread @ meat @ bread)
        found.append(Errors(covariance, kind.by, kind.units, counts.models, degrees))
    if len(found) == 1:
        return found[0]
    if (factor := small_sample(round(n), n, parameters)) is None:
        return None
    meat = _meat_of_votes(counts, counts.outcomes, scores, free)
    covariance = factor * (bread @ meat @ bread)
    infinite = np.full(counts.models, np.inf)
    alone = Errors(covariance, "vote", round(n), counts.models, infinite)
    return _crossed(found, alone) if found else alone


def _crossed(kinds: Sequence[Errors], shared: Errors) -> Errors:
    """Errors over several kinds of clusters."""
    covariance = sum((one.covariance for one in kinds), (1 - len(kinds)) * shared.covariance)
    values, vectors = np.linalg.eigh(covariance)
    covariance = (vectors * np.maximum(values, 0)) @ vectors.T
    degrees = np.min([one.degrees for one in kinds], axis=0)
    by, units = "+".join(one.by for one in kinds), min(one.units for one in kinds)
    return Errors(covariance, by, units, shared.models, degrees)


def small_sample(units: int, n: float, parameters: int) -> float | None:
    """What a sandwich is multiplied by; None where so few votes or clusters say nothing."""
    if units < 2 or n <= parameters:
        return None
    return units / (units - 1) * (n - 1) / (n - parameters)


def _scores(counts: Counts, solution: Solution) -> Cells:
    """Of one vote of each cell [p, 3], 0 where there can be none."""
    found = solution.cells(solution.strengths[counts.first] - solution.strengths[counts.second])
    d, dd = found.d, found.dd
    if solution.ties == "drop":
        d, dd = d * np.array([1.0, 1.0, 0.0]), dd * np.array([1.0, 1.0, 0.0])
    t, tt = (np.where(np.isfinite(of), of, 0.0) for of in (found.t, found.tt))
    return replace(found, d=np.where(np.isfinite(d), d, 0.0), t=t, dd=dd, tt=tt)


def _meat_of_votes(counts: Counts, n: Floats, scores: Cells, free: bool) -> Floats:
    d, t = scores.d, scores.t
    parts = ((n * d * d).sum(1), (n * d * t).sum(1), float((n * t * t).sum()))
    return laplacian(counts, *parts, free=free)


def _meat(
    counts: Counts, scores: Cells, clusters: Clusters, diagonal: Floats | None, free: bool
) -> tuple[Floats, Floats]:
    """The sum of the products of the clusters' scores, and the degrees of freedom [k]. With the
    Hessian's diagonal [k + 1] scores are raised by the clusters' shares of it.
    """
    alone = np.zeros(scores.d.shape)
    if clusters.alone:
        single = np.where(clusters.codes < 0, clusters.count, 0)
        alone = sums(clusters.place, single, alone.size).reshape(-1, 3)
    meat = _meat_of_votes(counts, alone, scores, free)
    held = [_by_model(counts, (alone * scores.dd**power).sum(1)) for power in (1, 2)]
    if clusters.codes.max(initial=-1) >= 0:
        more, *both = _of_clusters(counts, scores, clusters, diagonal, free)
        meat += more
        held = [one + other for one, other in zip(held, both, strict=True)]
    return meat, np.maximum(held[0] ** 2 / np.maximum(held[1], 1e-300) - 1, 0)


def _by_model(counts: Counts, of_pairs: Floats) -> Floats:
    k = counts.models
    return sums(counts.first, of_pairs, k) + sums(counts.second, of_pairs, k)


def _of_clusters(
    counts: Counts,
    scores: Cells,
    clusters: Clusters,
    diagonal: Floats | None,
    free: bool,
) -> tuple[Floats, Floats, Floats]:
    """The products of scores [k, k] (and ties), information on each model [k], its squares."""
    k, first, second = counts.models, counts.first, counts.second
    whole = np.full(k + 1, np.inf)
    if diagonal is not None:
        whole[: k + free] = diagonal
    values = np.stack([of.ravel() for of in (scores.d, scores.dd, scores.t, scores.tt)], 1)
    ends = [np.ascontiguousarray(of, np.int64) for of in (first, second)]
    rows, by_pair = clusters.rows, np.zeros((len(first), 8))
    given = (rows.starts, rows.place, rows.count, values, *ends, whole, _LEAST)
    meat, held, places = np.zeros((k + free, k + free)), np.zeros((k, 2)), np.arange(k)
    if FAMILY.loop("multiply")(*given, by_pair):
        seen, work = np.full((2, k + 1), -1), np.zeros((3, k + 1))
        FAMILY.loop("spread")(*given, seen, work, meat, held)
        return meat + meat.T - np.diag(np.diag(meat)), held[:, 0], held[:, 1]
    # Where no cluster has votes on two pairs, few numbers of each pair are enough.
    meat[first, second] = meat[second, first] = -by_pair[:, 0]
    meat[places, places] = sums(first, by_pair[:, 1], k) + sums(second, by_pair[:, 2], k)
    if free:
        meat[:k, k] = sums(first, by_pair[:, 3], k) - sums(second, by_pair[:, 4], k)
        meat[k, :k], meat[k, k] = meat[:k, k], by_pair[:, 5].sum()
    return meat, _by_model(counts, by_pair[:, 6]), _by_model(counts, by_pair[:, 7])


def laplacian(counts: Counts, dd: Floats, dt: Floats, tt: float, *, free: bool) -> Floats:
    """Products of scores of pairs, [p] each and of ties in all, as a matrix of models."""
    k, first, second = counts.models, counts.first, counts.second
    meat = np.zeros((k + free, k + free))
    meat[first, second] = meat[second, first] = -dd
    diagonal = sums(first, dd, k) + sums(second, dd, k)
    meat[np.arange(k), np.arange(k)] = diagonal
    if free:
        meat[:k, k] = meat[k, :k] = sums(first, dt, k) - sums(second, dt, k)
        meat[k, k] = tt
    return meat


def critical(degrees: Floats | float, level: float) -> Floats:
    """How many standard errors to each side an interval of one number has; infinitely many without
    any degree of freedom.
    """
    return _student(degrees, _two_sided(level))


def _two_sided(level: float) -> float:
    from scipy.special import ndtri

    return float(-ndtri((1 - level) / 2))


def _student(degrees: Floats | float, normal: float) -> Floats:
    """The quantiles of Student's t where the normal distribution has `normal`."""
    from scipy.special import ndtr, stdtrit

    known = np.asarray(degrees, np.float64)
    some = np.clip(known, _FEWEST, 1e9)
    found = np.where(known > 1e9, normal, stdtrit(some, ndtr(normal)))
    return np.where(known < _FEWEST, np.inf, found)


def simultaneous(found: Errors, level: float, seed: int) -> Floats:
    """How many standard errors [k] to each side all intervals of a board have so that, with the
    probability `level`, all of them hold: the quantile of the largest deviation, in draws from the
    distribution of the strengths (max-t; Hothorn, Bretz & Westfall 2008), as each model's Student's
    t has it.
    """
    # What draws cannot tell is known: no narrower than the interval of one number, no wider than
    # those of independent ones (Sidak 1967).
    one, apart = _two_sided(level), _two_sided(level ** (1 / found.models))
    if (1 - level) * _DRAWS < _TAIL:
        return _student(found.degrees, apart)
    # Correlations of few clusters look larger than they are: they count as those of the clusters,
    # and of as many more as there are models, in which no two models go together.
    share = found.units / (found.units + found.models)
    draws = np.abs(_normal_draws(found, _DRAWS, np.random.default_rng(seed), share)).max(1)
    return _student(found.degrees, float(np.clip(np.quantile(draws, level), one, apart)))


def standard_draws(found: Errors, draws: int, seed: int) -> Floats:
    """Deviations of strengths in standard errors, [draws, k], as they go together: of Student's t
    with the fewest degrees of freedom of a model.
    """
    rng = np.random.default_rng(seed)
    made = _normal_draws(found, draws, rng).astype(np.float64)
    degrees = max(float(found.degrees.min()), _FEWEST)
    if np.isfinite(degrees):
        made /= np.sqrt(rng.chisquare(degrees, draws) / degrees)[:, None]
    return made


def _normal_draws(
    found: Errors, draws: int, rng: np.random.Generator, share: float = 1.0
) -> NDArray[np.float32]:
    """Deviations [draws, k] that go together as `share` of the correlations says; the rest of it is
    that of independent models about their mean.
    """
    standard, k = found.standard, found.models
    safe = np.where(standard > 0, standard, 1.0)
    correlation = found.covariance[: found.models, : found.models] / np.outer(safe, safe)
    apart = (np.eye(k) * k - 1) / max(k - 1, 1)
    correlation = share * correlation + (1 - share) * apart
    values, vectors = np.linalg.eigh(correlation)
    # Single precision is far finer than what so many draws tell, and takes half the time.
    root = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
    return rng.standard_normal((draws, found.models), dtype=np.float32) @ root.T


def ranks(low: Floats, high: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best and the worst rank [k] that intervals [k] leave: 1 + models whose lower bound is
    above one's upper bound, and k - models whose upper bound is below one's lower bound.
    """
    best = 1 + len(low) - np.searchsorted(np.sort(low), high, side="right")
    worst = len(low) - np.searchsorted(np.sort(high), low, side="left")
    return best.astype(np.int64), worst.astype(np.int64)
