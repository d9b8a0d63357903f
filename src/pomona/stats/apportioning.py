"""Whole numbers in proportion to weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError

_SAME = 9  # decimals of remainders that are equal


def largest_remainder(
    weights: ArrayLike, total: int, first: ArrayLike | None = None
) -> NDArray[np.int64]:
    """`total` dealt out in proportion to weights `[n]`: each gets the whole part of its share, and
    what is left goes to the largest remainders, one each (Hamilton's method). Of equal ones those
    that are smallest in `first` `[n]` get it, then those that stand first.

    Nothing is dealt where all weights are 0. Raises PomonaError for a total below 0, and for
    weights that are negative or no numbers.
    """
    parts = np.asarray(weights, np.float64)
    if total < 0 or not bool(np.all(np.isfinite(parts) & (parts >= 0))):
        message = f"a total of {total} by these weights" if total < 0 else "weights are below 0"
        raise PomonaError(message, where="largest remainder", remedy="use 0 or more")
    whole = np.zeros(len(parts), np.int64)
    if not parts.sum():
        return whole
    exact = total * parts / parts.sum()
    whole = np.floor(np.round(exact, _SAME)).astype(np.int64)
    ties = np.zeros(len(parts)) if first is None else np.asarray(first)
    order = np.lexsort((np.arange(len(parts)), ties, np.round(whole - exact, _SAME)))
    whole[order[: total - whole.sum()]] += 1
    return whole
