"""A fit behind ratings: which votes count, what hangs together, strengths and their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import (
    Counts,
    Ties,
    check_connected,
    check_ties,
    counts_of,
    hessian,
    inverse,
    points,
    rated,
    solve,
)
from pomona.arena.ratings.clusters import (
    UNITS,
    VOTERS,
    clustered,
    lie_in,
    units_of,
    usual,
    voters_of,
)
from pomona.arena.ratings.intervals import errors
from pomona.arena.ratings.results import Clustering
from pomona.arena.votes import Votes
from pomona.errors import PomonaError, nearest

NONE = "none"  # nothing hangs together
_FEW = 30  # clusters, of which errors say little (Cameron & Miller 2015, VI.A)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How votes are rated; see `fit`."""

    ties: Ties
    cluster: str | None
    level: float
    anchor: tuple[str, float] | None
    style: tuple[str, ...]
    resamples: int
    seed: int


def finite(counts: Counts, votes: Votes, ties: Ties = "davidson") -> NDArray[np.bool_]:
    """Which models [k] of counted votes have a finite strength, two at least.

    Raises:
        PomonaError: no chain of votes connects all models, or no two have one.
    """
    check_connected(counts, votes.models, votes.where, ties)
    there = rated(counts, ties)
    if there.sum() < 2:
        message = "no two models have each won against the other, through others or by a tie"
        remedy = "collect more votes: a strength without wins or losses is infinite"
        raise PomonaError(message, where=votes.where, remedy=remedy)
    return there


class Fitted:
    """Strengths of the models of some votes.

    votes, counts: those between models whose strength is finite, `names`.
    unrated: of the other models, why.
    kinds: what votes hang together by, none where each is by itself.
    anchor: index and rating of the model that has a given one.
    """

    def __init__(self, votes: Votes, settings: Settings) -> None:
        self.settings, self.all, self.notes = settings, votes, list(votes.notes)
        self.unrated: dict[str, str] = {}
        self.votes, self.counts = self._finite(self._counted(votes))
        check_ties(self.counts, votes.where, settings.ties)
        self.names = self.votes.models
        self.solution = solve(self.counts, settings.ties)
        self.anchor = self._anchor()
        self.units = units_of(self.votes)
        self.by = self._by()
        self.kinds = [clustered(self.votes, one) for one in self.by]
        self.bread = inverse(hessian(self.counts, self.solution), self.counts.models)
        self.errors = errors(self.counts, self.solution, self.kinds, self.bread)
        self._note_few()

    @property
    def ratings(self) -> Floats:
        """[k] points."""
        return points(self.solution.strengths, self.anchor)

    def _counted(self, votes: Votes) -> Votes:
        """The votes that count; without ties a model may have none."""
        if self.settings.ties != "drop":
            return votes
        some = votes.take(votes.outcome < 2)
        if not len(some):
            remedy = "give another --ties, or collect votes until some are none"
            raise PomonaError("all votes are ties", where=votes.where, remedy=remedy)
        for model in set(votes.models) - set(some.models):
            self.unrated[model] = "all of its votes are ties, which do not count"
        return some

    def _finite(self, votes: Votes) -> tuple[Votes, Counts]:
        """The votes between models that have a finite strength; of the others is said why not."""
        counts = counts_of(votes)
        there = finite(counts, votes, self.settings.ties)
        if there.all():
            return votes, counts
        wins = counts.wins
        for index in np.flatnonzero(~there):
            won, lost = wins[index].sum(), wins[:, index].sum()
            told = f"won all {won:,.0f} of its votes" if not lost else "won or lost all against"
            told = f"lost all {lost:,.0f} of its votes" if not won else told
            if won and lost:
                told += " those that are rated"
            self.unrated[votes.models[index]] = told
        some = votes.take(there[votes.a] & there[votes.b])
        have = f"{len(self.unrated)} models have no rating, since they"
        have = "1 model has no rating, since it" if len(self.unrated) == 1 else have
        self.notes.append(f"{have} won or lost all votes that could tell: it would be infinite")
        return some, counts_of(some)

    def _anchor(self) -> tuple[int, float] | None:
        if self.settings.anchor is None:
            return None
        model, rating = self.settings.anchor
        if not math.isfinite(rating):
            raise PomonaError(f"{rating} is no rating", where="anchor", remedy="give points")
        if model not in self.names:
            told = self.unrated.get(model)
            message = f'there is no rating of "{model}"' + (f": it {told}" if told else "")
            raise PomonaError(message, where="anchor", remedy=nearest(model, self.names))
        return self.names.index(model), float(rating)

    def _by(self) -> list[str]:
        """What votes hang together by: what was asked for; or the finest unit that is repeated, and
        voters beside it.
        """
        asked = self.settings.cluster
        if asked == NONE:
            return []
        if asked is not None:
            return self._crossing(asked.split("+"))
        if not self.units:
            self.notes.append(
                "no column says which votes hang together (item, prompt, voter): each is taken for "
                "independent, which may be too sure"
            )
            return []
        if "voter" in self.units[1:] and (voters := voters_of(self.votes)) < VOTERS:
            are = "1 voter is" if voters == 1 else f"{voters} voters are"
            self.notes.append(
                f"{are} too few to stand for others: the intervals are about what would have been "
                "said of other votes"
            )
        return usual(self.votes, self.units)

    def _crossing(self, kinds: list[str]) -> list[str]:
        """The kinds of clusters that were asked for.

        Raises PomonaError where those of one lie within those of another: their covariances would
        be added where one of them already has the other.
        """
        for fine, coarse in permutations(kinds, 2):
            if lie_in(self.votes, fine, coarse):
                message = f"each {fine} lies in one {coarse}, so that the two do not cross"
                if fine == coarse:
                    message = f'"{fine}" stands twice'
                rest = "+".join(one for one in dict.fromkeys(kinds) if one != fine) or fine
                raise PomonaError(message, where="cluster", remedy=f"give --cluster {rest}")
        return kinds

    def _note_few(self) -> None:
        found = self.errors
        if found is None:
            what = " and ".join(_plural(one) for one in self.by) or "votes"
            self.notes.append(f"too few {what} tell how sure the ratings are")
            return
        few = [one for one in self.kinds if one.units < _FEW]
        for one in few:
            self.notes.append(
                f"{one.units} {_plural(one.by)} are few: how sure the ratings are is itself not "
                "sure"
            )

    def clusterings(self) -> list[Clustering]:
        """What each unit does to the plain sandwich, beside votes that are each by itself."""
        alone = errors(self.counts, self.solution, None, self.bread)
        known = {one.by: one for one in self.kinds}
        found = []
        for unit in dict.fromkeys([*self.units, *known]):
            kind = known.get(unit) or clustered(self.votes, unit)
            got = errors(self.counts, self.solution, kind, self.bread, leverage=False)
            if got is None or alone is None:
                found.append(Clustering(unit, kind.units, None, None, None))
                continue
            there = alone.standard > 0
            ratio = got.standard[there] / alone.standard[there]
            told = (np.median(ratio), ratio.min(), ratio.max()) if there.any() else (None,) * 3
            told = [None if one is None else float(one) for one in told]
            found.append(Clustering(unit, kind.units, *told))
        return found


def _plural(unit: str) -> str:
    return f"{unit}s" if unit in (*UNITS, "vote") else f'values of "{unit}"'
