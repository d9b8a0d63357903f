"""From a name or a YAML file to a task of lm-evaluation-harness; from a model to one of its."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pomona.errors import PomonaError, nearest, reason_of
from pomona.models import Model, require
from pomona.tasks.harness.task import HarnessTask

_SEED, _FEWSHOT_SEED = 0, 1234  # those of lm-eval's own command line
_DATA = ("datasets", "huggingface_hub", "fsspec", "requests", "httpx")


def harness_task(
    task: str | Path,
    *,
    shots: int | None = None,
    limit: int | None = None,
    group: str | None = None,
    cluster: str | None = None,
    chat: bool = False,
    unsafe: bool = False,
) -> HarnessTask:
    """The task that lm-eval knows by this name, or of this YAML file, with the requests that
    `lm_eval.simple_evaluate` would make: the same documents, examples and seeds.

    A task file is code (see the package). Paths of data files in it are relative to the working
    directory, and data that is not local is downloaded by `datasets`.

    Args:
        task: Name, or path of a .yaml file.
        shots: Examples in the prompt, where the task does not say that it takes none; the task's
            own number when left out.
        limit: The first so many documents.
        group: Column of the documents by which results are broken down.
        cluster: Column of the documents: those with equal values are resampled together.
        chat: Prompts become messages, examples turns of their own.
        unsafe: Also run a task that is marked as one that executes what a model writes.

    Raises:
        PomonaError: lm-eval is not installed, knows no such task, cannot load it, or it is a group
            of tasks.
    """
    require("lm_eval", extra="harness", for_what="for tasks of lm-evaluation-harness")
    for name, count in {"limit": limit, "shots": shots}.items():
        if count is not None and count < (name == "limit"):
            raise PomonaError(f"{name} is {count}", where=task, remedy="give a positive number")
    with _as_on_its_command_line():
        loaded = _load(str(task))
        _check(loaded, str(task), unsafe)
        own = loaded.get_config("num_fewshot")
        if own is None or (shots is not None and own != 0):
            loaded.set_config(key="num_fewshot", value=shots or 0)
        loaded.set_fewshot_seed(seed=_FEWSHOT_SEED)
        try:
            return HarnessTask(loaded, limit=limit, group=group, cluster=cluster, chat=chat)
        except PomonaError:
            raise
        except Exception as error:  # whatever a template or a function of the task raises
            raise _broken(error, str(task)) from error


def harness_model(model: Model, *, seed: int = 0) -> Any:
    """`model` as an `lm_eval.api.model.LM`, for `lm_eval.simple_evaluate`. Log-likelihoods are of
    the tokens that lm-eval's own backend for transformers scores.

    `spent` is what all that was asked cost, and `cut` how many contexts were too long and lost
    their beginning. Raises PomonaError when lm-eval is not installed; where a model cannot "score",
    or stands behind a store or an account, the methods that need it do.
    """
    require("lm_eval", extra="harness", for_what="for tasks of lm-evaluation-harness")
    from pomona.tasks.harness.model import HarnessModel

    return HarnessModel(model, seed=seed)


def _load(spec: str) -> Any:
    """lm-eval's own task."""
    path = Path(spec).expanduser()
    by_path = path.suffix in {".yaml", ".yml"}
    if by_path and not path.is_file():
        raise PomonaError("there is no such file", where=path, remedy="check the path of the task")
    manager = _manager(not by_path)
    if not by_path:
        _check_name(manager, spec)
    try:
        found = manager.load(str(path) if by_path else spec)
    except Exception as error:  # a task file is code: it may raise anything
        raise _broken(error, spec) from error
    if found["groups"] or len(found["tasks"]) != 1:
        raise _several(spec, found["tasks"])
    return next(iter(found["tasks"].values()))


@cache
def _manager(with_its_own: bool) -> Any:
    return import_module("lm_eval.tasks").TaskManager(
        include_defaults=with_its_own
    )  # takes seconds


def _check_name(manager: Any, name: str) -> None:
    entry = manager.task_index.get(name)
    if entry is None:
        close = nearest(name, manager.all_subtasks)
        listed = "`lm-eval ls tasks` lists them; a file's name ends in .yaml"
        remedy = close if close.startswith("did you mean") else listed
        raise PomonaError(f'lm-evaluation-harness has no task "{name}"', remedy=remedy)
    if name in {*manager.all_groups, *manager.all_tags}:
        children = (entry.cfg or {}).get("task") or entry.tags
        names = (
            each if isinstance(each, str) else each.get("task") or each.get("group")
            for each in children
        )
        raise _several(name, names)


def _several(name: str, parts: Any) -> PomonaError:
    parts = sorted(map(str, parts))
    some = ", ".join(parts[:5]) + (", …" if len(parts) > 5 else "")
    return PomonaError(
        f'"{name}" is a group of {len(parts)} tasks', remedy=f"measure one at a time: {some}"
    )


def _check(task: Any, name: str, unsafe: bool) -> None:
    if getattr(task, "MULTIMODAL", False):
        raise PomonaError(
            "asks about pictures or sound", where=name, remedy="use a task of text alone"
        )
    if getattr(task, "UNSAFE_CODE", False) and not unsafe:
        raise PomonaError(
            "executes what the model writes",
            where=name,
            remedy="run it where that can do no harm, with `unsafe: true` (in Python, unsafe=True)",
        )


def _broken(error: Exception, name: str) -> PomonaError:
    """What a task that cannot be loaded is told as: by its data, or by the rest."""
    of_data = isinstance(error, OSError) or type(error).__module__.startswith(_DATA)
    remedy = (
        "put `dataset_path: json` with local `data_files` into its YAML file, relative to the "
        "working directory, or load it once with a network: what is downloaded is kept"
        if of_data
        else "mend the task file: lm-eval cannot load it either"
    )
    what = "its data cannot be loaded" if of_data else "cannot be loaded"
    kind = f"{type(error).__name__}: " if isinstance(error, LookupError) else ""
    return PomonaError(f"{what}: {kind}{reason_of(error)}", where=name, remedy=remedy)


@contextmanager
def _as_on_its_command_line() -> Iterator[None]:
    """With the seeds that it sets for what tasks draw while they load, put back afterwards, and
    without its bars and notices.
    """
    python, legacy = random.getstate(), np.random.get_state()
    random.seed(_SEED)
    np.random.seed(_FEWSHOT_SEED)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
