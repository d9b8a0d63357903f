"""The fewest votes whose removal changes who is first, or the order of two neighbours.

Huang et al., ICLR 2026, "Dropping just a handful of preferences can change top LLM rankings", after
Broderick et al. 2020: votes are dropped in the order of their influence on the difference of two
ratings, and a refit says whether enough are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pomona.arena.auditing.board import Board, Floats
from pomona.arena.ratings.bradley_terry import Solution, rated, solve

MARGIN = 1.03  # what influence predicts, and a little more, is where the search begins
_NAMED = 5  # kinds of dropped votes that are named
_CHALLENGERS = 3  # of the first place, those with the fewest predicted votes
_MOST_REFITS = 60
_FAR = 10.0  # log odds, beyond which a strength may be infinite
_SAME = 1e-9  # a difference of two strengths that is none


@dataclass(frozen=True)
class Dropped:
    """Votes of one kind that are dropped: of `winner` over `loser`, or ties of both."""

    winner: str
    loser: str
    tie: bool
    votes: int


@dataclass(frozen=True)
class Fragility:
    """What it takes to put `by` above `model`.

    rank: of `model`.
    difference, low, high: of the two ratings in Elo, with a 95 % interval.
    p_value: that both have the same rating (two-sided).
    predicted: dropped votes after which influence alone predicts the change.
    with_margin: 3 % more than that, rounded down, or the next number from there on where a refit
        says that the order has changed.
    votes: the fewest of the same order of removal after which a refit says so.
    share: of all votes.
    reason: why there is no such number.
    """

    rank: int
    model: str
    by: str
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    predicted: float | None
    with_margin: int | None
    votes: int | None
    share: float | None
    confirmed: bool
    dropped: Sequence[Dropped]
    reason: str | None


def neighbours(
    board: Board, most: int | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Fragility]:
    """Every two neighbours on the board, best first, or the first `most` of them."""
    told: list[Fragility] = []
    pairs = min(board.k - 1, most or board.k)
    for place in range(pairs):
        told.append(_Removal(board, place, place + 1).told())
        if progress:
            progress(place + 1, pairs)
    return told


def first_place(board: Board, second: Fragility) -> Fragility:
    """The fewest votes that give the first place to any other; `second` is the answer for the next
    one, which need not be the easiest to reach: a model with few votes is moved by few.
    """
    removals = [_Removal(board, 0, place) for place in range(2, board.k)]
    likely = sorted((one for one in removals if one.predicted is not None), key=_predicted)
    told = [second, *(one.told() for one in likely[:_CHALLENGERS] if _nearer(one, second))]
    known = [one for one in told if one.votes is not None]
    return min(known, key=lambda one: one.votes or 0) if known else second


def _predicted(one: _Removal) -> float:
    return np.inf if one.predicted is None else one.predicted


def _nearer(one: _Removal, second: Fragility) -> bool:
    return second.predicted is None or _predicted(one) < MARGIN * second.predicted


class _Removal:
    """Votes in the order of their influence on the difference of two ratings."""

    def __init__(self, board: Board, above: int, below: int) -> None:
        self.board, self.rank = board, above + 1
        self.i, self.j = (int(board.order[place]) for place in (above, below))
        strengths = board.solution.strengths
        self.gap = float(strengths[self.i] - strengths[self.j])
        counts, solution = board.counts, board.solution
        self.direction = board.contrast(self.i, self.j)
        found = solution.cells(strengths[counts.first] - strengths[counts.second])
        along = self.direction[counts.first] - self.direction[counts.second]
        gains = along[:, None] * found.d
        if len(self.direction) > board.k:
            gains = gains + self.direction[board.k] * found.t
        gains = np.where(counts.outcomes > 0, gains, 0.0).ravel()
        self.kinds = np.argsort(-gains, kind="stable")[: int(np.sum(gains > 0))]
        self.gains = gains[self.kinds]
        self.there = counts.outcomes.ravel()[self.kinds]
        self.until = np.cumsum(self.there)  # votes dropped when a kind is used up
        self.predicted = self._predicted()

    def _predicted(self) -> float | None:
        """Votes, not whole, that make the difference 0 if each moves what it does at first."""
        moved = np.cumsum(self.gains * self.there)
        place = int(np.searchsorted(moved, self.gap))
        if place == len(moved):
            return None
        before, dropped = (0.0, 0.0) if place == 0 else (moved[place - 1], self.until[place - 1])
        return float(dropped + (self.gap - before) / self.gains[place])

    def _without(self, votes: int) -> tuple[Floats, int]:
        """The counts without so many votes, and how many kinds of votes are touched."""
        left = self.board.counts.outcomes.copy().ravel()
        place = int(np.searchsorted(self.until, votes))
        left[self.kinds[:place]] = 0
        left[self.kinds[place]] -= votes - (self.until[place - 1] if place else 0)
        return left.reshape(self.board.counts.outcomes.shape), place + 1

    def _refit(self, votes: int, start: Solution) -> Solution | None:
        """The fit without so many votes; None where it has no finite one."""
        if votes > self.until[-1]:
            return None
        counts = self.board.counts.with_outcomes(self._without(votes)[0])
        ties = self.board.solution.ties
        found = solve(counts, ties, start)
        # Far off the likelihood is flat, so that an infinite strength seems to have converged
        far = np.abs(found.strengths).max() > _FAR
        return found if found.converged and not (far and not rated(counts, ties).all()) else None

    def told(self) -> Fragility:
        """The fewest votes, and what the difference is worth."""
        board, names = self.board, self.board.votes.models
        votes, margin = self._fewest()
        found = board.difference(self.i, self.j)
        total = board.votes.n
        reason = None
        if votes is None:
            reason = "no number of dropped votes changes it while both ratings are finite"
        return Fragility(
            self.rank,
            names[self.i],
            names[self.j],
            found.elo,
            found.low,
            found.high,
            found.p_value,
            self.predicted,
            margin,
            votes,
            None if votes is None else votes / total,
            votes is not None,
            [] if votes is None else self._dropped(votes),
            reason,
        )

    def _fewest(self) -> tuple[int | None, int | None]:
        """The fewest votes that a refit confirms, and the first from the margin on."""
        if not len(self.until):
            return None, None
        # Influence alone, which grows as votes go, may not reach so far
        enough = self.until[-1] if self.predicted is None else MARGIN * self.predicted
        first = max(1, int(min(enough, self.until[-1])))
        low, high, margin = 0, None, None
        known: dict[int, float] = {0: self.gap}
        at, start = first, self._started(first)
        for _ in range(_MOST_REFITS):
            found = self._refit(at, start)
            if found is None:  # beyond what is finite: the answer, if any, is below
                high = at
            else:
                gap = float(found.strengths[self.i] - found.strengths[self.j])
                known[at], start = gap, found
                changed = gap < -_SAME
                low, high = (low, at) if changed else (at, high)
                margin = at if at == first and changed else margin
            if high is not None and high - low <= 1:
                fewest = high if high in known else None
                return fewest, fewest if margin is None or self.predicted is None else margin
            at = self._next(known, low, high)
        return None, margin

    def _started(self, votes: int) -> Solution:
        """The strengths that influence predicts."""
        board = self.board
        dropped = board.counts.outcomes - self._without(min(votes, int(self.until[-1])))[0]
        k, solution, counts = board.k, board.solution, board.counts
        found = solution.cells(solution.strengths[counts.first] - solution.strengths[counts.second])
        along = np.einsum("pj,pj->p", dropped, np.where(dropped > 0, found.d, 0.0))
        pull = np.bincount(counts.first, along, k) - np.bincount(counts.second, along, k)
        return replace(solution, strengths=solution.strengths - board.bread[:k, :k] @ pull)

    def _next(self, known: dict[int, float], low: int, high: int | None) -> int:
        """Where the difference is 0 by a line through the two nearest refits, between both ends."""
        if high is None:
            return int(low * 1.1) + 1
        if high not in known:
            return (low + high) // 2
        share = known[low] / (known[low] - known[high])
        guess = int(np.ceil(low + share * (high - low)))
        return min(max(guess, low + 1), high - 1)

    def _dropped(self, votes: int) -> list[Dropped]:
        counts, names = self.board.counts, self.board.votes.models
        left, kinds = self._without(votes)
        told: list[Dropped] = []
        for kind in self.kinds[: min(kinds, _NAMED)]:
            pair, outcome = divmod(int(kind), 3)
            both = names[int(counts.first[pair])], names[int(counts.second[pair])]
            gone = round(counts.outcomes[pair, outcome] - left[pair, outcome])
            winner, loser = both[::-1] if outcome == 1 else both
            told.append(Dropped(winner, loser, outcome == 2, gone))
        return told
