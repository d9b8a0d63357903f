"""Several rewards as one, on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Literal

import numpy as np

from pomona.errors import PomonaError
from pomona.synth.rewards.reward import Floats, Key, Reward, by_row
from pomona.synth.teachers import Candidate, Usage

Scale = Literal["rank", "deviation"]


@dataclass(frozen=True)
class Weighted:
    """The mean of rewards, each with its weight, on one scale.

    Rewards have units of their own: log-probabilities, shares, chrF. scale: "rank" takes of each
    the rank of an answer among those of its row, from 0 for the worst to 1 for the best, ties in
    the middle; it needs nothing, and knows no distances. "deviation" takes the distance to the
    row's mean in standard deviations within rows, which `fit` learns from validation rows, the same
    for all rows: so a clear difference counts more than a small one.

    What one reward does not know of an answer counts neither for nor against it: the weights of the
    others are made larger. An answer that none knows anything of is NaN.
    Raises PomonaError for no reward, and for a weight that is not above 0.
    """

    parts: Sequence[tuple[Reward, float]]
    scale: Scale = "rank"
    deviations: Mapping[str, float] = field(default_factory=dict)
    name: str = "weighted"

    def __post_init__(self) -> None:
        if not self.parts:
            raise PomonaError("has no rewards", where=self.name, remedy="name at least one")
        names = [reward.name for reward, _ in self.parts]
        for reward, weight in self.parts:
            if not 0 < weight < np.inf:
                message, remedy = f"the weight is {weight}", "give a number above 0"
                raise PomonaError(message, where=f"reward {reward.name}", remedy=remedy)
            if names.count(reward.name) > 1:
                remedy = "leave one out"
                raise PomonaError("is there twice", where=f"reward {reward.name}", remedy=remedy)

    @property
    def signature(self) -> str:
        """See `Reward`."""
        parts = " + ".join(
            f"{weight:g}*({reward.signature})"
            + (f"/{self.deviations[reward.name]:.6g}" if reward.name in self.deviations else "")
            for reward, weight in self.parts
        )
        return f"weighted|{self.scale}|{parts}|version:1"

    @property
    def usage(self) -> Usage:
        """See `Reward`: of all parts."""
        return reduce(add, (reward.usage for reward, _ in self.parts))

    @property
    def failures(self) -> Mapping[Key, str]:
        """See `Reward`: of all parts, where several failed the first's."""
        told: dict[Key, str] = {}
        for reward, _ in self.parts:
            told = {key: f"{reward.name}: {why}" for key, why in reward.failures.items()} | told
        return told

    def fit(self, candidates: Sequence[Candidate]) -> Weighted:
        """With fitted parts and, for the scale "deviation", their standard deviations within
        rows. PomonaError where a part tells no two answers of a row apart.
        """
        parts = [(reward.fit(candidates), weight) for reward, weight in self.parts]
        if self.scale == "rank":
            return replace(self, parts=parts)
        deviations: dict[str, float] = {}
        for reward, _ in parts:
            within = _deviation(reward.score(candidates), by_row(candidates))
            if not within > 0:
                message = "tells no two answers of a row apart"
                remedy = "leave it out, or use the scale rank"
                raise PomonaError(message, where=f"reward {reward.name}", remedy=remedy)
            deviations[reward.name] = within
        return replace(self, parts=parts, deviations=deviations)

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`. PomonaError for the scale "deviation" where nothing was fitted."""
        rows = by_row(candidates)
        total, known = np.zeros(len(candidates)), np.zeros(len(candidates))
        for reward, weight in self.parts:
            if self.scale == "rank":
                values = _ranks(reward.score(candidates), rows)
            elif reward.name in self.deviations:
                values = _centred(reward.score(candidates), rows) / self.deviations[reward.name]
            else:
                remedy = "call `fit` with candidates on validation rows, or use the scale rank"
                raise PomonaError("has no deviations yet", where=self.name, remedy=remedy)
            told = ~np.isnan(values)
            total[told] += weight * values[told]
            known[told] += weight
        return np.divide(total, known, out=np.full(len(candidates), np.nan), where=known > 0)


def _ranks(scores: Floats, rows: Sequence[Sequence[int]]) -> Floats:
    """Ranks within rows from 0 to 1, the mean of their places for equal ones; 0.5 for the only
    known one of a row, NaN for unknown ones.
    """
    ranks = np.full(len(scores), np.nan)
    for places in rows:
        known = [at for at in places if not np.isnan(scores[at])]
        values = scores[known]
        below = (values[:, None] > values).sum(1) + ((values[:, None] == values).sum(1) - 1) / 2
        ranks[known] = below / (len(known) - 1) if len(known) > 1 else 0.5
    return ranks


def _centred(scores: Floats, rows: Sequence[Sequence[int]]) -> Floats:
    centred = np.full(len(scores), np.nan)
    for places in rows:
        known = [at for at in places if not np.isnan(scores[at])]
        if known:
            centred[known] = scores[known] - scores[known].mean()
    return centred


def _deviation(scores: Floats, rows: Sequence[Sequence[int]]) -> float:
    """The standard deviation within rows, pooled over those with two known scores or more."""
    centred = _centred(scores, rows)
    known = [sum(not np.isnan(scores[at]) for at in places) for places in rows]
    free = sum(count - 1 for count in known if count > 1)
    return float(np.sqrt(np.nansum(centred**2) / free)) if free else 0.0
