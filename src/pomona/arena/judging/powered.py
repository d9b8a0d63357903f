"""Ratings by votes of people, by verdicts of a judge, and by both: prediction-powered.

Prediction-powered inference (Angelopoulos et al. 2023; with a tuned weight: 2311.01453) of a
Bradley-Terry model (2402.17826): a few pairs have people's votes H and the judge's verdict F, many
more have the verdict alone. The log-likelihood that is maximised is

    mean over people's pairs of l(H) + w (mean over the others of l(F) - mean over people's of l(F))

whose expectation is that of people's votes for any judge and any weight w from 0 to 1, where those
pairs that people saw were drawn from all. Ties as Davidson's and as halves are exponential
families, whose curvature does not depend on outcomes, so it stays concave with negative counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.arena.judging.results import Estimate
from pomona.arena.ratings.bradley_terry import (
    ELO,
    MEAN,
    Counts,
    Solution,
    cells,
    hessian,
    inverse,
    rated,
    solve,
    tells_ties,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
_LEAST = 0.02  # a weight below which the judge is left out
_FARTHEST = 20.0  # between two models of a pair: of no number of votes that there is


@dataclass(frozen=True)
class Ratings:
    """Strengths [k] in points and their standard errors, NaN where a model has no rating; `weight`
    is that of the judge, `degrees` those of freedom of the intervals. Where nothing varies, as of
    ties alone, errors are NaN too: nothing is known of them.
    """

    points: Floats
    errors: Floats
    weight: float
    degrees: int

    @property
    def half_widths(self) -> Floats:
        """Half of each 95 % interval [k]."""
        from scipy.special import stdtrit

        return float(stdtrit(max(self.degrees, 1), 0.975)) * self.errors

    def estimates(self, counts: NDArray[np.int64]) -> list[Estimate]:
        """Each model's rating with its interval; `counts` [k] are its pairs."""
        rows = zip(self.points, self.half_widths, counts, strict=True)
        return [
            Estimate(float(point), float(point - half), float(point + half), int(n))
            if np.isfinite(half)
            else Estimate(float(point) if np.isfinite(point) else None, n=int(n))
            for point, half, n in rows
        ]


@dataclass(frozen=True)
class _Design:
    """Pairs [p] of models, and which of them are resampled together."""

    k: int
    a: Ints
    b: Ints
    member: Ints

    @classmethod
    def of(cls, k: int, a: Ints, b: Ints, clusters: Sequence[str]) -> _Design:
        _, member = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
        return cls(k, a, b, member)

    def counts(self, weights: Floats) -> Counts:
        """Weights [p, 3] of outcomes summed by pair of models."""
        low, high = np.minimum(self.a, self.b), np.maximum(self.a, self.b)
        seen = np.where((self.a > self.b)[:, None], weights[:, [1, 0, 2]], weights)
        keys, pair = np.unique(low * self.k + high, return_inverse=True)
        sums = np.zeros((len(keys), 3))
        np.add.at(sums, pair, seen)
        return Counts(self.k, keys // self.k, keys % self.k, sums)

    def scores(self, weights: Floats, fit: Solution) -> Floats:
        """Scores of outcomes with weights [p, 3], by strengths and tie parameter, summed by cluster
        [g, k + 1].
        """
        found = cells(fit.strengths[self.a] - fit.strengths[self.b], *fit.model)
        along, tied = (weights * found.d).sum(1), (weights * found.t).sum(1)
        sums = np.zeros((int(self.member.max()) + 1, self.k + 1))
        np.add.at(sums, (self.member, self.a), along)
        np.add.at(sums, (self.member, self.b), -along)
        sums[:, self.k] = np.bincount(self.member, tied, len(sums))
        return sums

    def groups(self, rows: NDArray[np.bool_]) -> int:
        """Clusters with any of these pairs."""
        return len(np.unique(self.member[rows]))


def rate(k: int, a: Ints, b: Ints, outcomes: Floats, clusters: Sequence[str]) -> Ratings:
    """Ratings of k models by shares of outcomes [p, 3] of pairs, each of which counts once, with
    errors clustered by `clusters` [p].
    """
    return _fit(k, a, b, outcomes, np.zeros_like(outcomes), clusters, weight=0.0)


def powered(
    k: int,
    a: Ints,
    b: Ints,
    people: Floats,
    judge: Floats,
    clusters: Sequence[str],
    weight: float | None = None,
) -> Ratings:
    """Ratings of k models by people and judge together.

    people: votes [p, 3] for a, for b, and ties, all 0 where a pair has none; a pair counts once.
    judge: shares of outcomes [p, 3], all 0 without a verdict: then each outcome is as likely, which
        is as valid a guess as any.
    weight: of the judge, 0 to 1; tuned for the smallest variance when left out.
    """
    known = judge.sum(1) > 0
    guessed = np.where(known[:, None], judge, 1 / 3)
    rows = (people.sum(1) > 0) | known
    labels = [label for label, row in zip(clusters, rows, strict=True) if row]
    return _fit(k, a[rows], b[rows], people[rows], guessed[rows], labels, weight)


def _fit(
    k: int, a: Ints, b: Ints, people: Floats, judge: Floats, clusters: Sequence[str],
    weight: float | None,
) -> Ratings:  # fmt: skip
    total = people.sum(1)
    seen = total > 0
    shares = np.divide(people, total[:, None], np.zeros_like(people), where=seen[:, None])
    kept = _rated(k, a, b, shares + (judge if weight != 0 else 0))
    rows = kept[a] & kept[b] & (seen if weight == 0 else True)
    none = Ratings(np.full(k, np.nan), np.full(k, np.nan), 0.0, 0)
    if kept.sum() < 2 or not (rows & seen).any():
        return none
    number = np.cumsum(kept) - 1
    labels = [label for label, row in zip(clusters, rows, strict=True) if row]
    design = _Design.of(int(kept.sum()), number[a[rows]], number[b[rows]], labels)
    found = _Powered(design, shares[rows], judge[rows], seen[rows]).fit(weight)
    if found is None:
        return none
    points, errors = np.full(k, np.nan), np.full(k, np.nan)
    points[kept], errors[kept] = found.points, found.errors
    return Ratings(points, errors, found.weight, found.degrees)


def _rated(k: int, a: Ints, b: Ints, outcomes: Floats) -> NDArray[np.bool_]:
    """Models that neither won nor lost everything [k]."""
    design = _Design.of(k, a, b, ["" for _ in a])
    return np.asarray(rated(design.counts(outcomes), "davidson"))


class _Powered:
    """Outcomes of people and judge [p, 3], and where people voted [p]."""

    def __init__(
        self, design: _Design, people: Floats, judge: Floats, seen: NDArray[np.bool_]
    ) -> None:
        self.design, self.seen = design, seen
        self.n, self.rest = int(seen.sum()), int((~seen).sum())
        self.human = np.where(seen[:, None], people, 0.0)
        # Of what the judge says of the others, less what it says of people's: mean times n.
        scale = self.n / self.rest if self.rest else 0.0
        self.judge = np.where(seen[:, None], -judge, judge * scale)

    def fit(self, weight: float | None) -> Ratings | None:
        """Ratings by a weight, or by the best one; None where there are none."""
        if weight is None:
            weight = self._tuned() if self.rest else 0.0
        fit = self._solved(weight)
        # With few votes a model may have no finite strength by what the judge adds to them.
        while fit is None and weight > 0:
            weight = weight / 2 if weight > _LEAST else 0.0
            fit = self._solved(weight)
        return None if fit is None else self._ratings(fit, weight)

    def _tuned(self) -> float:
        """The best weight, found at strengths that need not be the final ones: any weight is valid,
        so they only have to be near.
        """
        fit = self._solved(0.0) or _finite(self.design.counts(np.abs(self.judge)))
        if fit is None:
            return 0.0
        weight = self._best(fit, 0.0)
        again = self._solved(weight)
        return weight if again is None else self._best(again, weight)

    def _counts(self, weight: float) -> Counts:
        return self.design.counts(self.human + weight * self.judge)

    def _solved(self, weight: float) -> Solution | None:
        return _finite(self._counts(weight))

    def _bread(self, fit: Solution, weight: float) -> Floats:
        k = self.design.k
        found = inverse(hessian(self._counts(weight), fit), k)
        if len(found) == k:  # without ties there is no parameter of them
            found = np.pad(found, (0, 1))
        return found

    def _parts(self, fit: Solution) -> tuple[Floats, Floats]:
        """Centred scores by cluster of people's votes, and of what is added by the judge."""
        ours = np.where(self.seen[:, None], 1.0, 0.0)
        human = self._centred(self.human, fit, self.seen)
        of_seen = self._centred(self.judge * ours, fit, self.seen)
        of_rest = self._centred(self.judge * (1 - ours), fit, ~self.seen)
        return human, of_seen + of_rest

    def _centred(self, weights: Floats, fit: Solution, rows: NDArray[np.bool_]) -> Floats:
        sums = self.design.scores(weights, fit)
        size = np.bincount(self.design.member[rows], minlength=len(sums))
        return sums - size[:, None] * (sums.sum(0) / max(int(rows.sum()), 1))

    def _best(self, fit: Solution, weight: float) -> float:
        """The weight of the smallest sum of variances: a quadratic in it."""
        human, judge = self._parts(fit)
        bread = self._bread(fit, weight)[: self.design.k]
        ours, others = human @ bread.T, judge @ bread.T
        size = float((others**2).sum())
        return max(0.0, min(1.0, -float((ours * others).sum()) / size)) if size > 0 else 0.0

    def _ratings(self, fit: Solution, weight: float) -> Ratings:
        human, judge = self._parts(fit)
        bread = self._bread(fit, weight)[: self.design.k]
        influence = (human + weight * judge) @ bread.T
        groups = self.design.groups(self.seen)
        more = groups / (groups - 1) if groups > 1 else np.nan
        errors = np.sqrt(more * (influence**2).sum(0))
        errors[errors < 1e-9] = np.nan
        return Ratings(MEAN + ELO * fit.strengths, ELO * errors, weight, groups - 1)


def _finite(counts: Counts) -> Solution | None:
    """The strengths, None where they have no end: with more ties and farther strengths the votes
    would become ever more likely.
    """
    if counts.outcomes.min() >= 0 and not tells_ties(counts, "davidson"):
        return None
    fit = solve(counts)
    gaps = np.abs(fit.strengths[counts.first] - fit.strengths[counts.second])
    return fit if fit.converged and gaps.max(initial=0.0) < _FARTHEST else None
