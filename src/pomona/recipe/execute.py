"""Run steps, each once: a finished step is a folder under its final name, an unfinished one is
nothing but its scratch folder.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

from pomona.errors import PomonaError, ResourceError
from pomona.files import atomic_directory, write_json
from pomona.recipe.graph import Node, RunInput, Step, ancestors
from pomona.recipe.steps.context import Runtime, StepContext

FLOPS_PER_SECOND = {"train": 4e10, "generate": 2e10, "score": 4e10, "table": 1e9}
START_SECONDS = 2.0
NEARLY_NOTHING = 1 << 16  # bytes


class Progress(Protocol):
    """Told by a run what it does. Calls come in order: `plan`, then for each step `start`, any
    number of `advance`, `finish`.
    """

    def plan(self, steps: list[tuple[str, float]]) -> None:
        """All steps in order, with the estimated seconds of each."""
        ...

    def start(self, step: str) -> None:
        """A step begins."""
        ...

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` parts of the current step are finished."""
        ...

    def finish(self, step: str, seconds: float, skipped: bool) -> None:
        """A step ended after `seconds` of wall clock; `skipped` when an earlier run had finished
        it, which needs no `start`.
        """
        ...


class Silent:
    """Says nothing."""

    def plan(self, steps: list[tuple[str, float]]) -> None: ...

    def start(self, step: str) -> None: ...

    def advance(self, done: int, total: int) -> None: ...

    def finish(self, step: str, seconds: float, skipped: bool) -> None: ...


@dataclass(frozen=True)
class RunFolder:
    """The folders of a run: `steps` holds results, `scratch` what a killed step can continue
    from.
    """

    root: Path

    @property
    def steps(self) -> Path:
        return self.root / "steps"

    def result(self, node: Node) -> Path:
        """Where the result of a step is, or will be."""
        return node.path if isinstance(node, RunInput) else self.steps / node.folder

    def scratch(self, step: Step) -> Path:
        """Where a step keeps what a kill must not lose."""
        return self.root / "work" / step.folder

    def done(self, step: Step) -> bool:
        return self.result(step).is_dir()


def expected_seconds(step: Step) -> float:
    """A first guess; the run corrects it by what its steps really take."""
    return START_SECONDS + step.estimate.flops / FLOPS_PER_SECOND[step.estimate.kind]


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Only one process works in a run at a time; leftovers of a killed one are swept."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PomonaError(
                "another process is working in this run",
                where=root,
                remedy="wait for it, or choose another --out",
            ) from None
        for folder in (root, root / "steps"):
            for left in folder.glob(".*.partial"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


def execute(
    targets: Sequence[Step], folder: RunFolder, runtime: Runtime, progress: Progress
) -> None:
    """Bring every target about. Finished steps are not repeated; a full disk ends the run with what
    is finished kept.
    """
    order = list(ancestors(targets))
    progress.plan(
        [(step.name, 0.0 if folder.done(step) else expected_seconds(step)) for step in order]
    )
    for step in order:
        if folder.done(step):
            progress.finish(step.name, 0.0, skipped=True)
            continue
        progress.start(step.name)
        began = time.perf_counter()
        _run(step, folder, runtime, progress)
        progress.finish(step.name, time.perf_counter() - began, skipped=False)


@contextmanager
def _disk_watched(root: Path) -> Iterator[None]:
    """A full disk shows as an OSError, or as whatever a library makes of it; it ends the run as
    what it is.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        told = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not (
            told or "No space left" in str(error) or shutil.disk_usage(root).free < NEARLY_NOTHING
        ):
            raise
        raise ResourceError(
            "the disk is full",
            where=root,
            remedy="free some space and run again: finished steps are kept",
        ) from error


def _run(step: Step, folder: RunFolder, runtime: Runtime, progress: Progress) -> None:
    scratch = folder.scratch(step)
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        _disk_watched(folder.root),
        atomic_directory(folder.result(step)) as out,
        _disk_watched(folder.root),
    ):
        inputs = {name: folder.result(node) for name, node in step.inputs.items()}
        context = StepContext(step.params, inputs, out, scratch, runtime, progress.advance)
        cost = step.work(context)
        write_json(out / "cost.json", asdict(cost))
        write_json(
            out / "step.json",
            {
                "name": step.name,
                "key": step.key,
                "params": dict(step.params),
                "inputs": {name: node.key for name, node in step.inputs.items()},
            },
        )
    shutil.rmtree(scratch)
