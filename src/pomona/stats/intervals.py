"""Intervals for shares."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError


def wilson(
    k: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The score interval of `k` successes in `n` trials, element by element: the lower and upper
    ends, shares in [0, 1].

    Wilson 1927, "Probable inference, the law of succession, and statistical inference". Where `n`
    is 0 the interval is [0, 1]. Raises PomonaError unless 0 ≤ k ≤ n and 0 < confidence < 1.
    """
    if not 0 < confidence < 1:
        raise PomonaError(
            f"{confidence} is not between 0 and 1", where="confidence", remedy="use 0.95"
        )
    hits, trials = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    if not bool(np.all((hits >= 0) & (hits <= trials))):
        raise PomonaError(
            "there are fewer than 0 or more than n successes", where="k", remedy="give 0 ≤ k ≤ n"
        )
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = np.divide(hits, trials, out=np.full(hits.shape, 0.5), where=trials > 0)
    total = trials + z2
    middle = (hits + z2 / 2) / total
    half = np.sqrt(z2) / total * np.sqrt(trials * share * (1 - share) + z2 / 4)
    low = np.where(hits == 0, 0.0, middle - half)
    high = np.where(hits == trials, 1.0, middle + half)
    return low, high
