"""One function over many jobs: in order in this process, or side by side on Ray with lost workers
replaced.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pomona.errors import PomonaError, ResourceError

Job = TypeVar("Job")
Result = TypeVar("Result")
ENGINES = ("native", "ray")
_RETRIES = 5


def check_engine(engine: str | None) -> str:
    """The engine's name. Raises PomonaError when it is unknown or not installed."""
    name = engine or "native"
    if name not in ENGINES:
        remedy = f"choose one of: {', '.join(ENGINES)}"
        raise PomonaError(f'there is no engine "{name}"', remedy=remedy)
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise PomonaError("the ray engine is not installed", remedy="pip install 'pomona[ray]'")
    return name


def spread(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    engine: str | None = "native",
    *,
    accelerated: bool = False,
) -> Iterator[Result]:
    """Yield `function(job)` for every job, in the order of the jobs, which are made as they are
    needed.

    On Ray, `function` must be importable on the workers and safe to run twice: when a worker dies
    its job runs again, up to five times. Relative paths mean there what they mean here. A cluster
    that is already there is used (`RAY_ADDRESS`, or `ray.init` before the call), else one is
    started on this machine. A job has one CPU, and one GPU when it is `accelerated` and the cluster
    has any. After an error, the jobs already handed out run to their end: cancelling a job that is
    just ending can abort the whole process (ray-project/ray pull request 54798).

    Raises:
        PomonaError: the engine is unknown or not installed, or a job raised it.
        ResourceError: a job lost its worker each time it was tried.
    """
    native = check_engine(engine) == "native"
    return map(function, jobs) if native else _on_ray(function, iter(jobs), accelerated)


def workers(engine: str | None) -> int:
    """How many jobs run at the same time. Raises PomonaError when the engine is unknown or not
    installed.
    """
    return 1 if check_engine(engine) == "native" else _slots(_ray(), False)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return ray


def _slots(ray: Any, accelerated: bool) -> int:
    there = ray.cluster_resources()
    return max(1, int((accelerated and there.get("GPU")) or there.get("CPU", 1)))


def _here(function: Callable[[Job], Result]) -> Callable[[Job], Result]:
    """`function` run in the folder of this process, where a worker's machine has it, so that
    relative paths mean the same.
    """
    folder = Path.cwd()

    def run(job: Job) -> Result:
        with contextlib.suppress(FileNotFoundError):
            os.chdir(folder)
        return function(job)

    return run


def _on_ray(
    function: Callable[[Job], Result], jobs: Iterator[Job], accelerated: bool
) -> Iterator[Result]:
    ray = _ray()
    from ray.exceptions import NodeDiedError, RayError, RayTaskError, WorkerCrashedError

    gpus = 1 if accelerated and ray.cluster_resources().get("GPU") else 0
    task: Any = ray.remote(max_retries=_RETRIES, num_gpus=gpus)(_here(function))
    width, running = 2 * _slots(ray, accelerated), deque[Any]()
    try:
        # Two jobs a worker: the next one's data travels while the first runs, and no more results
        # than these wait in the store for a slow reader.
        for job in jobs:
            running.append(task.remote(job))
            if len(running) == width:
                yield ray.get(running.popleft())
        while running:
            yield ray.get(running.popleft())
    except RayTaskError as error:
        if isinstance(error.cause, PomonaError):
            raise error.cause from None
        raise
    except (WorkerCrashedError, NodeDiedError) as error:
        message = f"a job lost its worker {_RETRIES + 1} times"
        remedy = "look for lack of memory on the workers, then run again"
        raise ResourceError(message, where="ray", remedy=remedy) from error
    except RayError as error:
        message = f"the cluster failed: {str(error).splitlines()[0]}"
        remedy = "repair it, then run again"
        raise ResourceError(message, where="ray", remedy=remedy) from error
