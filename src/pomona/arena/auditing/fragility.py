"""The fewest votes whose removal changes who is first, or the order of two neighbours.

Huang et al., ICLR 2026, "Dropping just a handful of preferences can change top LLM rankings", after
Broderick et al. 2020: votes are dropped in the order of their influence on the difference of two
ratings, and a refit says whether enough are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pomona.arena.auditing.board import Board, Floats
from pomona.arena.ratings.bradley_terry import Solution, gradient, rated, solve

MARGIN = 1.03  # what influence predicts, and a little more, is where the search begins
_NAMED = 5  # kinds of dropped votes that are named
_CHALLENGERS = 3  # of the first place, those with the fewest predicted votes
_MOST_REFITS = 60
_FAR = 10.0  # log odds, beyond which a strength may be infinite
_SAME = 1e-9  # a difference of two strengths that is none
_FIRST = 0.1  # of the largest influence: votes of less are put in order where those do not suffice
_TOUCHED = 100  # models of dropped votes; with more, or what is ill-conditioned, a whole refit
_WORST = 100.0  # condition of what the dropped votes leave among them
_CHORDS, _CERTAIN = 4, 1e-3  # steps, and the last one as a part of the difference


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
    kinds, pairs = _Kinds(board), min(board.k - 1, most or board.k)
    for place in range(pairs):
        told.append(_Removal(kinds, place, place + 1).told())
        if progress:
            progress(place + 1, pairs)
    return told


def first_place(board: Board, second: Fragility) -> Fragility:
    """The fewest votes that give the first place to any other; `second` is the answer for the next
    one, which need not be the easiest to reach: a model with few votes is moved by few.
    """
    kinds, most = _Kinds(board), np.inf
    if second.predicted is not None:
        most = MARGIN * second.predicted
    # Of a long board only the numbers are kept, not the orders of all votes.
    said = [(_Removal(kinds, 0, place, most).predicted, place) for place in range(2, board.k)]
    near = sorted((votes, place) for votes, place in said if votes is not None and votes < most)
    told = [second, *(_Removal(kinds, 0, place).told() for _, place in near[:_CHALLENGERS])]
    known = [one for one in told if one.votes is not None]
    return min(known, key=lambda one: one.votes or 0) if known else second


class _Kinds:
    """The kinds of votes that there are, [m] each: pair and outcome, and what one vote says.

    cell: pair times three plus outcome, ascending.
    first, second: models; there: votes.
    d, t: scores by the difference and by the parameter of ties.
    """

    def __init__(self, board: Board) -> None:
        self.board, counts = board, board.counts
        self.cell = np.flatnonzero(counts.outcomes.ravel() > 0)
        self.first, self.second = counts.first[self.cell // 3], counts.second[self.cell // 3]
        self.there = counts.outcomes.ravel()[self.cell]
        found = self._cells(board.solution, slice(None))
        self.d, self.t = found[:2]

    def _cells(self, solution: Solution, kinds: Any) -> tuple[Floats, ...]:
        """Scores of one vote of some kinds by the difference and the parameter of ties, and minus
        the second derivatives by both.
        """
        first, second, cell = self.first[kinds], self.second[kinds], self.cell[kinds]
        found = solution.cells(solution.strengths[first] - solution.strengths[second])
        outcome = (cell % 3)[:, None]
        each = (found.d, found.t, found.dd, found.dt, found.tt)
        return tuple(np.take_along_axis(one, outcome, 1)[:, 0] for one in each)

    def gap_without(self, kinds: Any, votes: Floats, contrast: tuple[int, int]) -> float | None:
        """The difference of two strengths without so many votes of some kinds: Newton's method by
        the Hessian at the start less that of the dropped votes, whose inverse differs from the
        start's only among the models that have some, until a step is a thousandth of what is left
        of the difference; None where that does not come soon.
        """
        board, k = self.board, self.board.k
        free, (i, j) = len(board.bread) - k, contrast
        ends = np.concatenate([self.first[kinds], self.second[kinds]])
        models, at = np.unique(ends, return_inverse=True)
        if len(models) > _TOUCHED:
            return None
        touched = np.append(models, k) if free else models
        drawn = board.bread[touched]
        where = at[: len(kinds)], at[len(kinds) :], len(models)
        dropped = self._dropped(board.solution, kinds, votes, where, free)
        pull, curve = dropped
        left = np.eye(len(touched)) - curve @ drawn[:, touched]
        if np.linalg.cond(left) > _WORST:
            return None
        inner = np.linalg.solve(left, curve)
        straight = drawn.T @ (inner @ (board.bread[i] - board.bread[j])[touched])
        straight += board.bread[i] - board.bread[j]
        step = -(pull @ drawn)
        solution = board.solution
        for _ in range(_CHORDS):
            step = step + drawn.T @ (inner @ step[touched])
            solution = _moved(solution, step, k)
            if solution is None:
                return None
            rest = gradient(board.counts, solution)
            rest[touched] -= self._dropped(solution, kinds, votes, where, free)[0]
            more = float(straight @ rest)
            gap = float(solution.strengths[i] - solution.strengths[j]) + more
            if abs(more) < _CERTAIN * abs(gap) and abs(gap) > _SAME / _CERTAIN:
                return gap
            step = board.bread @ rest
        return None

    def _dropped(
        self, solution: Solution, kinds: Any, votes: Floats, where: tuple[Any, Any, int], free: int
    ) -> tuple[Floats, Floats]:
        """The gradient and minus the Hessian of dropped votes, among the models that have some."""
        first, second, size = where
        d, t, dd, dt, tt = (votes * one for one in self._cells(solution, kinds))
        pull, curve = np.zeros(size + free), np.zeros((size + free, size + free))
        np.add.at(pull, first, d)
        np.add.at(pull, second, -d)
        for one, other, sign in ((first, first, 1), (second, second, 1), (first, second, -1)):
            np.add.at(curve, (one, other), sign * dd)
            if sign < 0:
                np.add.at(curve, (other, one), sign * dd)
        if free:
            pull[size], curve[size, size] = t.sum(), tt.sum()
            np.add.at(curve[size], first, dt)
            np.add.at(curve[size], second, -dt)
            curve[:size, size] = curve[size, :size]
        return pull, curve


def _moved(solution: Solution, step: Floats, k: int) -> Solution | None:
    """A solution a step on; None where the parameter of ties cannot be that."""
    strengths = solution.strengths + step[:k]
    if np.abs(step).max() > 1:
        return None
    if solution.tie is None:
        return replace(solution, strengths=strengths)
    tie = solution.tie + float(step[k])
    if solution.ties == "rao_kupper" and tie <= 0:
        return None
    return replace(solution, strengths=strengths, tie=tie)


class _Removal:
    """Votes in the order of their influence on the difference of two ratings.

    order: kinds of votes as far as they are in order; until: votes dropped when each is used up.
    most: votes of which more need not be told apart.
    """

    def __init__(self, kinds: _Kinds, above: int, below: int, most: float = np.inf) -> None:
        self.kinds, self.board, self.rank = kinds, kinds.board, above + 1
        board = self.board
        self.i, self.j = (int(board.order[place]) for place in (above, below))
        strengths = board.solution.strengths
        self.gap = float(strengths[self.i] - strengths[self.j])
        direction = board.contrast(self.i, self.j)
        self.gains = (direction[kinds.first] - direction[kinds.second]) * kinds.d
        if len(direction) > board.k:
            self.gains += direction[board.k] * kinds.t
        self.whole = float(kinds.there[self.gains > 0].sum())  # votes that move it at all
        largest = float(self.gains.max(initial=0))
        self.order, self.until = np.empty(0, np.intp), np.empty(0)
        if largest * most >= self.gap:
            self._sort(_FIRST * largest)
        self.predicted = self._predicted(most)

    def _sort(self, least: float) -> None:
        """Put the kinds in order whose influence is `least` or more."""
        some = np.flatnonzero((self.gains >= least) & (self.gains > 0))
        self.order = some[np.argsort(-self.gains[some], kind="stable")]
        self.until = np.cumsum(self.kinds.there[self.order])

    def _predicted(self, most: float) -> float | None:
        """Votes, not whole, that make the difference 0 if each moves what it does at first; None
        where all of them, or `most`, do not.
        """
        for _ in range(2):
            moved = np.cumsum(self.gains[self.order] * self.kinds.there[self.order])
            if (place := int(np.searchsorted(moved, self.gap))) < len(moved):
                before, votes = (
                    (0.0, 0.0) if place == 0 else (moved[place - 1], self.until[place - 1])
                )
                return float(votes + (self.gap - before) / self.gains[self.order[place]])
            if most < np.inf and (len(self.until) == 0 or self.until[-1] >= most):
                return None
            self._sort(0.0)
        return None

    def _dropped(self, votes: int) -> tuple[Any, Floats]:
        """The kinds of which there are dropped votes, and how many of each."""
        if len(self.until) == 0 or self.until[-1] < votes:
            self._sort(0.0)
        place = int(np.searchsorted(self.until, votes))
        kinds = self.order[: place + 1]
        gone = self.kinds.there[kinds]
        gone[place] = votes - (self.until[place - 1] if place else 0)
        return kinds, gone

    def _gap(self, votes: int, start: Solution | None) -> tuple[float | None, Solution | None]:
        """The difference without so many votes, None where a strength is infinite then; and the
        whole fit, where it needed one.
        """
        if votes > self.whole:
            return None, start
        kinds, gone = self._dropped(votes)
        near = self.kinds.gap_without(kinds, gone, (self.i, self.j))
        if near is not None:
            return near, start
        board, left = self.board, self.board.counts.outcomes.copy()
        left.ravel()[self.kinds.cell[kinds]] -= gone
        counts, ties = board.counts.with_outcomes(left), board.solution.ties
        found = solve(counts, ties, start or self._started(kinds, gone))
        # Far off the likelihood is flat, so that an infinite strength seems to have converged
        far = np.abs(found.strengths).max() > _FAR
        if not found.converged or (far and not rated(counts, ties).all()):
            return None, start
        return float(found.strengths[self.i] - found.strengths[self.j]), found

    def _started(self, kinds: Any, gone: Floats) -> Solution:
        """The strengths that influence predicts."""
        board, k, along = self.board, self.board.k, gone * self.kinds.d[kinds]
        pull = np.bincount(self.kinds.first[kinds], along, k)
        pull = pull - np.bincount(self.kinds.second[kinds], along, k)
        solution = board.solution
        return replace(solution, strengths=solution.strengths - board.bread[:k, :k] @ pull)

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
            [] if votes is None else self._named(votes),
            reason,
        )

    def _fewest(self) -> tuple[int | None, int | None]:
        """The fewest votes that a refit confirms, and the first from the margin on."""
        if not self.whole:
            return None, None
        # Influence alone, which grows as votes go, may not reach so far
        enough = self.whole if self.predicted is None else MARGIN * self.predicted
        first = max(1, int(min(enough, self.whole)))
        low, high, margin = 0, None, None
        known: dict[int, float] = {0: self.gap}
        at, start = first, None
        for _ in range(_MOST_REFITS):
            gap, start = self._gap(at, start)
            if gap is None:  # beyond what is finite: the answer, if any, is below
                high = at
            else:
                known[at] = gap
                changed = gap < -_SAME
                low, high = (low, at) if changed else (at, high)
                margin = at if at == first and changed else margin
            if high is not None and high - low <= 1:
                fewest = high if high in known else None
                return fewest, fewest if margin is None or self.predicted is None else margin
            at = self._next(known, low, high)
        return None, margin

    def _next(self, known: dict[int, float], low: int, high: int | None) -> int:
        """Where the difference is 0 by a line through the two nearest refits, between both ends."""
        if high is None:
            return int(low * 1.1) + 1
        if high not in known:
            return (low + high) // 2
        share = known[low] / (known[low] - known[high])
        guess = int(np.ceil(low + share * (high - low)))
        return min(max(guess, low + 1), high - 1)

    def _named(self, votes: int) -> list[Dropped]:
        names, told = self.board.votes.models, []
        for kind, gone in list(zip(*self._dropped(votes), strict=True))[:_NAMED]:
            both = names[int(self.kinds.first[kind])], names[int(self.kinds.second[kind])]
            outcome = int(self.kinds.cell[kind]) % 3
            winner, loser = both[::-1] if outcome == 1 else both
            told.append(Dropped(winner, loser, outcome == 2, round(float(gone))))
        return told
