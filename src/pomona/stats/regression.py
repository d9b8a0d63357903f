"""Regressions over groups, with errors from resampled groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RANK = 1e-12  # of the largest eigenvalue: what is smaller is rounding


@dataclass(frozen=True)
class Slope:
    """How much the outcome changes by one of a column, the others held equal, with its 95 %
    interval.
    """

    value: float
    ci_low: float
    ci_high: float


def least_squares(
    design: ArrayLike, outcome: ArrayLike, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Coefficients `[..., p]` of weighted least squares, from a design `[..., n, p]`, an outcome
    `[..., n]` and weights `[..., n]`, each broadcast against the others: many regressions at once.

    Where columns depend on each other it is the shortest of the solutions.
    """
    x, y = np.asarray(design, np.float64), np.asarray(outcome, np.float64)
    w = np.ones(x.shape[:-1]) if weights is None else np.asarray(weights, np.float64)
    weighted = x * w[..., None]
    gram = np.swapaxes(weighted, -1, -2) @ x
    moment = np.swapaxes(weighted, -1, -2) @ y[..., None]
    return (np.linalg.pinv(gram, _RANK, hermitian=True) @ moment)[..., 0]


def slopes(drawn: ArrayLike, values: ArrayLike, level: float = 0.95) -> list[Slope]:
    """Coefficients `values` `[p]` with the percentile intervals of those of resamples `[draws, p]`
    (Efron & Tibshirani 1993, §9.5, "bootstrapping pairs").
    """
    low, high = np.quantile(np.asarray(drawn), [(1 - level) / 2, (1 + level) / 2], axis=0)
    parts = zip(np.asarray(values), low, high, strict=True)
    return [Slope(*map(float, part)) for part in parts]


def shuffled_column(
    design: ArrayLike, outcome: ArrayLike, column: int, *, draws: int = 1000, seed: int = 0
) -> float:
    """The two-sided p-value of a column: how often its coefficient is as far from 0 where rows
    change what of it the other columns do not tell (Smith's method in Winkler et al. 2014, §2.6).

    Of several designs `[k, n, p]` and outcomes `[k, n]` the coefficients are averaged, and rows
    change alike in all.
    """
    x, y = np.asarray(design, np.float64), np.asarray(outcome, np.float64)
    x, y = x.reshape(-1, *x.shape[-2:]), np.atleast_2d(y)
    others = np.delete(x, column, axis=-1)
    told = others @ least_squares(others, x[..., column])[..., None]
    own = x[..., column] - told[..., 0]
    observed = abs(least_squares(x, y)[:, column].mean())
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(x.shape[1]), (draws, 1)), axis=1)
    found = np.zeros(draws)
    for rest, residual, values in zip(others, own, y, strict=True):
        dealt = np.broadcast_to(rest, (draws, *rest.shape))
        dealt = np.concatenate([dealt, residual[order][..., None]], axis=2)
        found += least_squares(dealt, values)[:, -1] / len(x)
    return float((1 + np.sum(np.abs(found) >= observed - 1e-12)) / (1 + draws))
