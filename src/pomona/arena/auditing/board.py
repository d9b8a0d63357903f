"""The board that is audited: its fit, and what one vote, or a cluster of votes, moves in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import (
    ELO,
    Counts,
    Solution,
    Ties,
    check_ties,
    components,
    counts_of,
    hessian,
    inverse,
    scores,
    solve,
)
from pomona.arena.ratings.clusters import clustered, usual
from pomona.arena.ratings.fitted import finite
from pomona.arena.ratings.intervals import Errors, errors
from pomona.arena.votes import Votes
from pomona.errors import PomonaError

ALPHA = 0.05  # chance of a false alarm of each audit
FEWEST = 30  # clusters for errors by them to be believed
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Board:
    """A fit to votes of models that all have finite ratings.

    bread: [k + t, k + t] the inverse Hessian, t being 1 where ties have a parameter.
    units: what several votes share, finest first: its name and the number of each vote's [n].
    """

    votes: Votes
    counts: Counts
    solution: Solution
    bread: Floats
    units: dict[str, Codes]
    left_out: tuple[str, ...]

    @property
    def k(self) -> int:
        """Models."""
        return len(self.votes.models)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Models [k], best first."""
        return np.argsort(-self.solution.strengths, kind="stable")

    @cached_property
    def scores(self) -> tuple[Floats, Floats]:
        """Scores of one vote of each row [n], by its difference and by the parameter of ties."""
        return scores(self.votes, self.solution)

    @property
    def scored(self) -> list[tuple[NDArray[Any], Floats]]:
        """Where the scores of each row [n] go in the gradient, and what they are."""
        along, tied = self.scores
        columns = [(self.votes.a, along), (self.votes.b, -along)]
        if len(self.bread) > self.k:
            columns.append((np.full(len(along), self.k), tied))
        return columns

    @cached_property
    def curvatures(self) -> tuple[Floats, Floats]:
        """Minus the second derivatives of one vote of each row [n]: by its difference twice, and by
        that and the parameter of ties.
        """
        votes, strengths = self.votes, self.solution.strengths
        outcome = np.minimum(votes.outcome, 2)[:, None].astype(np.intp)
        found = self.solution.cells(strengths[votes.a] - strengths[votes.b])
        parts = (np.take_along_axis(one, outcome, -1)[:, 0] for one in (found.dd, found.dt))
        return next(parts), next(parts)

    def contrast(self, first: int, second: int) -> Floats:
        """What the gradient's entries move in the difference of two strengths [k + t]."""
        return self.bread[first] - self.bread[second]

    @cached_property
    def errors(self) -> Errors | None:
        """How sure strengths are, clustered as `fit` does: by the finest of items and prompts, and
        by voters where there are ten; None where votes are too few.
        """
        clusters = [clustered(self.votes, kind) for kind in usual(self.votes, list(self.units))]
        return errors(self.counts, self.solution, clusters or None, self.bread)

    def degrees(self, *models: int) -> float:
        """Degrees of freedom of what is said of models."""
        assert self.errors is not None
        return float(np.broadcast_to(self.errors.degrees, self.k)[list(models)].min())

    def difference(self, first: int, second: int) -> Difference:
        """How far one model is above another, in Elo."""
        strengths = self.solution.strengths
        gap = float(strengths[first] - strengths[second])
        error = 0.0 if self.errors is None else self.errors.of_difference(first, second)
        if error <= 0:
            return Difference(gap * ELO, None, None, None)
        return Difference(*interval(gap, error, self.degrees(first, second)))


@dataclass(frozen=True)
class Difference:
    """A number in Elo with its 95 % interval, and the p-value that it is 0 (two-sided); None where
    nothing is known of the error.
    """

    elo: float
    low: float | None
    high: float | None
    p_value: float | None


@dataclass(frozen=True)
class Change:
    """How a model's rating changes against the others, in Elo with its 95 % interval. p_holm:
    corrected for the number of models.
    """

    model: str
    elo: float
    low: float
    high: float
    p_value: float
    p_holm: float


def interval(value: float, error: float, degrees: float) -> tuple[float, float, float, float]:
    """A number of natural units in Elo, the ends of its 95 % interval, and the p-value that it is
    0, by Student's t.
    """
    from scipy.special import stdtr, stdtrit

    degrees = min(degrees, 1e9)
    wide = float(stdtrit(degrees, 1 - ALPHA / 2)) * error
    p = float(2 * stdtr(degrees, -abs(value) / error))
    return float(value * ELO), float((value - wide) * ELO), float((value + wide) * ELO), p


def by_model(votes: Votes, values: Floats) -> Floats:
    """Sums of a number of each row [n] over models [k]: added for a, taken off for b."""
    k = len(votes.models)
    return np.bincount(votes.a, values, k) - np.bincount(votes.b, values, k).astype(np.float64)


def laplacian(votes: Votes, values: Floats) -> Floats:
    """The matrix [k, k] whose quadratic form sums a number of each row [n] times the square of the
    difference of both models.
    """
    k = len(votes.models)
    square = np.bincount(votes.a.astype(np.int64) * k + votes.b, values, k * k).reshape(k, k)
    square = square + square.T
    return np.diag(square.sum(1)) - square.astype(np.float64)


def summed(
    columns: Sequence[tuple[NDArray[Any], Floats]], count: Codes, codes: Codes | None, size: int
) -> Floats:
    """The sum over clusters of u u', u being the sum of a cluster's scores [size, size]: each of
    `columns` gives a place and the score there of one vote of each row [n].
    """
    from scipy.sparse import csr_matrix

    rows = np.arange(len(count)) if codes is None else codes
    weight = np.sqrt(count) if codes is None else count
    values = np.concatenate([value * weight for _, value in columns])
    where = np.concatenate([place for place, _ in columns])
    clusters = int(rows.max()) + 1
    sums = csr_matrix((values, (np.tile(rows, len(columns)), where)), (clusters, size))
    correction = 1.0 if codes is None else clusters / max(clusters - 1, 1)
    return (sums.T @ sums).toarray() * correction


def board_of(votes: Votes, ties: Ties, units: dict[str, Codes] | None = None) -> Board:
    """Fit the models that have finite ratings; the others are named in `left_out`.

    Raises:
        PomonaError: the votes do not connect all models, or no two have finite ratings.
    """
    counts = counts_of(votes)
    there, names = finite(counts, votes, ties), np.array(votes.models, object)
    if not there.all():
        votes = votes.take(there[votes.a] & there[votes.b])
        counts = counts_of(votes)
    check_ties(counts, votes.where, ties)
    solution = solve(counts, ties)
    return Board(
        votes,
        counts,
        solution,
        inverse(hessian(counts, solution), len(votes.models)),
        {},
        tuple(names[~there]),
    )


@dataclass(frozen=True)
class Moved:
    """What leaving votes out does to the board.

    elo: the largest change of a rating against the mean; model: whose.
    places: models that change their place among those on both boards; lost: models that are no
        longer rated.
    """

    votes: int
    elo: float
    model: str
    places: int
    first: str
    first_before: str
    lost: list[str]


def moved_by(board: Board, keep: NDArray[np.bool_]) -> Moved | None:
    """Leave the votes out that `keep` [n] does not name; None where no board is left."""
    votes = board.votes.take(keep)
    found = _after(votes, board.solution.ties) if len(votes) else None
    if found is None:
        return None
    before = {name: board.solution.strengths[i] for i, name in enumerate(board.votes.models)}
    names = list(found.votes.models)
    old = np.array([before[name] for name in names])
    change = (found.solution.strengths - (old - old.mean())) * ELO
    most = int(np.argmax(np.abs(change)))
    order = np.argsort(-old, kind="stable")
    return Moved(
        int(board.votes.n - votes.n),
        float(change[most]),
        names[most],
        int(np.sum(order != found.order)),
        names[int(found.order[0])],
        board.votes.models[int(board.order[0])],
        sorted(set(board.votes.models) - set(names)),
    )


def _after(votes: Votes, ties: Ties) -> Board | None:
    """The board of what is left, or of its largest connected part."""
    part = components(counts_of(votes), ties=ties) == 0
    try:
        return board_of(votes.take(part[votes.a] & part[votes.b]), ties)
    except PomonaError:
        return None
