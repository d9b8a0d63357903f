"""What moves votes beside the models: the side an answer is shown on, its length, its order.

Each effect is a number added to the difference of two strengths, fitted together with them, so that
it is not confounded with who was shown where. Errors are clustered by every unit that the data
name, two at a time (Cameron, Gelbach & Miller 2011): a voter's habit, or an item's, is no bias of
all votes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pomona.arena.auditing.board import ALPHA, FEWEST, Board, Floats, interval
from pomona.arena.ratings.style import LENGTH, Covariates, measured, styled


@dataclass(frozen=True)
class Effect:
    """An effect on votes, in Elo, with its 95 % interval.

    null: what the p-value is of.
    clusters: what votes share in the errors.
    first, second, tie: the shares of outcomes at equal strength: of left and right, or of longer
        and shorter (twice as long).
    seen: those of all votes with it, whoever was shown.
    """

    null: str
    elo: float
    low: float
    high: float
    p_value: float
    alarm: bool
    votes: int
    clusters: list[str]
    first: float
    second: float
    tie: float | None
    seen: tuple[float, float, float]


def position(board: Board) -> Effect | str:
    """Whether the answer on the left wins more often, or why that is not known."""
    votes = board.votes
    pair = np.minimum(votes.a, votes.b).astype(np.int64) * board.k + np.maximum(votes.a, votes.b)
    both = np.intersect1d(pair[votes.a < votes.b], pair[votes.a > votes.b])
    if not len(both):
        return "no pair of models is shown in both orders, so that side and model are one"
    null = "the left answer wins as often as the right one"
    return _effect(board, np.arange(len(votes)), np.ones(len(votes)), null)


def length(board: Board) -> Effect | str:
    """Whether the longer answer wins more often than its model explains."""
    there = set(board.votes.columns.column_names)
    if not all({f"completion_{side}", f"length_{side}"} & there for side in "ab"):
        return "the votes name no completions"
    a, b = (np.maximum(measured(board.votes, LENGTH, side), 1) for side in "ab")
    rows = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    ratio = np.log2(a[rows] / b[rows])
    if not len(rows) or np.ptp(ratio) == 0:
        return "no two answers differ in length"
    null = "of answers of equally strong models the longer one wins as often"
    return _effect(board, rows, ratio, null)


def _effect(board: Board, rows: NDArray[np.intp], z: Floats, null: str) -> Effect | str:
    """What one unit of `z`, known of some rows, adds to the difference of two strengths."""
    votes = board.votes if len(rows) == len(board.votes) else board.votes.take(rows)
    style = Covariates(("effect",), z[:, None], np.arange(len(rows)))
    units = [unit for unit, codes in board.units.items() if codes.max() >= FEWEST - 1]
    fits = [styled(votes, style, board.solution.ties, unit) for unit in (None, *units)]
    errors = [one.errors for one in fits if one.errors is not None]
    if not all(one.solution.converged for one in fits) or len(errors) < len(fits):
        return "the votes are too few, or too much alike, for an error"
    squares = [float(one.covariance[-1, -1]) for one in errors]
    both = [one + other - squares[0] for one, other in combinations(squares[1:], 2)]
    degrees = min(float(np.min(one.degrees)) for one in errors)
    value, count = float(fits[0].coefficients[0]), votes.count
    elo, low, high, p = interval(value, float(np.sqrt(max(*squares, *both, 0))), degrees)
    shares = np.exp(fits[0].solution.cells(np.array([value])).logs)[0]
    outcome = np.minimum(votes.outcome, 2).astype(np.int64)
    turned = np.where((z < 0) & (outcome < 2), 1 - outcome, outcome)
    seen = np.bincount(turned, np.where(z == 0, 0, count), 3) / max(int(count[z != 0].sum()), 1)
    return Effect(
        null=null,
        elo=elo,
        low=low,
        high=high,
        p_value=p,
        alarm=p <= ALPHA,
        votes=int(count.sum()),
        clusters=units,
        first=float(shares[0]),
        second=float(shares[1]),
        tie=None if fits[0].solution.tie is None else float(shares[2]),
        seen=(float(seen[0]), float(seen[1]), float(seen[2])),
    )
