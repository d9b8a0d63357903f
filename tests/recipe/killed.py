"""Run a recipe in a child, then in children that kill themselves at given calls of their progress,
then to the end; log finished steps.

python killed.py RECIPE FOLDER CALL…: the runs are FOLDER/straight and FOLDER/killed, the steps of
the second in FOLDER/killed.log.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import numba
import scipy
import torch
import transformers.models.llama.modeling_llama
import transformers.trainer

import pomona.recipe.levers
import pomona.train.trainer
from pomona.recipe import dry_run, run

assert numba and scipy and transformers and pomona  # what the children would each load
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

    def measured(self, entry: object, higher_is_better: bool) -> None:
        self._count()

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        if not skipped:
            with self.log.open("a") as stream:
                stream.write(step + "\n")
            self._count()


recipe, folder, *calls = sys.argv[1:]
dry_run(recipe)
gc.freeze()
runs = [("straight", 0), *(("killed", int(call)) for call in calls), ("killed", 0)]
for out, call in runs:
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # a fork makes its pool anew: two threads at once spoil it
        run(recipe, Path(folder, out), progress=Killer(Path(folder, f"{out}.log"), call))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    expected = signal.SIGKILL if call else 0
    if status != expected:
        sys.exit(f"the child to be killed at call {call} ended with status {status}")
