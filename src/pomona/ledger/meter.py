"""The time of a piece of work: of processors and on the clock."""

from __future__ import annotations

import os
import time


class Meter:
    """Times a block: `cpu_seconds` of this process, its threads and the child processes that ended
    in the block; `wall_seconds`.

    Both are set when the block ends, also when it fails.
    """

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __enter__(self) -> Meter:
        self._cpu, self._wall = _cpu_seconds(), time.perf_counter()
        return self

    def __exit__(self, *failure: object) -> None:
        self.cpu_seconds = _cpu_seconds() - self._cpu
        self.wall_seconds = time.perf_counter() - self._wall


def _cpu_seconds() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system
