"""Ratings that votes are added to: strengths and errors follow in milliseconds, however many votes
there are already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import (
    ELO,
    Counts,
    Ties,
    counts_of,
    gradient,
    hessian,
    inverse,
    points,
    rated,
    solve,
)
from pomona.arena.ratings.fitted import Fitted, Settings
from pomona.arena.ratings.intervals import critical, laplacian, ranks
from pomona.arena.votes import OUTCOMES, Votes
from pomona.errors import PomonaError, nearest

_NEAR = 1e-10  # of the gradient, a vote of the model, as `solve` has it
_TRIES = 8
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """A model's place among live ratings; None where the votes do not tell it."""

    model: str
    rating: float | None
    ci_low: float | None
    ci_high: float | None
    rank: int | None
    votes: int


class LiveRatings:
    """Ratings of votes, and of those that are added to them one by one.

    Strengths are those of all votes, as if fitted anew. Errors are those of the votes at the start,
    clustered as `fit` does it, and of each added vote as one by itself: what a vote costs grows
    with the models, and not with the votes. Make the object anew to cluster added votes too.

    models: all of them, in the order in which they came.
    solution: of those that are rated, by their place in `models`.

    Raises:
        PomonaError: as `fit`.
    """

    def __init__(
        self,
        votes: Votes,
        *,
        ties: Ties = "davidson",
        cluster: str | None = None,
        level: float = 0.95,
    ) -> None:
        fitted = Fitted(votes, Settings(ties, cluster, level, None, (), 0, 0))
        self.ties: Ties = ties
        self.level, self.models = level, list(votes.models)
        self.counts = counts_of(votes)
        self._there = np.flatnonzero(np.isin(self.models, fitted.names))
        self._inner, self.solution, self._bread = fitted.counts, fitted.solution, fitted.bread
        k, found = len(fitted.names), fitted.errors
        self._degrees = np.full(k, np.inf) if found is None else found.degrees
        nothing = np.full(self._bread.shape, np.nan)
        self._covariance = nothing if found is None else found.covariance

    def add(self, model_a: str, model_b: str, winner: str, n: int = 1) -> None:
        """Add `n` votes: `winner` is model_a, model_b, tie or tie (bothbad). A model that is not
        known yet is rated as soon as it has won and lost, or tied.

        Raises:
            PomonaError: there is no such outcome, a model is on both sides, or n is below 1.
        """
        if winner not in OUTCOMES:
            remedy = nearest(winner, OUTCOMES)
            raise PomonaError(f'"{winner}" is unknown', where="winner", remedy=remedy)
        if model_a == model_b or n < 1:
            message = f'"{model_a}" is on both sides' if n > 0 else f"n is {n}"
            raise PomonaError(message, where="vote", remedy="give two models, and n from 1 on")
        outcome = min(OUTCOMES.index(winner), 2)
        a, b = self._number(model_a), self._number(model_b)
        first, second = min(a, b), max(a, b)
        if outcome < 2 and a > b:
            outcome = 1 - outcome
        self.counts = _more(self.counts, first, second, outcome, n)
        if outcome == 2 and self.ties == "drop":
            return
        places = np.searchsorted(self._there, [first, second])
        both = np.isin([first, second], self._there).all()
        if both and (outcome < 2 or self.ties == "half" or self.solution.tie is not None):
            self._inner = _more(self._inner, int(places[0]), int(places[1]), outcome, n)
            self._follow(int(places[0]), int(places[1]), outcome, n)
        else:
            self._anew()

    def standings(self) -> list[Standing]:
        """A row a model, best first, those without a rating last."""
        k, ratings = len(self._there), points(self.solution.strengths)
        half = critical(self._degrees, self.level) * np.sqrt(np.diag(self._covariance)[:k]) * ELO
        low, high = ratings - half, ratings + half
        known, votes = np.isfinite(half), self._votes()
        rank, _ = ranks(np.where(known, low, -np.inf), np.where(known, high, np.inf))
        rows = [
            Standing(
                self.models[self._there[one]],
                float(ratings[one]),
                float(low[one]) if known[one] else None,
                float(high[one]) if known[one] else None,
                int(rank[one]) if known.any() else None,
                votes[self._there[one]],
            )
            for one in np.argsort(-ratings, kind="stable")
        ]
        others = sorted(set(range(len(self.models))) - set(self._there.tolist()))
        none = (None, None, None, None)
        return rows + [Standing(self.models[one], *none, votes[one]) for one in others]

    def _votes(self) -> list[int]:
        each, k = self.counts.outcomes.sum(1), len(self.models)
        found = np.bincount(self.counts.first, each, k) + np.bincount(self.counts.second, each, k)
        return found.astype(np.int64).tolist()

    def _number(self, model: str) -> int:
        if model not in self.models:
            self.models.append(model)
            self.counts = replace(self.counts, models=len(self.models))
        return self.models.index(model)

    def _follow(self, first: int, second: int, outcome: int, n: int) -> None:
        """Bread, covariance and strengths after votes between models that are rated."""
        k, free = self._inner.models, self.solution.tie is not None
        ends = np.zeros((k + free, 1 + free))
        ends[[first, second], 0] = 1, -1
        ends[k:, 1:] = 1
        strengths = self.solution.strengths
        cells = self.solution.cells(strengths[[first]] - strengths[[second]])
        d, t, dd, dt, tt = (
            float(of[0, outcome]) for of in (cells.d, cells.t, cells.dd, cells.dt, cells.tt)
        )
        pulled = self._bread @ (ends @ np.array([d, t])[: 1 + free])
        information = n * np.array([[dd, dt], [dt, tt]])[: 1 + free, : 1 + free]
        # The inverse of a Hessian with one or two directions more (Woodbury 1950), and what stands
        # between two of them.
        towards = self._bread @ ends
        share = np.linalg.solve(np.eye(1 + free) + information @ (ends.T @ towards), information)
        down = share @ ends.T
        self._bread = self._bread - towards @ (down @ self._bread)
        middle = self._covariance + n * np.outer(pulled, pulled)
        middle = middle - towards @ (down @ middle)
        self._covariance = middle - (middle @ down.T) @ towards.T
        # Where the others' gradient was 0, all of it is the new votes'.
        self._settle(n * (self._bread @ (ends @ np.array([d, t])[: 1 + free])))

    def _settle(self, move: Floats) -> None:
        """A first step, and steps by a curvature that is nearly right, until there is nothing left
        to gain.
        """
        inner, found = self._inner, self.solution
        k, free = inner.models, found.tie is not None
        n = inner.outcomes @ np.ones(3)
        votes = np.bincount(inner.first, n, k) + np.bincount(inner.second, n, k)
        votes = np.append(votes, n.sum())[: k + free]
        for steps in range(1, _TRIES):
            tie = None if found.tie is None else found.tie + float(move[k])
            if self.ties == "rao_kupper" and tie is not None and tie <= 0:
                break
            found = replace(found, strengths=found.strengths + move[:k], tie=tie)
            slope = gradient(inner, found)
            norm = float(np.abs(slope / votes).max())
            if norm <= _NEAR:
                self.solution = replace(found, gradient_norm=norm, converged=True, steps=steps)
                return
            move = self._bread @ slope
        self.solution = solve(inner, self.ties, self.solution)
        self._bread = inverse(hessian(inner, self.solution), k)

    def _anew(self) -> None:
        """Fit whoever is rated now. Of the votes that did not count before each is one by itself;
        those that did keep their products of scores, H V H for errors V and Hessian H.
        """
        there = np.flatnonzero(rated(self.counts, self.ties))
        if np.array_equal(there, self._there) and self.solution.tie is not None:
            return
        curvature = hessian(self._inner, self.solution)
        before, old = self._there, curvature @ self._covariance @ curvature
        number = np.full(len(self.models), -1)
        number[there] = np.arange(len(there))
        first, second = number[self.counts.first], number[self.counts.second]
        inside = (first >= 0) & (second >= 0)
        rows = self.counts.outcomes[inside].copy()
        self._inner = Counts(len(there), first[inside], second[inside], rows)
        self._there, self.solution = there, solve(self._inner, self.ties)
        self._bread = inverse(hessian(self._inner, self.solution), len(there))
        self._covariance = self._carried(old, before)

    def _carried(self, old: Floats, before: NDArray[np.intp]) -> Floats:
        """The covariance from products of scores: the old ones of the models `before`, and votes
        one by one where a model is new.
        """
        inner, found, there = self._inner, self.solution, self._there
        k, free = inner.models, found.tie is not None
        cells = found.cells(found.strengths[inner.first] - found.strengths[inner.second])
        fresh = ~np.isin(there[inner.first], before) | ~np.isin(there[inner.second], before)
        n = inner.outcomes * fresh[:, None]
        if self.ties == "drop":
            n = n * np.array([1.0, 1.0, 0.0])
        d, t = (np.where(n > 0, of, 0.0) for of in (cells.d, cells.t))
        parts = (n * d * d).sum(1), (n * d * t).sum(1), float((n * t * t).sum())
        meat = laplacian(inner, *parts, free=free)
        kept = np.flatnonzero(np.isin(before, there))
        places = np.searchsorted(there, before[kept])
        if free and len(old) > len(before):
            kept, places = np.append(kept, len(before)), np.append(places, k)
        meat[np.ix_(places, places)] += old[np.ix_(kept, kept)]
        degrees = np.full(k, np.inf)
        known = kept < len(before)
        degrees[places[known]] = self._degrees[kept[known]]
        self._degrees = degrees
        return self._bread @ meat @ self._bread


def _more(counts: Counts, first: int, second: int, outcome: int, n: int) -> Counts:
    """The counts, which it changes, with `n` votes more on a pair; others where it is a new one."""
    key, k = first * counts.models + second, counts.models
    keys = counts.first * k + counts.second
    place = int(np.searchsorted(keys, key))
    if place < len(keys) and keys[place] == key:
        found = counts
    else:
        found = Counts(
            k,
            np.insert(counts.first, place, first),
            np.insert(counts.second, place, second),
            np.insert(counts.outcomes, place, 0.0, axis=0),
        )
    found.outcomes[place, outcome] += n
    return found
