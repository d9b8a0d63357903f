"""The choice among what is found, and what a model drew beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError
from pomona.memory.neighbours import Found
from pomona.tasks import Metric

_PAIRS = 1 << 16  # pairs of answers that are compared at once
STRENGTH, ABOVE = 10.0, 0.1  # chosen on validation items of `ui`, see the notebook


@dataclass(frozen=True)
class Chosen:
    """For each of n items its candidates `[n][k]`, their `scores` (higher is better), and which one
    is taken: the answer that the items' `texts` are.
    """

    candidates: list[list[str]]
    scores: list[NDArray[np.float64]]
    picks: list[int]

    @property
    def texts(self) -> list[str]:
        """The chosen answers."""
        return [pool[pick] for pool, pick in zip(self.candidates, self.picks, strict=True)]


def consensus(
    metric: Metric, answers: Sequence[Sequence[str]], weights: Sequence[ArrayLike]
) -> NDArray[np.intp]:
    """For each of n pools the answer that is best against all of its pool as references, each with
    its weight; the first of several.

    Minimum-Bayes-risk choice (Eikema & Aziz 2020) with the neighbours' similarities in place of a
    model's probabilities. `answers` and `weights` are `[n][k]`, where k may vary.
    """
    tables = zip(_utilities(metric, answers), weights, strict=True)
    return np.array([int(np.argmax(table @ np.asarray(w, np.float64))) for table, w in tables], int)


def weigh(
    similarity: ArrayLike, *, strength: float = STRENGTH, above: float = ABOVE
) -> NDArray[np.float64]:
    """What a neighbour's answer counts as evidence, where a model's own answer counts 1: `strength`
    times what its similarity has above `above`, and nothing below.
    """
    return np.maximum(strength * (np.asarray(similarity, np.float64) - above), 0)


def choose_among(
    metric: Metric,
    pools: Sequence[Sequence[str]],
    neighbours: Sequence[Sequence[str]],
    similarity: Sequence[ArrayLike],
    *,
    sources: Sequence[str] | None = None,
    far: float | None = None,
    strength: float = STRENGTH,
    above: float = ABOVE,
) -> Chosen:
    """One answer to each of n items: the candidate with the highest mean utility by the metric
    against the evidence.

    Candidates are an item's pool, then the answers of its neighbours, then its source where
    `sources` are given; evidence are the pool, each with weight 1, and the neighbours with what
    `weigh` gives to their similarity (nearest first). Where the nearest is below `far`, the source
    is taken. Scores that agree to nine decimals are equal, and the first of equals is taken.
    `pools` may be empty: then it is a choice among neighbours. Raises PomonaError for an item
    without any candidate.
    """
    candidates, weights, far_off = [], [], []
    for at, (pool, near, like) in enumerate(zip(pools, neighbours, similarity, strict=True)):
        source = [] if sources is None else [sources[at]]
        own, theirs = np.ones(len(pool)), weigh(like, strength=strength, above=above)
        candidates.append([*pool, *near, *source])
        weights.append(np.concatenate([own, theirs, np.zeros(len(source))]))
        nearest = float(np.max(like)) if len(near) else -1.0
        far_off.append(bool(source) and far is not None and nearest < far)
    for at, pool in enumerate(candidates):
        if not pool:
            remedy = "give its source as a candidate, or leave it out"
            raise PomonaError("has no candidate", where=f"item {at + 1}", remedy=remedy)
    scores, picks = [], []
    for table, weight, off in zip(_utilities(metric, candidates), weights, far_off, strict=True):
        total = weight.sum()
        scores.append(table @ weight / (total if total else 1))
        picks.append(len(weight) - 1 if off else int(np.argmax(np.round(scores[-1], 9))))
    return Chosen(candidates, scores, picks)


def look_up(found: Found, answers: Sequence[str], *, least: float) -> list[str | None]:
    """The answer of the nearest row of the memory to each text where its similarity is at least
    `least`; None where a model shall answer. `answers` are those of the memory's rows.
    """
    return [
        answers[int(near[0])] if len(near) and like[0] >= least else None
        for near, like in zip(found.rows, found.similarity, strict=True)
    ]


def _utilities(metric: Metric, pools: Sequence[Sequence[str]]) -> Iterator[NDArray[np.float64]]:
    """For each pool the value of every answer against every one as its reference `[k, k]`, higher
    being better. Equal answers are compared once.
    """
    sign, start = (1 if metric.higher_is_better else -1), 0
    distinct = [list(dict.fromkeys(pool)) for pool in pools]
    while start < len(pools):
        end, pairs = start + 1, len(distinct[start]) ** 2
        while end < len(pools) and pairs + len(distinct[end]) ** 2 <= _PAIRS:
            pairs += len(distinct[end]) ** 2
            end += 1
        part = distinct[start:end]
        ours = [answer for pool in part for answer in pool for _ in pool]
        theirs = [answer for pool in part for _ in pool for answer in pool]
        values = sign * metric.aggregate(metric.statistics(ours, theirs))
        ends = np.cumsum([len(pool) ** 2 for pool in part])[:-1]
        for at, each in enumerate(np.split(values, ends), start):
            number = {answer: i for i, answer in enumerate(distinct[at])}
            places = [number[answer] for answer in pools[at]]
            yield each.reshape(len(number), len(number))[np.ix_(places, places)]
        start = end
