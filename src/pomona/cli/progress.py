"""Progress on stderr: bars on a terminal, plain lines elsewhere; and how long a run still takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pomona.cli.errors import tell
from pomona.pages import clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Display

    from pomona.ledger import Entry
    from pomona.recipe import Progress

EVERY = 10.0  # seconds between two lines within a step
TRUST = 10.0  # seconds of estimate after which measured steps weigh as much as the estimate itself


@contextmanager
def working(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal; elsewhere nothing is shown."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task(what, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars if stderr is a terminal that can move its cursor, lines if not."""
    if not sys.stderr.isatty():
        yield Lines(Pace())
        return
    from rich.console import Console

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

    def measured(self, entry: Entry, higher_is_better: bool) -> None:
        """`hedged5-mbr: chrf 32.18 overall, +1.33 [+0.76, +1.88] over ui-s`."""
        tell(_measured(entry, higher_is_better))

    def _say(self, text: str) -> None:
        self._said = self._pace.now()
        count = len(self._pace.steps)
        tell(f"[{self._pace.place + 1:>{len(str(count))}}/{count}] {self._name}: {text}")


def _measured(entry: Entry, higher_is_better: bool) -> str:
    from pomona.ledger import format_entry

    return format_entry(entry, higher_is_better=higher_is_better)


@contextmanager
def bars(console: Console, pace: Pace) -> Iterator[Bars]:
    """Bars that go away when the block ends."""
    from rich.progress import BarColumn, Progress as Display, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            seconds = pace.left if task.fields.get("run") else pace.step_left
            return Text(f"{clock(seconds)} left", style="dim")

    display = Display(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Left(),
        console=console,
        transient=True,
    )
    with display:
        yield Bars(display, pace)


class Bars:
    """A bar for the run, which fills with the time it takes, and one for the current step. Finished
    steps stay as lines.
    """

    def __init__(self, display: Display, pace: Pace) -> None:
        self._display, self._pace = display, pace
        self._run = display.add_task("run", total=1.0, run=True)
        self._step = display.add_task("", total=1.0, visible=False)

    def plan(self, steps: list[tuple[str, float]]) -> None:
        """The steps that the run's bar counts."""
        self._pace.plan(steps)
        self._draw()

    def start(self, step: str) -> None:
        """The step's bar appears, empty."""
        self._pace.start()
        self._display.reset(self._step, description=step, total=1.0, visible=True)
        self._draw()

    def advance(self, done: int, total: int) -> None:
        """Both bars grow."""
        self._pace.advance(done, total)
        self._draw()

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        """The step becomes a line above the bars."""
        from rich.text import Text

        self._pace.finish(seconds, skipped)
        self._display.console.print(
            Text(
                f"{step}: {'done before' if skipped else f'done in {clock(seconds)}'}", style="dim"
            )
        )
        self._display.update(self._step, visible=False)
        self._draw()

    def measured(self, entry: Entry, higher_is_better: bool) -> None:
        """A line above the bars, which stands out."""
        from rich.text import Text

        self._display.console.print(Text(_measured(entry, higher_is_better)))

    def _draw(self) -> None:
        weights = [max(seconds, 0.1) for _, seconds in self._pace.steps]
        current = (
            weights[self._pace.place] * self._pace.share if self._pace.place < len(weights) else 0.0
        )
        filled = (sum(weights[: self._pace.place]) + current) / sum(weights) if weights else 0.0
        self._display.update(
            self._run, completed=filled, description=f"run {self._pace.place}/{len(weights)}"
        )
        self._display.update(self._step, completed=self._pace.share)


@dataclass
class Pace:
    """How long a run still takes: the estimates of its steps, corrected by what finished steps
    really took. `now` is a clock in seconds.
    """

    now: Callable[[], float] = time.monotonic
    steps: list[tuple[str, float]] = field(default_factory=list)
    place: int = 0
    share: float = 0.0
    _began: float | None = None
    _expected: float = 0.0
    _took: float = 0.0

    def plan(self, steps: list[tuple[str, float]]) -> None:
        """The steps that come, with their estimated seconds: all of them, until what is finished
        decides on more.
        """
        self.steps = [*self.steps[: self.place], *steps]

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
