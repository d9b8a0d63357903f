"""How long a run still takes: the estimates of its steps, corrected by what finished steps really
took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

TRUST = 10.0  # seconds of estimate after which measured steps weigh as much as the estimate itself


@dataclass
class Pace:
    """Keeps the accounts of a run under way. `now` is a clock in seconds."""

    now: Callable[[], float] = time.monotonic
    steps: list[tuple[str, float]] = field(default_factory=list)
    place: int = 0
    share: float = 0.0
    _began: float | None = None
    _expected: float = 0.0
    _took: float = 0.0

    def plan(self, steps: list[tuple[str, float]]) -> None:
        """All steps with their estimated seconds."""
        self.steps = steps

    def start(self) -> None:
        """The next step begins."""
        self._began, self.share = self.now(), 0.0

    def advance(self, done: int, total: int) -> None:
        """A share of the current step is done."""
        self.share = min(1.0, done / total) if total > 0 else 0.0

    def finish(self, seconds: float, skipped: bool) -> None:
        """The current step is over."""
        if not skipped and self.place < len(self.steps):
            self._expected += self.steps[self.place][1]
            self._took += seconds
        self.place, self._began, self.share = self.place + 1, None, 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the current step began."""
        return 0.0 if self._began is None else self.now() - self._began

    @property
    def step_left(self) -> float:
        """Seconds until the current step ends, from its own progress as far as there is any."""
        if self.place >= len(self.steps):
            return 0.0
        guess = max(0.0, self.steps[self.place][1] * self._scale - self.elapsed)
        seen = self.elapsed * (1 - self.share) / self.share if self.share > 0 else guess
        return self.share**0.5 * seen + (1 - self.share**0.5) * guess

    @property
    def left(self) -> float:
        """Seconds until the run ends."""
        return self.step_left + self._scale * sum(
            seconds for _, seconds in self.steps[self.place + 1 :]
        )

    @property
    def _scale(self) -> float:
        return (self._took + TRUST) / (self._expected + TRUST)
