"""How unevenly an amount lies over items: some of which may be below zero, as gains are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError


def gini(values: ArrayLike, counts: ArrayLike | None = None) -> NDArray[np.float64]:
    """Gini's coefficient of values `[n]` of both signs, in [0, 1]: 0 where all are equal, 1 where
    one has all that is above zero and one all that is below.

    The sum of |x_i − x_j| over all pairs, over 2 (n − 1) times the sum of |x_i|: Raffinetti,
    Siletti & Vernizzi 2015, "On the Gini coefficient normalization when attributes with negative
    values are considered". Without values below zero it is the usual one, times n / (n − 1).

    `counts`, how often each value occurs, `[b, n]`, gives a coefficient for each of b rows; without
    it there is one, `[1]`. NaN where nothing is but zero, or a single value. Raises PomonaError for
    what is no list of finite numbers.
    """
    x, c = _checked(values, counts)
    order = np.argsort(x, kind="stable")
    x, c = x[order], c[:, order]
    below = np.cumsum(c, axis=1) - c
    n = c.sum(1)
    pairs = 2 * (c * (2 * below + c - n[:, None])) @ x
    with np.errstate(invalid="ignore", divide="ignore"):
        return pairs / (2 * (n - 1) * (c @ np.abs(x)))


def half_share(values: ArrayLike, counts: ArrayLike | None = None) -> NDArray[np.float64]:
    """The smallest share of items, in (0, 1], whose values make up half of all that is above zero;
    items are whole, and values below zero are items that hold nothing. `counts` and the result as
    in `gini`; NaN where no value is above zero.
    """
    x, c = _checked(values, counts)
    order = np.argsort(-x, kind="stable")
    x, c = np.maximum(x[order], 0), c[:, order]
    held = np.cumsum(c * x, axis=1)
    half = held[:, -1] / 2
    rows, at = np.arange(len(c)), np.argmax(held >= half[:, None] * (1 - 1e-12), axis=1)
    before = held[rows, at] - c[rows, at] * x[at]
    with np.errstate(invalid="ignore", divide="ignore"):
        last = np.ceil((half - before) / x[at] - 1e-9)
        items = np.cumsum(c, axis=1)[rows, at] - c[rows, at] + last
        return np.where(half > 0, items / c.sum(1), np.nan)


def _checked(
    values: ArrayLike, counts: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not x.size or not bool(np.isfinite(x).all()):
        remedy = "give a list of finite numbers"
        raise PomonaError("are no list of numbers", where="values", remedy=remedy)
    return x, np.ones((1, x.size)) if counts is None else np.asarray(counts, np.float64)
