"""Voters who disagree with everybody.

Of each voter the votes for one of two answers count, ties are left aside: some people find more
ties than others, which is no disagreement. Where others voted on the same items, the null is that a
voter's vote is any of those on the item, which is exact however items differ. Elsewhere the board
says how likely a vote for the better model was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pomona.arena.auditing.board import ALPHA, Board, Codes, Floats, Moved, moved_by
from pomona.stats import benjamini_hochberg

_STEPS = 64  # to which weights are rounded: sums of whole numbers have exact chances
_VOTE = 0.5  # what another vote on the item adds to the log odds that the board tells
_ATTAINABLE = 0.01  # a voter who cannot have a smaller p-value is not tested (Tarone 1990)
_MANY = 2000  # votes of a voter from which on sums are normal


@dataclass(frozen=True)
class Voter:
    """How much a voter agrees with the others.

    votes: all of the voter; decisive: those that could have agreed less.
    agreement: of the decisive votes, the share of others who agree, or of votes for the model that
        is better by the board; expected: the same by the null.
    p_value: of agreeing as little; q_value: corrected, so that of the flagged 5 % are chance.
    reason: why the voter was not tested.
    """

    voter: str
    votes: int
    decisive: int
    agreement: float | None
    expected: float | None
    p_value: float | None
    q_value: float | None
    flagged: bool
    reason: str | None


@dataclass(frozen=True)
class Voters:
    """All voters, those who disagree most first, and what leaving the flagged ones out moves."""

    null: str
    against: str
    p_value: float | None
    alarm: bool
    tested: int
    flagged: int
    moved: Moved | None
    voters: list[Voter]


@dataclass(frozen=True)
class _Decided:
    """Votes for one of two answers.

    who: the voter. agree, expected: the share of others who agree, and its mean by the null.
    hit: whether the vote is with the majority; chance: of that by the null; weight: whole numbers.
    """

    who: Codes
    agree: Floats
    expected: Floats
    hit: NDArray[np.bool_]
    chance: Floats
    weight: Codes


def voters(board: Board, who: Codes, names: Sequence[str], items: Codes | None) -> Voters | str:
    """Test each voter `who` [n] (-1: unknown) against the others on the same items [n], or where
    these are unknown or seldom shared, against the board.
    """
    votes = board.votes
    decisive = (votes.outcome < 2) & (who >= 0) & (votes.count == 1)
    if not decisive.any():
        return "no voter who is named decided for an answer"
    by_item = None if items is None else _by_item(board, np.flatnonzero(decisive), who, items)
    if by_item is not None and 4 * len(by_item.who) >= decisive.sum():
        null = "a voter's vote for an answer is any of those on the item"
        decided, against = by_item, "the other voters on the same items"
    else:
        null = "a voter decides for an answer as often as the ratings say"
        decided, against = _by_board(board, np.flatnonzero(decisive), who), "the board"
    told = _tested(names, np.bincount(who[who >= 0], minlength=len(names)), decided)
    known = [one.q_value for one in told if one.q_value is not None]
    gone = np.array([one.flagged for one in told])
    moved = moved_by(board, ~np.append(gone, False)[who]) if gone.any() else None
    order = sorted(told, key=lambda one: (one.p_value is None, one.p_value or 0.0, one.voter))
    least = min(known, default=None)
    return Voters(null, against, least, bool(gone.any()), len(known), int(gone.sum()), moved, order)


def _by_item(board: Board, rows: Codes, who: Codes, items: Codes) -> _Decided | None:
    """Votes on items on which others decided too, and not all alike.

    By the null, a vote is the majority's as often as that is large. How much it counts, and which
    side is right where both have as many, is said by the board and by the others' votes together.
    """
    votes, strengths = board.votes, board.solution.strengths
    rows = rows[items[rows] >= 0]
    first = np.where(votes.outcome[rows] == 0, votes.a[rows], votes.b[rows])
    # An item may show its answers in either order: sides are told by the models
    lower, upper = (
        np.minimum(votes.a[rows], votes.b[rows]),
        np.maximum(votes.a[rows], votes.b[rows]),
    )
    low = first == lower
    _, item = np.unique(items[rows], return_inverse=True)
    size, lows = np.bincount(item)[item].astype(np.float64), np.bincount(item, low)[item]
    evidence = strengths[lower] - strengths[upper] + _VOTE * (2 * lows - size)
    keep = (lows > 0) & (lows < size)
    if not keep.any():
        return None
    size, lows, low, evidence = size[keep], lows[keep], low[keep], evidence[keep]
    same = np.where(low, lows, size - lows)
    pairs = lows * (lows - 1) + (size - lows) * (size - lows - 1)
    right = evidence > 0
    return _Decided(
        who[rows[keep]],
        (same - 1) / (size - 1),
        pairs / (size * (size - 1)),
        low == right,
        np.where(right, lows, size - lows) / size,
        _whole(np.abs(evidence)),
    )


def _by_board(board: Board, rows: Codes, who: Codes) -> _Decided:
    """Votes by how likely one for the better model was, ties left aside."""
    votes, strengths = board.votes, board.solution.strengths
    difference = strengths[votes.a[rows]] - strengths[votes.b[rows]]
    chances = board.solution.probabilities(np.abs(difference))
    chance = chances[:, 0] / (chances[:, 0] + chances[:, 1])
    hit = (votes.outcome[rows] == 0) == (difference >= 0)
    return _Decided(who[rows], hit.astype(float), chance, hit, chance, _whole(np.abs(difference)))


def _whole(weights: Floats) -> Codes:
    """Weights as whole numbers, the largest being `_STEPS`."""
    scale = float(weights.max(initial=0))
    return np.rint(_STEPS * weights / scale if scale > 0 else weights).astype(np.int64)


def _tested(names: Sequence[str], votes: Codes, decided: _Decided) -> list[Voter]:
    order = np.argsort(decided.who, kind="stable")
    ends = np.searchsorted(decided.who[order], np.arange(len(names) + 1))
    rows = [order[ends[one] : ends[one + 1]] for one in range(len(names))]
    p = [_p_value(decided, of) for of in rows]
    tested = [place for place, one in enumerate(p) if one is not None]
    q = dict(zip(tested, benjamini_hochberg([p[place] or 0.0 for place in tested]), strict=True))
    return [
        Voter(
            name,
            int(votes[place]),
            len(of),
            float(decided.agree[of].mean()) if len(of) else None,
            float(decided.expected[of].mean()) if len(of) else None,
            p[place],
            float(q[place]) if place in q else None,
            bool(place in q and q[place] <= ALPHA),
            None if place in q else "too few votes on which others decided differently",
        )
        for place, (name, of) in enumerate(zip(names, rows, strict=True))
    ]


def _p_value(decided: _Decided, rows: Codes) -> float | None:
    """The chance of agreeing as little or less; None where nothing small is attainable."""
    chance, weight = decided.chance[rows], decided.weight[rows]
    use = weight > 0
    if not use.any() or np.log1p(-chance[use]).sum() > np.log(_ATTAINABLE):
        return None
    chance, weight, score = chance[use], weight[use], int(weight[decided.hit[rows]].sum())
    if len(weight) > _MANY:
        error = np.sqrt(np.sum(weight**2 * chance * (1 - chance)))
        return float(NormalDist().cdf(float((score + 0.5 - weight @ chance) / error)))
    below = np.zeros(score + 1)
    below[0] = 1
    for p, w in zip(chance, weight, strict=True):
        moved = below[: max(0, score + 1 - w)] * p
        below *= 1 - p
        below[w:] += moved
    return float(min(1.0, below.sum()))
