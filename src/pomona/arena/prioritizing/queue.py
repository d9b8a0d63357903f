"""Which pair next: the expected information of a vote, draws with their probabilities, and when to
stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import ndtr

from pomona.arena.prioritizing.pairs import Floats, Ints
from pomona.arena.prioritizing.strengths import Strengths
from pomona.arena.ratings.bradley_terry import ELO

By = Literal["information", "ties", "random"]
_SHARED = 0.17  # correlation of votes on one pair: what four on each of LLMFAO's 2,139 pairs have
# Power of what is wanted in a draw: ten times likelier where a vote gains 1.15 times as much, or
# where 1.8 times as many are no ties.
_SHARP = {"information": 16.0, "ties": 4.0}
_REFRESHED = 400  # times that what is gained is computed anew, over a queue


@dataclass(frozen=True)
class Goal:
    """When a queue ends.

    top: the ranking of so many first models matters; None for all.
    resolution: largest half-width of a 95 % interval, in Elo, of a rating about the mean.
    order: share of pairs of models that are expected to stand in the right order.
    budget: votes.
    """

    top: int | None = None
    resolution: float | None = None
    order: float | None = None
    budget: int | None = None


@dataclass(frozen=True)
class Expected:
    """What is expected after so many votes of the queue.

    half_width: of the widest 95 % interval of a rating that matters, in Elo.
    order: share of pairs of models that matter expected to stand in the right order.
    ties: expected ties among the votes, None where P(tie) is not known.
    """

    votes: int
    half_width: float
    order: float
    ties: float | None


@dataclass(frozen=True)
class Drawn:
    """Pairs in the order to be shown [m]: pair; how many rows could be drawn then, which has a pair
    as often as it may still be shown, and the propensity of each of the pair's; whether it is of
    the random share; and the expected information of the vote.

    path: what is expected on the way; reached: what ended it.
    """

    pair: Ints
    propensity: Floats
    available: Ints
    random: np.ndarray
    information: Floats
    path: list[Expected]
    reached: Literal["resolution", "order", "budget", "all"]


def information(p_tie: Floats, difference: Floats) -> Floats:
    """Fisher information of one vote on the difference of two strengths, where ties are as likely
    as `p_tie` says there (Davidson's model with a parameter of each pair's own).

    A tie says that the difference is small: (1 - t) / 4 · (1 - (1 - t) (2p - 1)²) with t the
    probability of a tie, and p that the first wins where there is none.
    """
    lead = np.tanh(difference / 2)  # 2p - 1
    return (1 - p_tie) / 4 * (1 - (1 - p_tie) * lead**2)


def repeated(shown: Floats) -> Floats:
    """What the next vote on a pair tells, as a part of what the first does, after `shown`."""
    many = np.asarray(shown, np.float64)

    def told(n: Floats) -> Floats:
        return n / (1 + np.maximum(n - 1, 0) * _SHARED)

    return told(many + 1) - told(many)


class State:
    """What votes would do to the covariance of the strengths [k, k], as pairs are drawn.

    Votes are taken to tell alike, as much as those on all pairs do on average: what P(tie) and
    nearness say of single pairs is true of a vote, but a queue that goes by it needs more votes for
    the same ranking (experiments/prioritize/designs.py).

    information: float64 [n pairs] Fisher's of one vote on each.
    """

    def __init__(
        self,
        strengths: Strengths,
        a: Ints,
        b: Ints,
        p_tie: Floats | None,
        goal: Goal,
        design_effect: float,
    ) -> None:
        self.mean, self.a, self.b, self.goal = strengths.mean, a, b, goal
        self.covariance = np.linalg.inv(strengths.precision)
        self.precision = strengths.precision
        difference = self.mean[a] - self.mean[b]
        plain = np.exp(strengths.tie) / (np.exp(strengths.tie) + 2 * np.cosh(difference / 2))
        self.information = information(plain if p_tie is None else p_tie, difference)
        self.told = np.full(len(a), self.information.mean() / design_effect)
        self.weights = self._weights()

    def gains(self, part: Floats) -> Floats:
        """How much one vote on each pair [n] lowers the weighted sum of variances of differences:
        `part` of its information counts.
        """
        turned = self.covariance @ self.weights @ self.covariance
        told = self.told * part
        return told * self._along(turned) / (1 + told * self._along(self.covariance))

    def add(self, pair: int, part: float) -> None:
        """One vote on a pair."""
        told = float(self.told[pair] * part)
        a, b = self.a[pair], self.b[pair]
        column = self.covariance[:, a] - self.covariance[:, b]
        scale = told / (1 + told * float(column[a] - column[b]))
        self.covariance -= scale * np.outer(column, column)

    def standing(self, votes: int, ties: float | None) -> Expected:
        """What is expected of the ratings now."""
        return _standing(self.mean, self.covariance, self.goal.top, votes, ties)

    def random(self, votes: int) -> Expected:
        """What so many votes on pairs drawn at random would be expected to give from the start."""
        k = len(self.mean)
        told = votes * self.told / len(self.told)
        precision = self.precision.copy()
        np.add.at(precision, (self.a, self.a), told)
        np.add.at(precision, (self.b, self.b), told)
        np.add.at(precision, (self.a, self.b), -told)
        np.add.at(precision, (self.b, self.a), -told)
        return _standing(self.mean, np.linalg.solve(precision, np.eye(k)), self.goal.top, votes)

    def _along(self, of: Floats) -> Floats:
        """The quadratic form of each pair's difference."""
        a, b = self.a, self.b
        return of[a, a] + of[b, b] - of[a, b] - of[b, a]

    def _weights(self) -> Floats:
        """A Laplacian [k, k]: pairs of models count alike, or as one of them may be among the first
        `top`.
        """
        counted = np.ones((len(self.mean),) * 2)
        if (top := self.goal.top) is not None and top < len(self.mean):
            ordered = np.sort(self.mean)[::-1]
            edge = (ordered[top - 1] + ordered[top]) / 2
            inside = ndtr((self.mean - edge) / np.sqrt(np.diag(self.covariance)))
            counted = np.maximum(inside[:, None], inside[None])
        np.fill_diagonal(counted, 0)
        return np.diag(counted.sum(1)) - counted


def _spread(covariance: Floats) -> Floats:
    """Standard deviations of differences [k, k]; 1 of a model and itself."""
    variance = np.diag(covariance)
    found = variance[:, None] + variance[None] - 2 * covariance
    np.fill_diagonal(found, 1)
    return np.sqrt(np.maximum(found, 1e-12))


def _standing(
    mean: Floats, covariance: Floats, top: int | None, votes: int, ties: float | None = None
) -> Expected:
    k = len(mean)
    centred = covariance - covariance.mean(0) - covariance.mean(1)[:, None] + covariance.mean()
    matters = np.argsort(-mean, kind="stable")[: top or k]
    half = 1.96 * ELO * float(np.sqrt(np.diag(centred)[matters].max()))
    sure = ndtr(np.abs(mean[:, None] - mean[None]) / _spread(covariance))
    inside = np.zeros(k, bool)
    inside[matters] = True
    counted = np.triu(inside[:, None] | inside[None], 1)
    return Expected(votes, half, float(sure[counted].mean()), ties)


def draw(
    state: State,
    p_tie: Floats | None,
    goal: Goal,
    *,
    by: By,
    random: float,
    shown: Floats,
    left: Ints,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """The queue: pairs drawn one after the other, each at most as often as is `left` [n], until the
    goal is reached; `shown` [n] is how many votes each has already.

    With probability `random` a pair is drawn evenly, else as what a vote on it gains says. Between
    two refreshes of the latter draws go on without what is used up, so that each propensity is
    that of its step.
    """
    rng = np.random.default_rng([seed, 2])
    left, counts = left.copy(), shown.astype(np.float64).copy()
    most = int(left.sum()) if goal.budget is None else min(goal.budget, int(left.sum()))
    size = max(1, -(-most // _REFRESHED))
    parts: list[_Block] = []
    path = [state.standing(0, None if p_tie is None else 0.0)]
    while (done := path[-1].votes) < most and _reached(path[-1], goal) is None:
        chances = _chances(state, p_tie, by, random, left, counts)
        part = _block(rng, chances, left, min(size, most - done), random)
        for pair in part.pair:
            state.add(int(pair), float(repeated(counts[pair])))
            counts[pair] += 1
            left[pair] -= 1
        parts.append(part)
        ties = None if p_tie is None else (path[-1].ties or 0.0) + float(p_tie[part.pair].sum())
        path.append(state.standing(done + len(part.pair), ties))
        if progress is not None:
            progress(path[-1].votes, most)
    return _drawn(parts, state, path, goal)


class _Block(NamedTuple):
    """Draws between two refreshes [m], as in `Drawn`."""

    pair: Ints
    propensity: Floats
    available: Ints
    random: np.ndarray


def _drawn(parts: Sequence[_Block], state: State, path: list[Expected], goal: Goal) -> Drawn:
    none = _Block(*(np.zeros(0, kind) for kind in (np.int64, float, np.int64, bool)))
    whole = _Block(*(np.concatenate(column) for column in zip(*(parts or [none]), strict=True)))
    ended = "budget" if goal.budget == path[-1].votes else "all"
    reached = _reached(path[-1], goal) or ended
    return Drawn(*whole, state.information[whole.pair], path, reached)


def _reached(standing: Expected, goal: Goal) -> Literal["resolution", "order"] | None:
    if goal.resolution is not None and standing.half_width <= goal.resolution:
        return "resolution"
    return "order" if goal.order is not None and standing.order >= goal.order else None


def _chances(
    state: State, p_tie: Floats | None, by: By, random: float, left: Ints, shown: Floats
) -> Floats:
    """The probability that each pair [n] is drawn next."""
    even = left / left.sum()
    if by == "random":
        return even
    part = repeated(shown)
    wanted = state.gains(part) if p_tie is None or by == "information" else (1 - p_tie) * part
    wanted = np.where(left > 0, wanted / wanted.max(), 0.0) ** _SHARP[by]
    return random * even + (1 - random) * wanted / wanted.sum()


def _block(
    rng: np.random.Generator, chances: Floats, left: Ints, size: int, random: float
) -> _Block:
    """Some draws one after the other without putting back: the largest of log chance plus Gumbel
    noise are such draws (Efraimidis & Spirakis 2006; Yellott 1977).
    """
    there = np.flatnonzero(left > 0)
    size = min(size, len(there))
    keys = np.log(chances[there]) + rng.gumbel(size=len(there))
    order = np.argsort(-keys, kind="stable")[:size]
    pair = there[order]
    mine = chances[pair]
    before = np.concatenate([[0.0], np.cumsum(mine)[:-1]])
    propensity = mine / np.maximum(1 - before, 1e-12) / left[pair]
    available = int(left.sum()) - np.arange(size)
    even = random * left[pair] / left.sum()
    return _Block(pair, propensity, available, rng.random(size) < np.minimum(even / mine, 1))
