"""Progress bars: the run, and the step it is at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress as Display, ProgressColumn, Task, TextColumn
from rich.text import Text

from pomona.cli._out import clock
from pomona.cli._pace import Pace


@contextmanager
def bars(console: Console, pace: Pace) -> Iterator[Bars]:
    """Bars that go away when the block ends."""
    display = Display(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Left(pace),
        console=console,
        transient=True,
    )
    with display:
        yield Bars(display, pace)


class _Left(ProgressColumn):
    """The time a bar's work still takes."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        """`2:10 left`."""
        seconds = self._pace.left if task.fields.get("run") else self._pace.step_left
        return Text(f"{clock(seconds)} left", style="dim")


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
        self._pace.finish(seconds, skipped)
        self._display.console.print(
            Text(
                f"{step}: {'done before' if skipped else f'done in {clock(seconds)}'}", style="dim"
            )
        )
        self._display.update(self._step, visible=False)
        self._draw()

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
