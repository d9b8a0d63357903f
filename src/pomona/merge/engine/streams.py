"""The tensors that merges read and write: mapped files, their blocks, and several jobs over one
reading.
"""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import lcm, prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge.methods.kernels import kernel_of
from pomona.merge.plan import Kernel, MergePlan, TensorInput, TensorJob, inputs_of
from pomona.models import TensorPlace
from pomona.models.tensors import NUMBERS, WIDTHS, Tensors, ThreadBuffers

# Bytes of inputs that a thread keeps mapped: each letting go interrupts the other threads.
KEPT = 1 << 25
# Bytes of one input's block: all blocks of a job together stay in the processor's cache.
BEST = 1 << 20


class Target(Protocol):
    """Where a job's tensor goes."""

    def begin(self, start: int, count: int) -> NDArray[Any]:
        """Memory for `count` elements from `start`."""
        ...

    def end(self, start: int, values: NDArray[Any]) -> None:
        """The memory that `begin` gave is filled."""
        ...


@dataclass
class MergePiece:
    """One job of one plan: its kernel, its inputs among the unit's sources (the base's first), and
    where its tensor goes.
    """

    plan: int
    number: int
    job: TensorJob
    kernel: Kernel
    sources: tuple[int, ...]
    target: Target
    done: bool = False
    measured: list[Any] = field(default_factory=list)


@dataclass
class ReadUnit:
    """Jobs over the same elements of some tensors: every block is read once for all of them."""

    places: list[TensorPlace]
    count: int
    pieces: list[MergePiece]

    @property
    def step(self) -> int:
        """Elements that blocks hold a multiple of."""
        return lcm(*(max(1, piece.kernel.unit) for piece in self.pieces))

    @property
    def width(self) -> int:
        """Bytes that one element takes in memory: of every source, and of the widest result."""
        return sum(WIDTHS[place.dtype] for place in self.places) + max(
            WIDTHS[piece.job.dtype] for piece in self.pieces
        )

    def block(self, room: int) -> int:
        """Elements of a block in at most `room` bytes. Raises PomonaError."""
        widths = [WIDTHS[place.dtype] for place in self.places]
        return block_of(self.pieces[0].job.name, self.count, self.step, widths, self.width, room)

    def kept(self, room: int) -> bool:
        """Whether its sources stay mapped from one reading to the next."""
        return self.read <= min(KEPT, room)

    @property
    def read(self) -> int:
        """Bytes of its sources."""
        return sum(place.size for place in self.places)


def block_of(name: str, count: int, step: int, widths: Sequence[int], width: int, room: int) -> int:
    """Elements of a block of the tensor `name`: a multiple of `step`, in at most `room` bytes, and
    as good for the cache as it can be.

    widths: bytes of one element of every source. width: all bytes one element takes. Raises
        PomonaError when `room` is too small.
    """
    step = max(1, min(step, count))
    if step * width > room:
        raise PomonaError(
            f"{step * width / 1e6:.0f} MB are needed at once, for {step} elements of every model",
            where=f'tensor "{name}"',
            remedy="allow more --memory, or fewer --threads",
        )
    return max(1, min(BEST // max(widths, default=1), room // width) // step) * step


class Checkpoints:
    """The models of plans, each opened once."""

    def __init__(self) -> None:
        self._open: dict[Path, Tensors] = {}

    def place(self, plan: MergePlan, item: TensorInput, job: TensorJob) -> TensorPlace:
        """Where an input is. Raises PomonaError when it is not what the plan was made for."""
        folder = plan.models[item.model]
        if folder not in self._open:
            self._open[folder] = Tensors(folder)
        place = self._open[folder].place(item.tensor)
        if place.dtype != item.dtype or place.elements != prod(job.shape):
            raise PomonaError(
                f'tensor "{item.tensor}" is {place.dtype} {list(place.shape)}, planned as '
                f"{item.dtype} {list(job.shape)}",
                where=place.file,
                remedy="was it changed meanwhile? start again",
            )
        return place


def units_of(
    plans: Sequence[MergePlan], target_of: Callable[[int, int], Target | None]
) -> list[ReadUnit]:
    """The jobs of plans, those of one name and size together. Jobs without a target are left out
    unless others need their readings.

    target_of: from the plan's and the job's number to where its tensor goes; None when it is there
        already.
    """
    checkpoints, units = Checkpoints(), {}
    for number, plan in enumerate(plans):
        for place, job in enumerate(plan.jobs):
            target = target_of(number, place)
            kernel = kernel_of(job, plan.seed)
            if target is None and kernel.shared is None:
                continue
            unit = units.setdefault((job.name, prod(job.shape)), ReadUnit([], prod(job.shape), []))
            read = [checkpoints.place(plan, item, job) for item in inputs_of(job)]
            unit.places += [one for one in dict.fromkeys(read) if one not in unit.places]
            sources = tuple(map(unit.places.index, read))
            unit.pieces.append(
                MergePiece(number, place, job, kernel, sources, target or Nowhere(), target is None)
            )
    return list(units.values())


class Nowhere:
    """The target of a tensor that is there already."""

    def begin(self, start: int, count: int) -> NDArray[Any]:
        """Never called."""
        raise AssertionError

    def end(self, start: int, values: NDArray[Any]) -> None:
        """Never called."""
        raise AssertionError


class MappedFiles:
    """Files open for reading, until the block ends. They are mapped: blocks are views of the
    system's own copy of a file.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        paths = list(dict.fromkeys(paths))
        _allow(len(paths) + 64)
        self._open: dict[Path, tuple[int, mmap.mmap]] = {}
        self._scratch = ThreadBuffers()
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            self._open[path] = (descriptor, mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))

    def __enter__(self) -> MappedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor, _mapped in self._open.values():
            os.close(descriptor)  # the map goes with the last view of it

    def expect(self, place: TensorPlace) -> None:
        """Tell the system that a tensor is read soon."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(
                self._open[place.file][0],
                place.offset,
                min(place.size, 1 << 26),
                os.POSIX_FADV_WILLNEED,
            )

    def read(self, key: int, place: TensorPlace, start: int, count: int) -> NDArray[Any]:
        """Elements of a tensor. Those that are not aligned to their type are copied to this
        thread's memory number `key`.
        """
        kind = np.dtype(NUMBERS[place.dtype])
        offset = place.offset + start * WIDTHS[place.dtype]
        if place.offset + place.size > os.fstat(self._open[place.file][0]).st_size:
            raise PomonaError(
                "has become shorter",
                where=place.file,
                remedy="was it changed meanwhile? start again",
            )
        mapped = self._open[place.file][1]
        if offset % kind.alignment == 0:
            return np.frombuffer(mapped, kind, count, offset)
        values = self._scratch.take(key, count, place.dtype)
        values.view(np.uint8)[:] = np.frombuffer(mapped, np.uint8, values.nbytes, offset)
        return values

    def release(self, place: TensorPlace, start: int, count: int) -> None:
        """Elements that were read are not needed in this process for now; the system keeps its
        copy.
        """
        width = WIDTHS[place.dtype]
        first = -(-(place.offset + start * width) // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (place.offset + (start + count) * width) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first and hasattr(mmap, "MADV_DONTNEED"):
            self._open[place.file][1].madvise(mmap.MADV_DONTNEED, first, last - first)


def _allow(files: int) -> None:
    """Let this process open so many files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files + 64:
        most = files + 64 if hard == resource.RLIM_INFINITY else min(files + 64, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
