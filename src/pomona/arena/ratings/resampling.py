"""The bootstrap: votes drawn again, one by one or by clusters, and all resamples rated together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pomona.arena.loops import FAMILY
from pomona.arena.ratings.bradley_terry import (
    Counts,
    Floats,
    Solution,
    hessian,
    inverse,
    rated,
    solve,
    sums,
)
from pomona.arena.ratings.clusters import Clusters
from pomona.errors import PomonaError

_STEPS = 12  # of all resamples together
_TOLERANCE = 1e-3  # of the last step, in standard errors
_MOST = 2**28  # votes: times a weight of eight they are still an int32
_KINDS = {"half": 0, "drop": 0, "davidson": 1, "rao_kupper": 2}
Ints = NDArray[np.int64]
Drawn = NDArray[np.int32]


def resampled(clusters: Clusters, cells: int, resamples: int, seed: int) -> Drawn:
    """Votes by cell in so many resamples, [cells, resamples]: multinomial where each vote is one by
    itself; else each cluster with a Poisson weight of mean 1 (Hall 1992).

    Raises:
        PomonaError: there are too many votes to draw.
    """
    rng = np.random.default_rng(seed)
    whole = np.bincount(clusters.place, clusters.count, cells)
    if whole.sum() > _MOST:
        message = f"{whole.sum():,.0f} votes are too many for a bootstrap"
        raise PomonaError(message, remedy="ask for no resamples")
    if clusters.codes.max(initial=-1) < 0:
        used = np.flatnonzero(whole)
        drawn = np.zeros((cells, resamples), np.int32)
        shares = whole[used] / whole.sum()
        drawn[used] = rng.multinomial(round(whole.sum()), shares, resamples).T
        return drawn
    rows = clusters.rows
    lanes = -(-resamples // 4) * 4
    state = rng.integers(1, 2**63, lanes // 4, dtype=np.uint64)
    drawn, weight = np.zeros((cells, lanes), np.int32), np.zeros(lanes, np.uint16)
    FAMILY.loop("resample")(
        state, state.view(np.uint16), weight, rows.starts, rows.place, rows.count, drawn
    )
    if first := rows.starts[0]:  # of rows without a cluster each vote is one by itself
        count = rows.count[:first] if len(rows.count) else None
        mean = np.bincount(rows.place[:first], count, cells)
        used = np.flatnonzero(mean)
        drawn[used] += rng.poisson(mean[used, None], (len(used), lanes)).astype(np.int32)
    return drawn if lanes == resamples else np.ascontiguousarray(drawn[:, :resamples])


def refit(counts: Counts, solution: Solution, drawn: Drawn) -> tuple[Floats, Floats]:
    """Strengths [models, resamples] and the parameter of ties [resamples] of resampled votes
    [3 pairs, resamples], to a thousandth of a standard error; nan where a model has no finite
    strength in a resample.

    All resamples take their steps together, by the inverse Hessian of all votes scaled by how many
    of each model's votes a resample has; those that do not settle are solved one by one.
    """
    k, lanes = counts.models, drawn.shape[1]
    drawn = drawn.reshape(-1, 3, lanes)
    if solution.ties == "drop":
        drawn = drawn * np.array([[1], [1], [0]], np.int32)
    bread = inverse(hessian(counts, solution), k)
    errors, free = np.sqrt(np.diag(bread)), len(bread)
    scale = _scale(counts, solution, drawn)[:free]
    found = np.repeat(np.append(solution.strengths, solution.model[1])[:, None], lanes, 1)
    left = np.arange(lanes)
    for _ in range(_STEPS):
        gradient = _gradients(counts, solution, drawn, found, left)[:free]
        step = bread @ (gradient / scale[:, left]) / scale[:, left]
        step[:k] -= step[:k].mean(0)
        found[:free, left] += step
        left = left[~(np.abs(step / errors[:, None]).max(0) < _TOLERANCE)]
        if not len(left):
            break
    for lane in _unfinished(counts, solution, drawn, left):
        _alone(_of(counts, drawn[:, :, lane]), solution, found[:, lane])
    return found[:k], found[k]


def _gradients(
    counts: Counts, solution: Solution, drawn: Drawn, found: Floats, left: Ints
) -> Floats:
    """Derivatives [models + 1, left] of the resamples that are left."""
    model, k = solution.model[0], counts.models
    gradient, half = np.zeros((k + 1, len(left))), np.exp(found[:k, left] / 2)
    FAMILY.loop("gradients")(
        *_ends(counts),
        drawn if len(left) == drawn.shape[2] else np.ascontiguousarray(drawn[:, :, left]),
        np.ascontiguousarray(half),
        np.ascontiguousarray(1 / half),
        np.exp(found[k, left]),
        _KINDS[model],
        gradient[:k],
        gradient[k],
    )
    return gradient


def _ends(counts: Counts) -> list[Ints]:
    return [np.ascontiguousarray(of, np.int64) for of in (counts.first, counts.second)]


def _scale(counts: Counts, solution: Solution, drawn: Drawn) -> Floats:
    """Root of each model's share of votes, and of the share of all, that a resample has
    [models + 1, resamples].
    """
    had, whole = (np.zeros((counts.models + 1, many)) for many in (drawn.shape[2], 1))
    votes = counts.outcomes[:, : 2 if solution.ties == "drop" else 3].sum(1)
    FAMILY.loop("votes_of")(*_ends(counts), drawn, had)
    whole[:-1, 0] = sums(counts.first, votes, counts.models)
    whole[:-1, 0] += sums(counts.second, votes, counts.models)
    whole[-1] = votes.sum()
    share = had / np.maximum(whole, 1e-300)
    return np.sqrt(np.maximum(share, 1e-3))


def _unfinished(counts: Counts, solution: Solution, drawn: Drawn, left: Ints) -> list[int]:
    """Resamples that did not settle, and those in which some model has no finite strength."""
    core = rated(_of(counts, drawn.min(2)), solution.ties)  # in every resample they are connected
    if core.all():
        return left.tolist()
    # A model that has won against the core, and lost, has a finite strength too.
    edge = np.flatnonzero(core[counts.first] != core[counts.second])
    inner = core[counts.first[edge]]
    outer = np.where(inner, counts.second[edge], counts.first[edge])
    won, lost = np.zeros((2, counts.models, drawn.shape[2]), bool)
    tied = drawn[edge, 2] > 0
    for into, side in ((won, 1), (lost, 0)):
        np.logical_or.at(into, outer, (drawn[edge, np.where(inner, side, 1 - side)] > 0) | tied)
    doubtful = np.asarray(~np.all((won & lost)[~core], axis=0))
    doubtful[left] = True
    return [
        lane
        for lane in np.flatnonzero(doubtful).tolist()
        if lane in left or not rated(_of(counts, drawn[:, :, lane]), solution.ties).all()
    ]


def _of(counts: Counts, drawn: Drawn) -> Counts:
    return counts.with_outcomes(drawn.astype(np.float64))


def _alone(counts: Counts, solution: Solution, found: Floats) -> None:
    """Solve one resample into `found` [models + 1], which models without a finite strength are no
    part of; the others keep the mean that they have with all votes.
    """
    there = rated(counts, solution.ties)
    inside = there[counts.first] & there[counts.second]
    number = np.cumsum(there) - 1
    part = Counts(
        int(there.sum()),
        number[counts.first[inside]],
        number[counts.second[inside]],
        counts.outcomes[inside],
    )
    found[:] = np.nan
    if part.models > 1:
        mean = solution.strengths[there].mean()
        solved = solve(part, solution.ties)
        found[:-1][there] = solved.strengths + mean
        found[-1] = solved.model[1]
