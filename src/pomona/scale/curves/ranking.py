"""How far two rankings of the same levers agree, in as many resamples as there are rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Figures of b rows, NaN where one is not defined.

    accuracy: share of pairs that are ordered alike (DataDecide, Magnusson et al. 2025): a pair that
        ties in the guess counts half, one that ties in truth not at all. decided: the same over
        some of the pairs.
    kendall, spearman: tau-b and rho.
    regret: the value of the best lever less that of the lever which the guess puts first, of
        several as good their mean.
    """

    accuracy: Floats
    decided: Floats
    kendall: Floats
    spearman: Floats
    regret: Floats


def agreement(
    guess: Floats, truth: Floats, decided: NDArray[np.bool_], best: int, chosen: NDArray[np.intp]
) -> Agreement:
    """How `guess` ranks levers whose worth is `truth`, both `[b, n]` and more is better. `decided`,
    `[pairs]` or `[b, pairs]`, says which pairs count apart, in the order of `numpy.triu_indices`;
    `best` is the best lever and `chosen` are those that the guess puts first.
    """
    ours, theirs = signs(guess), signs(truth)
    alike = (ours == theirs) + 0.5 * (ours == 0)
    told = theirs != 0
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = (alike * told).sum(1) / told.sum(1)
        among = (alike * told * decided).sum(1) / (told * decided).sum(1)
        kendall = (ours * theirs).sum(1) / np.sqrt((ours**2).sum(1) * (theirs**2).sum(1))
        a, b = (rankdata(one, axis=1) for one in (guess, truth))
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        spearman = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    regret = truth[:, best] - truth[:, chosen].mean(1)
    return Agreement(accuracy, among, kendall, spearman, regret)


def signs(values: Floats) -> Floats:
    """Of each pair of levers which is better, `[b, pairs]`: −1, 0 or 1."""
    first, second = np.triu_indices(values.shape[1], 1)
    return np.sign(values[:, first] - values[:, second])


def extrapolated(sizes: Floats, values: Floats, size: float, form: str) -> Floats:
    """What a lever's values `[b, k]` at k sizes come to at a larger one, `[b]`: a "log-linear" line
    in the logarithm of the size, or a "power law" with an asymptote, by least squares.
    """
    logs, last = np.log(sizes), np.log(size)
    at = (logs - logs[0]) / (logs[-1] - logs[0])
    out = (last - logs[0]) / (logs[-1] - logs[0])
    ones = np.ones_like(at)
    if form == "log-linear":
        return values @ np.linalg.pinv(np.column_stack([ones, at])).T @ np.array([1.0, out])
    errors, told = [], []
    for rate in np.geomspace(0.05, 8, 40):
        basis = np.column_stack([ones, np.exp(-rate * at)])
        fitted = values @ np.linalg.pinv(basis).T
        errors.append(((values - fitted @ basis.T) ** 2).sum(1))
        told.append(fitted @ np.array([1.0, np.exp(-rate * out)]))
    best = np.argmin(errors, axis=0)
    return np.array(told)[best, np.arange(len(best))]
