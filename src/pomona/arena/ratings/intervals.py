"""How sure strengths are: sandwich covariances over clusters, bounds for each model and for the
whole board, and differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import Counts, Solution, hessian, inverse
from pomona.arena.ratings.clusters import Clusters

_DRAWS = 10_000  # of the largest deviation on a board
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """The covariance of strengths, [k, k] about their mean, with a last row and column for the
    parameter of ties where there is one.

    by: vote, or what clusters are.
    units: clusters, or votes where each is one.
    """

    covariance: Floats
    by: str
    units: int
    models: int

    @property
    def standard(self) -> Floats:
        """[k] standard errors of the strengths."""
        return np.sqrt(np.maximum(np.diag(self.covariance)[: self.models], 0))

    @property
    def degrees(self) -> float:
        """Of freedom, of Student's t: clusters are few, votes are many."""
        return float(self.units - 1) if self.by != "vote" else np.inf

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
    clusters: Clusters | None = None,
    bread: Floats | None = None,
) -> Errors | None:
    """The sandwich (Huber 1967; of clusters Liang & Zeger 1986): bread, the inverse Hessian, about
    the sum over clusters of the products of their scores, times G / (G - 1) (n - 1) / (n - p) for G
    clusters, n votes and p parameters, as statsmodels has it. Without clusters each vote is one.

    None where there are no more votes than parameters, or there is one cluster.
    """
    bread = inverse(hessian(counts, solution), counts.models) if bread is None else bread
    free = solution.tie is not None
    n = float((counts.outcomes[:, :2] if solution.ties == "drop" else counts.outcomes).sum())
    units = round(n) if clusters is None else clusters.n
    parameters = counts.models - 1 + free
    factor = small_sample(units, n, parameters)
    if factor is None:
        return None
    meat = _meat(counts, solution, clusters, free)
    by = "vote" if clusters is None else clusters.by
    return Errors(factor * (bread @ meat @ bread), by, units, counts.models)


def small_sample(units: int, n: float, parameters: int) -> float | None:
    """What a sandwich is multiplied by; None where so few votes or clusters say nothing."""
    if units < 2 or n <= parameters:
        return None
    return units / (units - 1) * (n - 1) / (n - parameters)


def _meat(counts: Counts, solution: Solution, clusters: Clusters | None, free: bool) -> Floats:
    found = solution.cells(solution.strengths[counts.first] - solution.strengths[counts.second])
    d, t = found.d, found.t
    if solution.ties == "drop":
        d = d * np.array([1.0, 1.0, 0.0])
    d, t = np.where(np.isfinite(d), d, 0.0), np.where(np.isfinite(t), t, 0.0)
    if clusters is None:
        n = counts.outcomes
        parts = ((n * d * d).sum(1), (n * d * t).sum(1), float((n * t * t).sum()))
        return laplacian(counts, *parts, free=free)
    along, tied = d.ravel()[clusters.cell], t.ravel()[clusters.cell]
    starts = clusters.start[:-1]
    if clusters.within:
        # A cluster's scores are all along one pair: three numbers of it are enough.
        a = np.add.reduceat(clusters.votes * along, starts)
        b = np.add.reduceat(clusters.votes * tied, starts)
        pair = clusters.cell[starts] // 3
        p = len(counts.first)
        aa, ab = np.bincount(pair, a * a, p), np.bincount(pair, a * b, p)
        return laplacian(counts, aa, ab, float(b @ b), free=free)
    from scipy.sparse import csr_matrix

    p, k = len(counts.first), counts.models
    cells = np.arange(3 * p)
    entries = [d.ravel(), -d.ravel(), *([t.ravel()] if free else [])]
    columns = [np.repeat(counts.first, 3), np.repeat(counts.second, 3)]
    columns += [np.full(3 * p, k)] if free else []
    places = (np.tile(cells, len(entries)), np.concatenate(columns))
    scores = csr_matrix((np.concatenate(entries), places), (3 * p, k + free))
    summed = clusters.matrix(3 * p) @ scores
    return (summed.T @ summed).toarray()


def laplacian(counts: Counts, dd: Floats, dt: Floats, tt: float, *, free: bool) -> Floats:
    """Products of scores of pairs, [p] each and of ties in all, as a matrix of models."""
    k, first, second = counts.models, counts.first, counts.second
    meat = np.zeros((k + free, k + free))
    meat[first, second] = meat[second, first] = -dd
    diagonal = np.bincount(first, dd, k) + np.bincount(second, dd, k)
    meat[np.arange(k), np.arange(k)] = diagonal
    if free:
        meat[:k, k] = meat[k, :k] = np.bincount(first, dt, k) - np.bincount(second, dt, k)
        meat[k, k] = tt
    return meat


def critical(degrees: float, level: float) -> float:
    """How many standard errors to each side an interval of one number has."""
    from scipy.special import ndtri, stdtrit

    tail = (1 + level) / 2
    return float(ndtri(tail) if np.isinf(degrees) else stdtrit(degrees, tail))


def simultaneous(found: Errors, level: float, seed: int) -> float:
    """How many standard errors to each side all intervals of a board have so that, with the
    probability `level`, all of them hold: the quantile of the largest deviation, in draws from the
    distribution of the strengths (max-t; Hothorn, Bretz & Westfall 2008).
    """
    draws = standard_draws(found, _DRAWS, seed)
    return float(np.quantile(np.abs(draws).max(1), level))


def standard_draws(found: Errors, draws: int, seed: int) -> Floats:
    """Deviations of strengths in standard errors, [draws, k], as they go together."""
    standard = found.standard
    safe = np.where(standard > 0, standard, 1.0)
    correlation = found.covariance[: found.models, : found.models] / np.outer(safe, safe)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((draws, found.models)) @ root.T
    if np.isfinite(found.degrees):
        made /= np.sqrt(rng.chisquare(found.degrees, draws) / found.degrees)[:, None]
    return made


def ranks(low: Floats, high: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best and the worst rank [k] that intervals [k] leave: 1 + models whose lower bound is
    above one's upper bound, and k - models whose upper bound is below one's lower bound.
    """
    best = 1 + len(low) - np.searchsorted(np.sort(low), high, side="right")
    worst = len(low) - np.searchsorted(np.sort(high), low, side="left")
    return best.astype(np.int64), worst.astype(np.int64)
