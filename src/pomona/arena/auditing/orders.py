"""Effects of the order in which votes were given: habit from vote to vote, and drift."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pomona.arena.auditing.board import (
    ALPHA,
    FEWEST,
    Board,
    Change,
    Codes,
    Floats,
    by_model,
    interval,
    laplacian,
    summed,
)
from pomona.arena.votes import Votes
from pomona.errors import quantity
from pomona.stats import holm

_Z = NormalDist().inv_cdf(1 - ALPHA / 2)
_LEAST = 0.01  # of a model's information about its drift that its rating must leave


@dataclass(frozen=True)
class Repetition:
    """Whether a vote depends on the side of the same voter's vote before.

    correlation: of what two votes in a row leave unexplained, with its 95 % interval.
    pairs: votes that have one before.
    """

    null: str
    correlation: float
    low: float
    high: float
    p_value: float
    alarm: bool
    pairs: int


@dataclass(frozen=True)
class Drift:
    """Whether ratings stay what they are while votes come in; models by their p-value, each by how
    far its rating moves from the first vote to the last.
    """

    null: str
    p_value: float
    alarm: bool
    models: list[Change]


def times(votes: Votes) -> Floats | str:
    """When each vote was given [n], in whatever unit, or why that is not known."""
    if "time" not in votes.columns.column_names:
        return "the votes name no times"
    column = votes.columns["time"]
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        for kind in (pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
            try:
                column = pc.cast(column, kind)
                break
            except pa.ArrowInvalid:
                continue
    if pa.types.is_temporal(column.type):
        column = pc.cast(
            pc.cast(column, pa.timestamp("us", getattr(column.type, "tz", None))), pa.int64()
        )
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return "the column of times holds neither numbers nor dates"
    found = pc.fill_null(pc.cast(column, pa.float64(), safe=False), float("nan"))
    moments = np.asarray(found.to_numpy(), np.float64)
    if not np.isfinite(moments).all():
        return f"{quantity(int((~np.isfinite(moments)).sum()), 'vote has', 'votes have')} no time"
    return moments if np.ptp(moments) > 0 else "all votes have the same time"


def repetition(board: Board, moments: Floats, voters: Codes) -> Repetition | str:
    """Serial correlation within voters against any other order of the same votes.

    Its mean and variance over all orders are those of Wald & Wolfowitz 1943, so that a voter's
    preference for a side is not taken for a habit.
    """
    rows = np.flatnonzero((board.votes.count == 1) & (voters >= 0))
    rows = rows[np.lexsort((moments[rows], voters[rows]))]
    who = np.unique(voters[rows], return_inverse=True)[1]
    left = board.scores[0][rows]
    after = who[1:] == who[:-1]
    m = np.bincount(who).astype(np.float64)
    if not len(rows) or (m >= 4).sum() < 1:
        return "no voter has four votes or more"
    found = np.bincount(who[1:][after], (left[1:] * left[:-1])[after], len(m))
    mean, variance, scale = _over_orders(
        [np.bincount(who, left**p).astype(np.float64) for p in (1, 2, 3, 4)], m
    )
    use = m >= 4
    excess, total = float((found - mean)[use].sum()), float(variance[use].sum())
    norm = float(scale[use].sum())
    if total <= 0 or norm <= 0:
        return "all votes of each voter say the same"
    p = float(2 * NormalDist().cdf(-abs(excess) / total**0.5))
    half = _Z * total**0.5 / norm
    value = excess / norm
    null = "which side a voter takes does not depend on the side taken before"
    pairs = int((m[use] - 1).sum())
    return Repetition(null, value, value - half, value + half, p, p <= ALPHA, pairs)


def _over_orders(sums: list[Floats], m: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and variance of the sum of products of neighbours over all orders of m values, by their
    power sums; and (m - 1) times their variance.
    """
    one, two, three, four = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = (one**2 - two) / (m * (m - 1))
        squares = (two**2 - four) / (m * (m - 1))
        mixed = (one**2 * two - two**2 - 2 * one * three + 2 * four) / (m * (m - 1) * (m - 2))
        fours = one**4 - 6 * one**2 * two + 3 * two**2 + 8 * one * three - 6 * four
        fours = fours / (m * (m - 1) * (m - 2) * (m - 3))
        mean = (m - 1) * pairs
        second = (m - 1) * squares + 2 * (m - 2) * mixed + (m - 2) * (m - 3) * fours
        return mean, second - mean**2, (m - 1) * (two / m - (one / m) ** 2)


def drift(board: Board, moments: Floats) -> Drift | str:
    """Whether any model's rating changes over time: a score test for each, one step from the fit,
    with what its level and the others' explain projected out.
    """
    votes, k = board.votes, board.k
    late = _late(moments)
    d, _ = board.scores
    dd, dt = board.curvatures
    weight = votes.count * dd
    across = laplacian(votes, late * weight)
    if board.solution.tie is not None:
        across = np.column_stack([across, by_model(votes, late * votes.count * dt)])
    own = np.bincount(votes.a, late**2 * weight, k) + np.bincount(votes.b, late**2 * weight, k)
    explained = across @ board.bread
    information = own - np.einsum("ij,ij->i", explained, across)
    known = np.flatnonzero(information > _LEAST * np.maximum(own, 1e-300))
    if not len(known):
        return "no model was voted on at different times"
    gradient = by_model(votes, late * votes.count * d)
    rows = np.column_stack([-explained, np.eye(k)])[known] / information[known, None]
    error = np.sqrt(_variances(board, late, rows))
    value = gradient[known] / information[known]
    units = [float(codes.max()) for codes in board.units.values() if codes.max() >= FEWEST - 1]
    degrees = min(units, default=np.inf)
    told = [
        interval(float(v), max(float(e), 1e-300), degrees)
        for v, e in zip(value, error, strict=True)
    ]
    p = [one[-1] for one in told]
    adjusted = holm(p)
    models = [
        Change(votes.models[known[i]], *told[int(i)], float(adjusted[i]))
        for i in np.argsort(p, kind="stable")
    ]
    least = float(adjusted.min())
    return Drift("no model's rating changes while votes come in", least, least <= ALPHA, models)


def _late(moments: Floats) -> Floats:
    """The place of each vote in time, from -1/2 to 1/2; votes of one moment share theirs."""
    _, moment, votes = np.unique(moments, return_inverse=True, return_counts=True)
    return ((np.cumsum(votes) - votes / 2) / len(moments) - 0.5)[moment]


def _variances(board: Board, late: Floats, rows: Floats) -> Floats:
    """The largest clustered variance of each row's sum of scores, those of time behind the rest."""
    votes, k, size = board.votes, board.k, rows.shape[1]
    d, _ = board.scores
    columns = [*board.scored, (votes.a + size - k, late * d), (votes.b + size - k, -late * d)]
    units = [codes for codes in board.units.values() if codes.max() >= FEWEST - 1]
    meats = [summed(columns, votes.count, codes, size) for codes in [None, *units]]
    return np.max([np.einsum("ij,jk,ik->i", rows, meat, rows) for meat in meats], 0)
