"""What a fit says: a row a model, best first, and what all of them rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import ELO, Counts, Solution
from pomona.arena.ratings.intervals import Errors, critical
from pomona.errors import PomonaError, nearest
from pomona.pages import UNKNOWN

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RatedModel:
    """A model's place. Numbers are None where the votes do not tell them, and `why` says why.

    rating: points, 400 to a factor of ten in the odds; std_error, ci_low, ci_high: of its distance
        to the mean of all, for this model alone.
    rank: 1 + models whose lower bound is above this one's upper bound.
    simultaneous_low, simultaneous_high: bounds that hold for all models at once.
    rank_low, rank_high: best and worst rank that these leave.
    lead, lead_low, lead_high: rating minus that of the next model, with its own interval.
    votes, wins, losses, ties: of the model, whatever the model of ties makes of them.
    bootstrap_low, bootstrap_high: from resamples, where there are any.
    style_rating, style_low, style_high, style_rank: with style held equal, where that was asked.
    category: of which votes; None for all.
    """

    model: str
    rating: float | None
    ci_low: float | None
    ci_high: float | None
    rank: int | None
    std_error: float | None
    simultaneous_low: float | None
    simultaneous_high: float | None
    rank_low: int | None
    rank_high: int | None
    lead: float | None
    lead_low: float | None
    lead_high: float | None
    votes: int
    wins: int
    losses: int
    ties: int
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    style_rating: float | None = None
    style_low: float | None = None
    style_high: float | None = None
    style_rank: int | None = None
    organisation: str | None = None
    licence: str | None = None
    category: str | None = None
    why: str | None = None

    @property
    def ranks(self) -> str:
        """`1` or `2–5`: the ranks that the intervals of the whole board leave."""
        if self.rank_low is None or self.rank_high is None:
            return UNKNOWN
        low, high = self.rank_low, self.rank_high
        return str(low) if low == high else f"{low}–{high}"


@dataclass(frozen=True)
class Clustering:
    """How much larger standard errors are if votes hang together by `by`, than if each were by
    itself: the median, least and most over models; None where too few clusters say nothing.
    """

    by: str
    clusters: int
    median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class StyleEffect:
    """By how many points a standard deviation more of a covariate raises an answer's chances."""

    name: str
    points: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Ratings:
    """Ratings of models, best first, those without one last.

    n: votes that count.
    tie: nu of Davidson or eta of Rao and Kupper; None where the model of ties has none.
    cluster: what the errors are clustered by, vote where each is one, None where there are none.
    clusterings: of each unit that the votes name, what it does to the errors.
    stability: [k, k] of rated models in order of rows, the share of resamples, or without any of
        draws from the distribution of the ratings, in which the row's model has rank 1 to k.
    categories: ratings of the votes of each category.
    names, counts, solution, errors: of the models that are rated, by which all else is computed.
    """

    rows: Sequence[RatedModel]
    ties: str
    tie: float | None
    n: int
    cluster: str | None
    clusterings: Sequence[Clustering]
    style: Sequence[StyleEffect]
    stability: Floats
    categories: Mapping[str, Ratings]
    converged: bool
    grad_norm: float
    level: float
    notes: Sequence[str]
    signature: str
    seed: int
    names: Sequence[str] = field(repr=False)
    counts: Counts = field(repr=False)
    solution: Solution = field(repr=False)
    errors: Errors | None = field(repr=False)

    def probability(self, first: str, second: str) -> tuple[float, float, float]:
        """P that the first wins, that the second does, and of a tie, by the model of ties fitted.

        Raises:
            PomonaError: a model is not rated.
        """
        a, b = self._index(first), self._index(second)
        found = self.solution.probabilities(self._strengths(a) - self._strengths(b))
        return float(found[0, 0]), float(found[0, 1]), float(found[0, 2])

    def difference(self, first: str, second: str) -> tuple[float, float | None, float | None]:
        """The first model's rating minus the second's, with the ends of its interval.

        Raises:
            PomonaError: a model is not rated.
        """
        a, b = self._index(first), self._index(second)
        told = float((self._strengths(a) - self._strengths(b))[0] * ELO)
        if self.errors is None:
            return told, None, None
        degrees = float(min(self.errors.degrees[a], self.errors.degrees[b]))
        half = float(critical(degrees, self.level)) * self.errors.of_difference(a, b) * ELO
        return (told, told - half, told + half) if np.isfinite(half) else (told, None, None)

    def wins(self) -> Floats:
        """P that the row's model beats the column's, [k, k] of `names`."""
        difference = self.solution.strengths[:, None] - self.solution.strengths[None, :]
        return self.solution.probabilities(difference)[..., 0]

    def lines(self) -> list[str]:
        """What votes hang together by and what that does to the errors, and how often there are
        ties, in words.
        """
        told = []
        if self.clusterings:
            units = ", ".join(
                f"{one.by} {UNKNOWN} ({one.clusters:,} of them)"
                if one.median is None
                else f"{one.by} ×{one.median:.2f} ({one.low:.2f} to {one.high:.2f}; "
                f"{one.clusters:,} of them)"
                for one in self.clusterings
            )
            by = "votes, each by itself" if self.cluster == "vote" else self.cluster or ""
            by = by.replace("+", " and ")
            told.append(
                "standard errors beside those of votes that are each by itself, median and range "
                f"over models: by {units}; "
                + (f"the intervals are by {by}" if by else "there are no intervals")
            )
        if self.tie is not None:
            share = self.solution.probabilities(np.zeros(1))[0, 2]
            name = "nu" if self.ties == "davidson" else "eta"
            told.append(
                f"two equal models tie in {share:.0%} of votes ({name} {self.tie:.3f}, {self.ties})"
            )
        return told

    def _strengths(self, index: int) -> Floats:
        return self.solution.strengths[index : index + 1]

    def _index(self, model: str) -> int:
        if model not in self.names:
            remedy = nearest(model, self.names)
            raise PomonaError(f'there is no rating of "{model}"', where="model", remedy=remedy)
        return list(self.names).index(model)

    def to_json(self) -> list[dict[str, Any]]:
        """A row a model, those of all votes first, each with what its numbers rest on."""
        rests = {
            "n": self.n,
            "level": self.level,
            "converged": self.converged,
            "grad_norm": self.grad_norm,
            "signature": self.signature,
            "seed": self.seed,
        }
        rows = [{**asdict(row), **rests} for row in self.rows]
        return rows + [row for one in self.categories.values() for row in one.to_json()]
