"""Which strategy to try next, from what users said of earlier answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pomona.errors import PomonaError


@dataclass(frozen=True)
class Arm:
    """A strategy with how often its answers were called good and not good."""

    name: str
    good: int = 0
    bad: int = 0

    @property
    def mean(self) -> float:
        """The mean of its posterior, Beta(1 + good, 1 + bad)."""
        return (1 + self.good) / (2 + self.good + self.bad)


def thompson(arms: Sequence[Arm], *, seed: int) -> Arm:
    """The arm with the highest draw from its posterior Beta(1 + good, 1 + bad), of equals the
    first.

    Thompson 1933; Agrawal & Goyal 2012, algorithm 1, whose regret grows with the logarithm of the
    number of choices. The draws are decided by the seed and the counts of all arms. A PomonaError
    when there is no arm.
    """
    if not arms:
        raise PomonaError(
            "no strategies to choose from", where="thompson", remedy="name at least one"
        )
    source = np.random.default_rng(
        [seed & 0xFFFFFFFF, *(count for arm in arms for count in (arm.good, arm.bad))]
    )
    draws = [source.beta(1 + arm.good, 1 + arm.bad) for arm in arms]
    return arms[int(np.argmax(draws))]
