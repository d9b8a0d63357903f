"""What is believed of the models' strengths while votes are few: Bradley-Terry with a prior that
the answers themselves suggest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pomona.arena.prioritizing.logistic import standard
from pomona.arena.prioritizing.pairs import Floats, Pairs
from pomona.arena.ratings.bradley_terry import Counts, Solution, counts_of, gradient, hessian
from pomona.arena.votes import Votes

_ROUNDS = 40
_LEAST = 0.01  # variance of strengths about what answers say: 40 points of Elo


@dataclass(frozen=True)
class Strengths:
    """Strengths in natural units of the log odds, of mean 0.

    mean: float64 [k]; precision: float64 [k, k] of the votes and the prior together, by which the
        queue plans: the prior's weights are taken for known.
    prior: float64 [k] what answers alone say; sd: how far strengths lie from it.
    weights: how much a standard deviation of each of the models' averages says.
    tie: ln nu of Davidson's model.
    covariance: float64 [k, k] of the strengths, with what is not known of the weights.
    """

    mean: Floats
    precision: Floats
    prior: Floats
    sd: float
    weights: Mapping[str, float]
    tie: float
    covariance: Floats


def counts_on(models: list[str], votes: Votes, weights: Floats | None = None) -> Counts:
    """The votes' counts with models numbered as in `models`, which may have more."""
    counts, place = counts_of(votes, weights), {name: at for at, name in enumerate(models)}
    number = np.array([place[name] for name in votes.models], np.intp)
    first, second = number[counts.first], number[counts.second]
    turned = first > second
    outcomes = np.where(turned[:, None], counts.outcomes[:, [1, 0, 2]], counts.outcomes)
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((high, low))
    return Counts(len(models), low[order], high[order], outcomes[order])


def averages(pairs: Pairs, answers: Mapping[str, Floats], models: list[str]) -> Floats:
    """For each model the average of each column of answers [k, c], each within its prompt; 0 for a
    model without answers.
    """
    place = {name: at for at, name in enumerate(models)}
    owner = np.array([place[name] for name in pairs.models], np.int64)[pairs.answer_model]
    many = np.maximum(np.bincount(owner, minlength=len(models)), 1)
    found = [
        np.bincount(owner, _within(values, pairs), len(models)) / many
        for values in answers.values()
    ]
    return standard(found) if found else np.zeros((len(models), 0))


def _within(values: Floats, pairs: Pairs) -> Floats:
    """Values of answers, less their prompt's mean, by its standard deviation."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    many = np.maximum(np.bincount(pairs.answer_prompt, known), 1)
    mean = np.bincount(pairs.answer_prompt, filled) / many
    off = np.where(known, filled - mean[pairs.answer_prompt], 0.0)
    spread = np.sqrt(np.bincount(pairs.answer_prompt, off**2) / many)
    return off / np.where(spread > 1e-9, spread, 1)[pairs.answer_prompt]


def believe(
    counts: Counts, told: Floats, names: list[str], design_effect: float = 1.0
) -> Strengths:
    """The most likely strengths with a normal prior about `told` [k, c] times weights, whose own
    prior is standard normal; the prior's variance and the weights come from the votes (expectation
    and maximisation, as of Fay & Herriot 1979).

    design_effect: how many times larger variances are than those of independent votes.
    """
    k = counts.models
    solution = _start(counts)
    weights, variance = np.zeros(told.shape[1]), 0.5
    precision = covariance = np.eye(k)
    for _ in range(_ROUNDS):
        solution, step = _nearer(counts, solution, told @ weights, variance / design_effect)
        curve = hessian(counts, solution)[:k, :k] / design_effect
        precision = curve + np.eye(k) / variance
        # Of weights that are normal about 0, strengths are so too, with this covariance.
        about = variance * np.eye(k) + told @ told.T
        covariance = np.linalg.inv(curve + np.linalg.inv(about))
        weights, updated = _suggested(told, solution.strengths, precision, variance)
        done = step < 1e-4 and abs(np.log(updated / variance)) < 1e-2
        variance = updated
        if done:
            break
    return Strengths(
        solution.strengths - solution.strengths.mean(),
        precision,
        told @ weights,
        float(np.sqrt(variance)),
        dict(zip(names, map(float, weights), strict=True)),
        -np.inf if solution.tie is None else solution.tie,
        covariance,
    )


def _start(counts: Counts) -> Solution:
    ties, total = counts.outcomes[:, 2].sum(), counts.outcomes.sum()
    tie = float(np.log(2 * ties / max(total - ties, 1))) if ties else None
    return Solution(np.zeros(counts.models), "davidson", tie, 0.0, 0.0, False, 0)


def _nearer(
    counts: Counts, solution: Solution, prior: Floats, variance: float
) -> tuple[Solution, float]:
    """A step of Newton to the most likely strengths, and its length."""
    k = counts.models
    slope, curve = gradient(counts, solution), hessian(counts, solution)
    slope[:k] -= (solution.strengths - prior) / variance
    curve[np.arange(k), np.arange(k)] += 1 / variance
    if solution.tie is not None and not counts.outcomes[:, :2].any():
        # Of ties alone their parameter has no best value: it stays.
        slope[k], curve[k], curve[:, k], curve[k, k] = 0.0, 0.0, 0.0, 1.0
    step = np.linalg.solve(curve, slope)
    step *= min(1.0, 2 / max(float(np.abs(step).max()), 1e-12))
    tie = None if solution.tie is None else solution.tie + float(step[k])
    moved = Solution(solution.strengths + step[:k], "davidson", tie, 0.0, 0.0, False, 0)
    return moved, float(np.abs(step).max())


def _suggested(
    told: Floats, strengths: Floats, precision: Floats, variance: float
) -> tuple[Floats, float]:
    """What the answers say of strengths: weights [c], and the variance about it."""
    gram = told.T @ told + variance * np.eye(told.shape[1])
    weights = np.linalg.solve(gram, told.T @ strengths)
    rest = strengths - told @ weights
    square = float(rest @ rest + np.trace(np.linalg.inv(precision)))
    return weights, max(square / len(strengths), _LEAST)
