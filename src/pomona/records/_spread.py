"""One function over many jobs: in order in this process, or side by side on Ray with lost workers replaced."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pomona.errors import GateFailed, PomonaError
from pomona.records._engine import check

Job = TypeVar("Job")
Result = TypeVar("Result")
_RETRIES = 5


def spread(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    engine: str | None = "native",
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """Yield `function(job)` for every job, in the order of the jobs. `progress` is told how many are done and how many there are.

    On Ray, `function` must be importable on the workers and safe to run twice: when a worker dies its job runs again, up to five
    times. A cluster that is already there is used (`RAY_ADDRESS`, or `ray.init` before the call), else one is started on this machine.
    After an error, the jobs already handed out run to their end: cancelling a job that is just ending can abort the whole process
    (ray-project/ray pull request 54798).

    Raises:
        PomonaError: the engine is unknown or not installed, or a job raised it.
        GateFailed: a job lost its worker each time it was tried.
    """
    results = map(function, jobs) if check(engine) == "native" else _on_ray(function, jobs)
    for done, result in enumerate(results, 1):
        if progress:
            progress(done, len(jobs))
        yield result


def _on_ray(function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.exceptions import NodeDiedError, RayError, RayTaskError, WorkerCrashedError

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    task: Any = ray.remote(max_retries=_RETRIES)(function)
    width = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting, running = deque(jobs), deque()
    try:
        while waiting or running:
            while waiting and len(running) < width:
                running.append(task.remote(waiting.popleft()))
            yield ray.get(running.popleft())
    except RayTaskError as error:
        if isinstance(error.cause, PomonaError):
            raise error.cause from None
        raise
    except (WorkerCrashedError, NodeDiedError) as error:
        message = f"a job lost its worker {_RETRIES + 1} times"
        raise GateFailed(message, where="ray", remedy="look for lack of memory on the workers, then run again") from error
    except RayError as error:
        raise GateFailed(f"the cluster failed: {str(error).splitlines()[0]}", where="ray", remedy="repair it, then run again") from error
