"""Pools of answers, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def hedged(n: int, temperature: float) -> list[float]:
    """Temperatures of a hedged pool: one greedy answer and n − 1 at one temperature. Khairi et al. 2025 (arXiv 2506.20544), §4."""
    return [0.0] + [temperature] * (n - 1)


def extremes(utilities: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of the best and of the worst answer of each pool, by utility against the reference (`[n]` a pool).

    The best is the pool's *hope*, the worst its *risk*: bounds on what any selection from the pool can win or lose.
    """
    best = np.array([int(np.argmax(row)) for row in utilities], np.int64)
    worst = np.array([int(np.argmin(row)) for row in utilities], np.int64)
    return best, worst
