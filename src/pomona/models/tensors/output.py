"""The folder beside OUT in which a checkpoint grows, with a journal of finished tensors from which
a killed command goes on; and its safetensors files: laid out before the first tensor is computed,
given their room on the disk, filled in any order.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.files import check_ours, replace_directory
from pomona.models.tensors.files import NUMBERS, WIDTHS
from pomona.workspace import Lock, Workspace

INTERVAL = 5.0  # seconds between two entries; what a power failure can cost
_JOURNAL, _RESULT = "journal", "result"


class NamedTensor(Protocol):
    """What is laid out: a tensor's name, shape, and type as safetensors names it."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...


class ResultWorkspace:
    """`.OUT.partial` beside OUT, with the result so far, its journal, and whatever was prepared for
    it. `kind` is that of the folder, see `pomona.files.check_ours`; `doing` what is done.

    Raises PomonaError when OUT is there and `overwrite` is not given, when OUT is not ours, and
    when another process works on it.
    """

    def __init__(self, out: Path, kind: str, doing: str, *, overwrite: bool = False) -> None:
        out = out.resolve() if out.is_symlink() else out  # the link stays
        check_free(out, kind, overwrite)
        self.out, self._kind = out, kind
        lock = out.with_name(f".{out.name}.lock")
        self._lock = Lock(lock, doing=f"{doing} into it", where=out, other="folder")
        # What is kept says itself of which result it is, see `Journal`: the plan is that of any.
        self._workspace = Workspace(out.with_name(f".{out.name}.partial"), {kind: out.name})
        try:
            self._workspace.discard_another()
            self.new = not self._workspace.begun
            self._workspace.begin()
        except BaseException:
            self._lock.release()
            raise
        self.folder = self._workspace.folder

    @property
    def result(self) -> Path:
        """The folder that becomes OUT."""
        return self.folder / _RESULT

    def open(self, key: str) -> Journal:
        """The journal of the result that `key` stands for; what another left is removed."""
        journal = Journal.read(self.folder / _JOURNAL, key) if self.result.is_dir() else None
        if journal is None:
            shutil.rmtree(self.result, ignore_errors=True)
            (self.folder / _JOURNAL).unlink(missing_ok=True)
            self.result.mkdir()
            journal = Journal(self.folder / _JOURNAL, key)
        return journal

    def finish(self) -> None:
        """The result takes OUT's place, whole."""
        replace_directory(self.result, self.out, self._kind)
        self.remove()

    def remove(self) -> None:
        """Nothing stays."""
        self._workspace.remove()
        self.release()

    def release(self) -> None:
        """What is there stays, for the same command to go on from."""
        self._lock.release()


class Journal:
    """Lines of JSON: the result's key, then the numbers of finished tensors with what was measured
    on them.
    """

    def __init__(self, path: Path, key: str, done: Mapping[int, Any] | None = None) -> None:
        self.path, self.key = path, key
        self.done: dict[int, Any] = dict(done or {})
        self.finished_before = len(self.done)
        self._waiting: dict[int, Any] = {}
        self._last = time.monotonic()

    @classmethod
    def read(cls, path: Path, key: str) -> Journal | None:
        """The journal of an earlier, killed call; None when there is none or it is of another
        result.
        """
        if not path.is_file():
            return None
        lines: list[Any] = []
        for line in path.read_bytes().splitlines():
            try:
                lines.append(parse_json(line, path, finite=False))
            except PomonaError:  # the kill came while it was written
                break
        if not lines or lines[0] != {"key": key}:
            return None
        done = {name: measured for line in lines[1:] for name, measured in line.items()}
        if not all(re.fullmatch("[0-9]{1,9}", name) for name in done):
            return None
        return cls(path, key, {int(number): measured for number, measured in done.items()})

    def begin(self) -> None:
        """The files have their room: tensors may be entered from now on."""
        if not self.path.exists():
            self._append({"key": self.key})

    def add(self, number: int, measured: Any) -> bool:
        """A tensor is finished. Returns whether it is time to `save`."""
        self.done[number] = self._waiting[number] = measured
        return time.monotonic() - self._last >= INTERVAL

    def save(self) -> None:
        """Enter the finished tensors, whose data the caller has brought to the disk."""
        # The data came to the disk before its entry: an entry without data would be believed.
        if self._waiting:
            self._append(self._waiting)
        self._waiting, self._last = {}, time.monotonic()

    def _append(self, value: Any) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(value) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def check_free(out: Path, kind: str, overwrite: bool) -> None:
    """Raise PomonaError when OUT may not be written: not ours, or there already and not to be
    overwritten.
    """
    check_ours(out, kind)
    if os.path.lexists(out) and not overwrite:
        raise PomonaError(
            "is there already",
            where=out,
            remedy="choose another name, or write over it with --overwrite",
        )


SHARD = 5_000_000_000  # bytes of a shard when nothing is said


@dataclass(frozen=True)
class Shard:
    """One file: its name, its header as it is written, the offset of each job's tensor by the job's
    number, and its size in bytes.
    """

    name: str
    header: bytes
    offsets: dict[int, int]
    size: int


@dataclass(frozen=True)
class ShardLayout:
    """The files of a result and, where there are several, their index."""

    shards: tuple[Shard, ...]
    index: bytes | None

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self.shards)

    def place(self, number: int) -> tuple[int, int]:
        """Number of the shard and offset of a job's tensor."""
        return next(
            (place, shard.offsets[number])
            for place, shard in enumerate(self.shards)
            if number in shard.offsets
        )


def size_of(job: NamedTensor) -> int:
    """Bytes of a job's tensor. Raises PomonaError for types that cannot be written."""
    if job.dtype not in WIDTHS:
        raise PomonaError(
            f'tensor "{job.name}" is of type {job.dtype}',
            where="result",
            remedy=f"known types: {', '.join(WIDTHS)}",
        )
    return prod(job.shape) * WIDTHS[job.dtype]


def lay_out(jobs: Sequence[NamedTensor], shard_size: int) -> ShardLayout:
    """Jobs in their order over files of at most `shard_size` bytes; a larger tensor has a file of
    its own.
    """
    groups: list[list[int]] = [[]]
    filled = 0
    for number, job in enumerate(jobs):
        size = size_of(job)
        if groups[-1] and filled + size > shard_size:
            groups.append([])
            filled = 0
        groups[-1].append(number)
        filled += size
    count = len(groups)
    names = (
        [f"model-{place:05}-of-{count:05}.safetensors" for place in range(1, count + 1)]
        if count > 1
        else ["model.safetensors"]
    )
    shards = tuple(_shard(name, group, jobs) for name, group in zip(names, groups, strict=True))
    if count == 1:
        return ShardLayout(shards, None)
    weight_map = {jobs[number].name: shard.name for shard in shards for number in shard.offsets}
    total = sum(size_of(job) for job in jobs)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return ShardLayout(shards, (json.dumps(index, indent=2) + "\n").encode())


def _shard(name: str, numbers: Sequence[int], jobs: Sequence[NamedTensor]) -> Shard:
    """Wide types come first, so that every tensor is aligned to its type."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset, offsets = 0, {}
    for number in sorted(numbers, key=lambda number: -WIDTHS[jobs[number].dtype]):
        job = jobs[number]
        header[job.name] = {
            "dtype": job.dtype,
            "shape": list(job.shape),
            "data_offsets": [offset, offset + size_of(job)],
        }
        offsets[number] = offset
        offset += size_of(job)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    encoded = len(encoded).to_bytes(8, "little") + encoded
    return Shard(
        name,
        encoded,
        {number: at + len(encoded) for number, at in offsets.items()},
        offset + len(encoded),
    )


class ThreadBuffers(threading.local):
    """Memory of a thread that is used again and again."""

    def __init__(self) -> None:
        self._kept: dict[object, NDArray[np.uint8]] = {}

    def take(self, key: object, count: int, dtype: str) -> NDArray[Any]:
        """`count` elements of a stored type; what was in them is undefined."""
        size = count * WIDTHS[dtype]
        if key not in self._kept or self._kept[key].size < size:
            self._kept[key] = np.empty(size, np.uint8)
        return self._kept[key][:size].view(NUMBERS[dtype])


class Output:
    """The files of one result, open for writing until the block ends. `fresh` lays them out anew,
    with all their room on the disk.
    """

    def __init__(self, folder: Path, layout: ShardLayout, *, fresh: bool) -> None:
        self.folder, self.layout = folder, layout
        self._scratch = ThreadBuffers()
        self._open: list[int] = []
        try:
            for shard in layout.shards:
                self._open.append(
                    os.open(folder / shard.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                )
                if fresh:
                    # Its room on the disk; where the system cannot give it, only its length.
                    allocate = getattr(os, "posix_fallocate", lambda d, _, n: os.ftruncate(d, n))
                    allocate(self._open[-1], 0, shard.size)
                    os.pwrite(self._open[-1], shard.header, 0)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        while self._open:
            os.close(self._open.pop())

    def sync(self) -> None:
        """Everything written so far is on the disk when this returns."""
        for descriptor in list(self._open):
            os.fsync(descriptor)

    def target(self, number: int, job: NamedTensor) -> FileTarget:
        """Where a job's tensor goes."""
        shard, offset = self.layout.place(number)
        return FileTarget(self._open[shard], offset, job.dtype, self._scratch)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    function = (
        getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
    )
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


@dataclass(frozen=True)
class FileTarget:
    """A tensor's place in a file."""

    descriptor: int
    offset: int
    dtype: str
    scratch: ThreadBuffers

    def begin(self, start: int, count: int) -> NDArray[Any]:
        """This thread's memory."""
        return self.scratch.take("out", count, self.dtype)

    def end(self, start: int, values: NDArray[Any]) -> None:
        """Write it where it belongs."""
        view, offset = memoryview(values.view(np.uint8)), self.offset + start * WIDTHS[self.dtype]  # pyright: ignore[reportArgumentType]
        begin = _sync_file_range()
        while view:
            done = os.pwrite(self.descriptor, view, offset)
            # The disk begins with it, so that the sync at the end has little left.
            if begin is not None:
                begin(self.descriptor, offset, done, 2)  # SYNC_FILE_RANGE_WRITE
            view, offset = view[done:], offset + done
