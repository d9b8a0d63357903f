"""Strengths of resampled votes: multinomial, or of whole clusters, each fitted anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import (
    Counts,
    Solution,
    gradient,
    hessian,
    inverse,
    rated,
    solve,
)
from pomona.arena.ratings.clusters import Clusters

_BLOCK = 1 << 22  # counts of clusters that are drawn at once
_NEAR = 1e-7  # of the gradient, a vote of a model: a hundred-thousandth of a point
_TRIES = 12
Floats = NDArray[np.float64]


def bootstrap(
    counts: Counts, solution: Solution, clusters: Clusters | None, draws: int, seed: int
) -> Floats:
    """Strengths [draws, k] fitted to as many votes drawn with replacement, or as many clusters
    (Efron & Tibshirani 1993; Field & Welsh 2007). A model that lost all of its votes in a resample
    has minus infinity there, one that won all of them infinity.
    """
    bread = inverse(hessian(counts, solution), counts.models)
    found = np.empty((draws, counts.models))
    for draw, outcomes in enumerate(_resamples(counts, clusters, draws, seed)):
        found[draw] = _refitted(counts.with_outcomes(outcomes), solution, bread)
    return found


def _resamples(
    counts: Counts, clusters: Clusters | None, draws: int, seed: int
) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    cells = counts.outcomes.size
    if clusters is None:
        n = round(counts.outcomes.sum())
        shares = counts.outcomes.ravel() / counts.outcomes.sum()
        for _ in range(draws):
            yield rng.multinomial(n, shares).reshape(-1, 3).astype(np.float64)
        return
    table, units = clusters.matrix(cells).T.tocsr(), clusters.n
    size = max(1, _BLOCK // units)
    for start in range(0, draws, size):
        block = min(size, draws - start)
        drawn = rng.integers(0, units, (block, units))
        times = np.stack([np.bincount(one, minlength=units) for one in drawn], 1)
        yield from (table @ times.astype(np.float64)).T.reshape(block, -1, 3)


def _refitted(counts: Counts, start: Solution, bread: Floats) -> Floats:
    """Newton's steps with the curvature of all votes, which a resample's is near: one gradient each
    instead of a decomposition.
    """
    k, free = counts.models, start.tie is not None
    n = counts.outcomes.sum(1)
    votes = np.bincount(counts.first, n, k) + np.bincount(counts.second, n, k)
    if votes.min() > 0 and (not free or counts.outcomes[:, 2].sum() > 0):
        scale, found = np.append(votes, n.sum())[: k + free], start
        for _ in range(_TRIES):
            slope = gradient(counts, found)
            if np.abs(slope / scale).max() <= _NEAR:
                return found.strengths
            move = bread @ slope
            tie = None if start.tie is None else (found.tie or 0.0) + float(move[k])
            if np.abs(move).max() > 1 or (start.ties == "rao_kupper" and free and (tie or 0) <= 0):
                break
            found = replace(found, strengths=found.strengths + move[:k], tie=tie)
    known = rated(counts, start.ties)
    if known.all():
        return solve(counts, start.ties, start).strengths
    return _partly(counts, start, known)


def _partly(counts: Counts, start: Solution, known: NDArray[np.bool_]) -> Floats:
    """Strengths where some are infinite: the others have the mean that they had."""
    place = np.cumsum(known) - 1
    within = known[counts.first] & known[counts.second]
    some = Counts(
        int(known.sum()),
        place[counts.first[within]],
        place[counts.second[within]],
        counts.outcomes[within],
    )
    wins = counts.wins.sum(1) - counts.wins.sum(0)
    found = np.where(wins >= 0, np.inf, -np.inf)
    found[known] = solve(some, start.ties).strengths + start.strengths[known].mean()
    return found
