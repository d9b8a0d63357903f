"""How far the probabilities that models give their predictions are from how often these are right,
before and after compression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pomona.forget.auditing.populations import Floats, Population

_SAME = 1e-12  # differences that are rounding alone


@dataclass(frozen=True)
class Change:
    """Means over the models of a level, and the mean difference with its 95 % interval by Student's
    t over models, which are paired where they have the same seeds; None where there is one model.
    """

    measure: str
    dense: float
    compressed: float
    difference: float
    ci_low: float | None
    ci_high: float | None


def expected_error(probability: Floats, right: Floats, bins: int) -> float:
    """The expected calibration error: over `bins` of equal width, the share of predictions in each
    times the difference of their mean probability and the share of them that is right (Naeini et
    al. 2015, §3; Guo et al. 2017, equation 3). With one bin it is how far models are over- or
    underconfident as a whole.
    """
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    sums = [np.bincount(place, values, bins) for values in (probability, right)]
    return float(np.abs(sums[0] - sums[1]).sum() / len(right))


def brier(probability: Floats, right: Floats) -> float:
    """The mean squared difference of the probability of the label that was predicted and whether it
    was right (Brier 1950, for that event).
    """
    return float(np.mean((probability - right) ** 2))


def calibration(dense: Population, compressed: Population, *, paired: bool) -> list[Change] | None:
    """The errors of both levels' probabilities; None where one has no probabilities or scores that
    are not 0 and 1.
    """
    sides = (dense, compressed)
    if any(side.probabilities is None or not _binary(side.scores) for side in sides):
        return None
    measures = {
        "ECE, 1 bin": lambda p, right: expected_error(p, right, 1),
        "ECE, 10 bins": lambda p, right: expected_error(p, right, 10),
        "Brier": brier,
    }
    changes = []
    for name, measure in measures.items():
        before, after = (
            np.array([measure(*one) for one in zip(side.probabilities, side.scores, strict=True)])  # pyright: ignore[reportArgumentType]
            for side in sides
        )
        changes.append(_change(name, before, after, paired))
    return changes


def _change(measure: str, before: Floats, after: Floats, paired: bool) -> Change:
    difference, low, high = float(after.mean() - before.mean()), None, None
    vary = (after - before,) if paired else (before, after)
    if len(before) > 1 and max(map(np.ptp, vary)) < _SAME:
        low = high = difference
    elif len(before) > 1:
        from scipy import stats

        if paired:
            told: Any = stats.ttest_rel(after, before)
        else:
            told = stats.ttest_ind(after, before, equal_var=False)
        low, high = map(float, told.confidence_interval(0.95))
    return Change(measure, float(before.mean()), float(after.mean()), difference, low, high)


def _binary(scores: Floats) -> bool:
    return bool(np.all((scores == 0) | (scores == 1)))
