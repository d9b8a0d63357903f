"""Merging: a recipe or a plan becomes a checkpoint folder, whole or not at all; many plans from one
reading; tensors in memory.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge.engine.runner import Runner
from pomona.merge.engine.streams import MappedFiles, ReadUnit, units_of
from pomona.merge.engine.writing import Result, check_result, forecast
from pomona.merge.plan import MERGED, MergePlan, MergeResult
from pomona.models.tensors import (
    NUMBERS,
    SHARD,
    ResultWorkspace,
    check_free,
    full_disk,
    lay_out,
    size_of,
)
from pomona.workspace import is_full

if TYPE_CHECKING:
    from pomona.merge.reading.reader import MergekitDocument
    from pomona.merge.reading.recipe import MergeRecipe

Progress = Callable[[int, int], None]
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_SMALLEST = 1 << 16


def merge_recipe(
    recipe: MergeRecipe | MergekitDocument | str | Path | Mapping[str, Any],
    out: Path,
    *,
    models: Mapping[str, Path] | None = None,
    seed: int | None = None,
    allow_mixed: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    beside: Mapping[str, bytes] | None = None,
    **engine: Any,
) -> MergeResult:
    """Merge as one recipe says, see `pomona.merge.merge`. `beside` are further files of the
    result; `engine`: memory, threads, shard_size, report, progress.
    """
    from pomona.merge.planning.planner import plan_merge

    def planned(work: Path | None) -> MergePlan:
        plan = plan_merge(
            recipe,
            models=models,
            seed=seed,
            work=work,
            allow_mixed=allow_mixed,
            dry_run=work is None,
        )
        return replace(plan, extra={**plan.extra, **(beside or {})})

    return merge_planned(planned, out, overwrite=overwrite, dry_run=dry_run, **engine)


def merge_planned(
    planned: Callable[[Path | None], MergePlan],
    out: Path,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    **engine: Any,
) -> MergeResult:
    """Merge as `planned` says. It is given the folder for tensors that it prepares, None in a dry
    run; what an earlier, killed call has put there is there still. `engine` as in `merge_recipe`.
    """
    if dry_run:
        check_free(out, MERGED, overwrite)
        return merge_many([planned(None)], [out], overwrite=overwrite, dry_run=True, **engine)[0]
    workspace = ResultWorkspace(out, MERGED, "merging", overwrite=overwrite)
    prepared = workspace.folder / "prepared"
    try:
        plan = planned(prepared)
    except BaseException as error:
        # What was prepared before an interruption stays; what is wrong with the input stays wrong.
        kept = prepared.exists() and not isinstance(error, PomonaError)
        workspace.release() if kept or not workspace.new else workspace.remove()
        raise
    return _merge([plan], [workspace], **engine)[0]


def merge_plan(plan: MergePlan, out: str | Path, **engine: Any) -> MergeResult:
    """As `merge_recipe`, for a merge that is planned already. `engine`: memory, threads,
    shard_size, report, overwrite, dry_run, progress.
    """
    return merge_many([plan], [out], **engine)[0]


def merge_many(
    plans: Sequence[MergePlan],
    outs: Sequence[str | Path],
    *,
    memory: int | str = "1GiB",
    threads: int | None = None,
    shard_size: int | str = SHARD,
    report: bool = True,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> list[MergeResult]:
    """Several merges from one reading of their inputs: each plan's result in its own folder, byte
    for byte as `merge_plan` writes it.

    Arguments and errors as in `pomona.merge.merge`. When one fails, nothing is left of any.
    """
    folders = [Path(out).absolute() for out in outs]
    if len(set(folders)) != len(plans) or len(folders) != len(plans):
        raise PomonaError(
            f"{len(plans)} merges need as many folders, all different",
            where="merge_many",
            remedy="give one for each",
        )
    engine: dict[str, Any] = {"memory": memory, "threads": threads, "shard_size": shard_size}
    if dry_run:
        for out in folders:
            check_free(out, MERGED, overwrite)
        room, count, most = _limits(**engine)
        for plan, out in zip(plans, folders, strict=True):
            check_result(plan, out)
        return [
            forecast(plan, out, lay_out(plan.jobs, most), memory=room, threads=count)
            for plan, out in zip(plans, folders, strict=True)
        ]
    workspaces: list[ResultWorkspace] = []
    try:
        for out in folders:
            workspaces.append(ResultWorkspace(out, MERGED, "merging", overwrite=overwrite))
    except BaseException:
        for workspace in workspaces:
            workspace.remove() if workspace.new else workspace.release()
        raise
    return _merge(plans, workspaces, report=report, progress=progress, **engine)


def tensors(
    plan: MergePlan, *, memory: int | str = "1GiB", threads: int | None = 1
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The tensors of a merge in the order of the plan, name and array (BF16 as uint16), without
    writing anything.

    At most `threads` + 1 tensors of the result are in memory beside the blocks, which take at most
    `memory`.
    """
    room, count, _ = _limits(memory, threads, SHARD)
    targets: dict[int, _Array] = {}

    def target(_: int, number: int) -> _Array:
        job = plan.jobs[number]
        size_of(job)
        return targets.setdefault(number, _Array(job.shape, job.dtype))

    units = units_of([plan], target)
    with MappedFiles(place.file for unit in units for place in unit.places) as files:
        for unit in Runner(files, threads=count, memory=room).in_order(units):
            for piece in unit.pieces:
                yield piece.job.name, targets.pop(piece.number).take()


class _Array:
    """A tensor in memory, made when its first block comes."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self._shape, self._dtype = shape, NUMBERS[dtype]
        self._values: NDArray[Any] | None = None

    def begin(self, start: int, count: int) -> NDArray[Any]:
        """The place of the elements."""
        if self._values is None:
            self._values = np.empty(prod(self._shape), self._dtype)
        return self._values[start : start + count]

    def end(self, start: int, values: NDArray[Any]) -> None:
        """They are where they belong."""

    def take(self) -> NDArray[Any]:
        """The whole tensor."""
        if self._values is None:
            return np.empty(self._shape, self._dtype)
        return self._values.reshape(self._shape)


def _limits(memory: int | str, threads: int | None, shard_size: int | str) -> tuple[int, int, int]:
    if threads is not None and threads < 1:
        raise PomonaError(
            f"{threads} threads do nothing", where="threads", remedy="use at least one"
        )
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return bytes_of(memory, "memory"), threads or cores, bytes_of(shard_size, "shard_size")


def _merge(
    plans: Sequence[MergePlan],
    workspaces: Sequence[ResultWorkspace],
    *,
    memory: int | str,
    threads: int | None,
    shard_size: int | str,
    report: bool,
    progress: Progress | None,
) -> list[MergeResult]:
    results: list[Result] = []
    with ExitStack() as stack:
        for workspace in workspaces:
            stack.callback(workspace.release)
        size = 0
        try:
            room, count, most = _limits(memory, threads, shard_size)
            layouts = [lay_out(plan.jobs, most) for plan in plans]
            size = sum(layout.size for layout in layouts)
            for plan, workspace, layout in zip(plans, workspaces, layouts, strict=True):
                result = Result(plan, workspace, layout, report=report, threads=count)
                results.append(stack.enter_context(result))
            units = units_of(plans, lambda plan, job: results[plan].target(job))
            _run(results, units, room, count, progress)
            return [result.finish(memory=room, threads=count) for result in results]
        except PomonaError:
            # What is wrong with the input stays wrong, so there is nothing to go on from; after
            # anything else (a kill, a lost disk) the work stays.
            _remove(workspaces)
            raise
        except OSError as error:
            if not is_full(error):
                raise
            _remove(workspaces)
            raise full_disk(workspaces[0].out, size) from error


def _remove(workspaces: Sequence[ResultWorkspace]) -> None:
    for workspace in workspaces:
        workspace.remove()


def _run(
    results: Sequence[Any],
    units: Sequence[ReadUnit],
    memory: int,
    threads: int,
    progress: Progress | None,
) -> None:
    total, done, lock = sum(unit.read for unit in units), 0, threading.Lock()

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if progress is not None:
                progress(min(done, total), total)

    measures = [result.measure for result in results]

    def measure(piece: Any, start: int, blocks: Any) -> Any:
        return measures[piece.plan](piece, start, blocks)

    with MappedFiles(place.file for unit in units for place in unit.places) as files:
        runner = Runner(files, threads=threads, memory=memory, measure=measure, advance=advance)
        for unit in runner.run(units):
            for piece in unit.pieces:
                results[piece.plan].finished(piece)


def bytes_of(size: int | str, name: str) -> int:
    """`"1GiB"`, `"512 MB"` or a number as bytes. Raises PomonaError, naming `name`, for anything
    else and for less than 64 KiB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    if match is None or match[2].lower() not in _UNITS:
        raise PomonaError(
            f'"{size}" is not a size',
            where=name,
            remedy='write a number of bytes, or "512MiB", "4GiB"',
        )
    value = int(float(match[1]) * _UNITS[match[2].lower()])
    if value < _SMALLEST:
        raise PomonaError(
            f"{size} is less than 64 KiB", where=name, remedy='give more, for example "1GiB"'
        )
    return value
