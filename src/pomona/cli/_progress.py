"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pomona.cli._errors import tell
from pomona.cli._out import clock
from pomona.cli._pace import Pace

if TYPE_CHECKING:
    from pomona.recipe import Progress

EVERY = 10.0  # seconds between two lines within a step


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars if stderr is a terminal that can move its cursor, lines if not."""
    if not sys.stderr.isatty():
        yield Lines(Pace())
        return
    from rich.console import Console

    from pomona.cli._bars import bars

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield Lines(Pace())
    else:
        with bars(console, Pace()) as shown:
            yield shown


class Lines:
    """A line when a step starts and ends, and at most one every ten seconds between."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._name = ""
        self._said = 0.0

    def plan(self, steps: list[tuple[str, float]]) -> None:
        """Nothing is said before the first step."""
        self._pace.plan(steps)

    def start(self, step: str) -> None:
        """`[ 3/17] fine-tune prune/middle: run 2:50 left`."""
        self._pace.start()
        self._name = step
        self._say(f"run {clock(self._pace.left)} left")

    def advance(self, done: int, total: int) -> None:
        """`[ 3/17] fine-tune prune/middle: 45 %, step 0:12, run 2:10 left`."""
        self._pace.advance(done, total)
        if self._pace.now() - self._said >= EVERY:
            self._say(
                f"{self._pace.share:.0%}".replace("%", " %")
                + f", step {clock(self._pace.step_left)}, run {clock(self._pace.left)} left"
            )

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        """`[ 3/17] fine-tune prune/middle: done in 0:43`."""
        self._name = step
        self._say("done before" if skipped else f"done in {clock(seconds)}")
        self._pace.finish(seconds, skipped)

    def _say(self, text: str) -> None:
        self._said = self._pace.now()
        count = len(self._pace.steps)
        tell(f"[{self._pace.place + 1:>{len(str(count))}}/{count}] {self._name}: {text}")
