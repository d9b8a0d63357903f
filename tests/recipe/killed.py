"""Run a recipe in children that kill themselves at given calls of their progress, then once to the end; log every finished step.

python killed.py RECIPE OUT LOG CALL…
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
import transformers

from pomona.recipe import run

assert transformers
torch.set_num_threads(1)


class Killer:
    def __init__(self, log: Path, at: int) -> None:
        self.log, self.left = log, at

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def plan(self, steps: list[tuple[str, float]]) -> None:
        pass

    def start(self, step: str) -> None:
        self._count()

    def advance(self, done: int, total: int) -> None:
        self._count()

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        if not skipped:
            with self.log.open("a") as stream:
                stream.write(step + "\n")
            self._count()


recipe, out, log, *calls = sys.argv[1:]
for call in [*map(int, calls), 0]:
    child = os.fork()
    if child == 0:
        run(recipe, Path(out), report=Killer(Path(log), call))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    expected = signal.SIGKILL if call else 0
    if status != expected:
        sys.exit(f"the child to be killed at call {call} ended with status {status}")
