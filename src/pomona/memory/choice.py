"""The choice among what is found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.tasks import Metric

_PAIRS = 1 << 16  # pairs of answers that are compared at once


def consensus(
    metric: Metric, answers: Sequence[Sequence[str]], weights: Sequence[ArrayLike]
) -> NDArray[np.intp]:
    """For each of n pools the answer that is best against all of its pool as references, each with
    its weight; the first of several.

    Minimum-Bayes-risk choice (Eikema & Aziz 2020) with the neighbours' similarities in place of a
    model's probabilities. `answers` and `weights` are `[n][k]`, where k may vary.
    """
    sign, picks, start = (1 if metric.higher_is_better else -1), [], 0
    while start < len(answers):
        end, pairs = start + 1, len(answers[start]) ** 2
        while end < len(answers) and pairs + len(answers[end]) ** 2 <= _PAIRS:
            pairs += len(answers[end]) ** 2
            end += 1
        pools = answers[start:end]
        ours = [answer for pool in pools for answer in pool for _ in pool]
        theirs = [answer for pool in pools for _ in pool for answer in pool]
        values = sign * metric.aggregate(metric.statistics(ours, theirs))
        ends = np.cumsum([len(pool) ** 2 for pool in pools])[:-1]
        for pool, each, weight in zip(
            pools, np.split(values, ends), weights[start:end], strict=True
        ):
            table = each.reshape(len(pool), len(pool))
            picks.append(int(np.argmax(table @ np.asarray(weight, np.float64))))
        start = end
    return np.array(picks, np.intp)
