"""Corrections of p-values for many comparisons."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """The p-values `[m]` adjusted so that calling those of at most α significant makes a single
    mistake with a probability of at most α, however they depend on each other.

    Holm 1979, "A simple sequentially rejective multiple test procedure": the i-th smallest is
    multiplied by m − i + 1, and none is smaller than one before it. Raises PomonaError for what is
    no p-value.
    """
    values, order = _ordered(p_values)
    stepped = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """The p-values `[m]` adjusted so that of those called significant, being at most α, a share of
    at most α is so by chance alone, where they are independent or depend positively.

    Benjamini & Hochberg 1995, "Controlling the false discovery rate": the i-th smallest is
    multiplied by m / i, and none is larger than one after it. Raises PomonaError for what is no
    p-value.
    """
    values, order = _ordered(p_values)
    scaled = values[order] * values.size / np.arange(1, values.size + 1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return adjusted


def _ordered(p_values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    values = np.asarray(p_values, np.float64)
    if values.ndim != 1 or not bool(np.all((values >= 0) & (values <= 1))):
        message, remedy = "are not between 0 and 1", "give a list of p-values"
        raise PomonaError(message, where="p_values", remedy=remedy)
    return values, np.argsort(values, kind="stable")
