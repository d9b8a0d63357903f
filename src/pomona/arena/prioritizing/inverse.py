"""Ratings as if pairs had been drawn evenly, from votes whose pairs were chosen: each counts by the
inverse of its probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pomona.arena.prioritizing.pairs import Floats, Ints
from pomona.arena.ratings.bradley_terry import (
    Solution,
    check_ties,
    counts_of,
    hessian,
    inverse,
    scores,
    solve,
)
from pomona.arena.ratings.fitted import finite
from pomona.arena.votes import Votes
from pomona.errors import PomonaError

LOGGED = ("rank", "propensity", "available")


@dataclass(frozen=True)
class Board:
    """Strengths with their covariance.

    models: names of those with a finite strength; strengths float64 [k]; covariance [k, k], by the
        sandwich over clusters; plain: the same for independent votes of equal weight.
    effective: votes of equal weight that would tell as much: Kish's (Σw)² / Σw².
    """

    models: tuple[str, ...]
    strengths: Floats
    covariance: Floats
    plain: Floats
    effective: float

    @property
    def design_effect(self) -> float:
        """How many times larger variances are than those of independent votes, at the median."""
        return float(np.median(np.diag(self.covariance) / np.diag(self.plain)))


def board(votes: Votes, weights: Floats | None = None, clusters: Ints | None = None) -> Board:
    """Ratings with Davidson's ties from votes with weights [n], with a sandwich over clusters [n]
    (Huber 1967; Liang & Zeger 1986, with G / (G - 1)); each row is its own where they are left out.

    Raises:
        PomonaError: no chain of votes connects all models, or they are too few for finite ratings.
    """
    weights = np.ones(len(votes)) if weights is None else weights
    counts = counts_of(votes, weights)
    there = finite(counts, votes)
    if not there.all():
        kept = there[votes.a] & there[votes.b]
        votes, weights = votes.take(kept), weights[kept]
        clusters = None if clusters is None else clusters[kept]
        counts = counts_of(votes, weights)
    check_ties(counts, votes.where, "davidson")
    solution = solve(counts)
    bread = inverse(hessian(counts, solution), counts.models)
    meat, k = _meat(votes, solution, weights, clusters), counts.models
    total = float(weights @ votes.count)
    effective = total**2 / float(weights**2 @ votes.count)
    return Board(
        votes.models,
        solution.strengths,
        (bread @ meat @ bread)[:k, :k],
        bread[:k, :k] * total / effective,
        effective,
    )


def _meat(votes: Votes, solution: Solution, weights: Floats, clusters: Ints | None) -> Floats:
    from scipy.sparse import coo_matrix

    along, tie = scores(votes, solution)
    n, k = len(votes), len(votes.models)
    owner = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    heavy = weights * (np.sqrt(votes.count) if clusters is None else votes.count)
    columns = [votes.a, votes.b] + ([] if solution.tie is None else [np.full(n, k)])
    values = [along * heavy, -along * heavy] + ([] if solution.tie is None else [tie * heavy])
    shape = (int(owner.max()) + 1, k + (solution.tie is not None))
    places = (np.tile(owner, len(columns)), np.concatenate(columns))
    summed = coo_matrix((np.concatenate(values), places), shape).tocsr()
    groups = shape[0]
    return (summed.T @ summed).toarray() * groups / max(groups - 1, 1)


def weights_of(votes: Votes) -> Floats | None:
    """The weight of each row [n] whose queue logged rank, propensity and available; 1 for those it
    did not choose. None where no row has them.

    Raises:
        PomonaError: a propensity is none, or stands without the other two.
    """
    if not set(LOGGED) <= set(votes.columns.column_names):
        return None
    rank, propensity, available = (_numbers(votes, name) for name in LOGGED)
    chosen = np.isfinite(propensity)
    if not chosen.any():
        return None
    wrong = chosen & ~((propensity > 0) & (propensity <= 1) & (rank >= 1) & (available >= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise PomonaError(
            "has no propensity of a queue: above 0, at most 1, with rank and available from 1",
            where=votes.row_name(row),
            remedy="keep these three columns as the queue gives them",
        )
    weights = np.ones(len(votes))
    weights[chosen] = levelled(rank[chosen], propensity[chosen], available[chosen])
    return weights


def levelled(rank: Floats, propensity: Floats, available: Floats) -> Floats:
    """Weights [m] of rows drawn one after the other without putting back.

    With N that could be drawn at first and M drawn, the m-th has 1 + (N - M) / (N - m) ·
    (1 / ((N - m + 1) q) - 1): with it sums over the M are, on average, those over all N (levelled
    weights: Farquhar, Gal & Rainforth 2021, equation 8).
    """
    pool = np.maximum(available + rank - 1, rank)
    rest = np.maximum(pool - rank.max(), 0) / np.maximum(pool - rank, 1)
    off = 1 / (np.maximum(pool - rank + 1, 1) * propensity) - 1
    return np.maximum(1 + rest * off, 0)


def _numbers(votes: Votes, name: str) -> Floats:
    column = votes.columns[name]
    try:
        found = column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        message = f'the column "{name}" holds no numbers'
        raise PomonaError(
            message, where=votes.where, remedy="leave it as the queue has it"
        ) from error
    return np.array(found.to_numpy(zero_copy_only=False), np.float64)
