"""Pools of answers, and what is in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.chat.protocol import Request
from pomona.sample.strategy import TEMPERATURE, Strategy


def hedged(n: int, temperature: float) -> list[float]:
    """Temperatures of a hedged pool: one greedy answer and n − 1 at one temperature. Khairi et al.
    2025 (arXiv 2506.20544), §4.
    """
    return [0.0] + [temperature] * (n - 1)


def ladder(n: int, temperature: float) -> list[float]:
    """`n` temperatures in equal steps from 0 (greedy) to `temperature`."""
    return [round(float(value), 6) for value in np.linspace(0.0, temperature, n)]


def temperatures(strategy: Strategy, request: Request, models: int = 1) -> list[float]:
    """The temperature of each answer, `[n]`; the answers are dealt to the models in turn, and in a
    hedged pool each gives a greedy one.

    A PomonaError when there are more models than answers.
    """
    n = strategy.n
    if models > n:
        raise PomonaError(
            f"{models} models for {n} answers",
            where=f'strategy "{strategy.name}"',
            remedy=f"draw at least {models}",
        )
    top = strategy.temperature or request.temperature or TEMPERATURE
    if strategy.pool == "greedy":
        return [0.0]
    if strategy.pool == "sample":
        return [top] * n
    if strategy.pool == "ladder":
        return ladder(n, top)
    return [0.0] * models + [top] * (n - models)


def extremes(
    utilities: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of the best and of the worst answer of each pool, by utility against the reference
    (`[n]` a pool).

    The best is the pool's *hope*, the worst its *risk*: bounds on what any selection from the pool
    can win or lose.
    """
    best = np.array([int(np.argmax(row)) for row in utilities], np.int64)
    worst = np.array([int(np.argmin(row)) for row in utilities], np.int64)
    return best, worst
