"""Arrays in files of a work folder, mapped into memory, and how far they are whole after a kill."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pomona.data.work import noted
from pomona.files import write_json
from pomona.workspace import disk_guard

_PIECE = 1 << 16
_PAD = np.zeros(8, np.uint8)  # a map cannot be empty


class Mapped:
    """A file of numbers that grows from its first `size` bytes on and, once closed for writing, its
    array.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self._path, self.size = path, size
        with disk_guard(_named(path)):
            self._file: Any = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(size)
            self._file.seek(size)

    def append(self, data: NDArray[Any]) -> None:
        """Write in small pieces: of what is written at once Linux makes pages of up to 2 MiB, which
        it then maps whole to give one byte.
        """
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self.size += raw.nbytes
        with disk_guard(_named(self._path)):
            for start in range(0, raw.nbytes, _PIECE):
                self._file.write(raw[start : start + _PIECE])

    def settle(self) -> None:
        """Wait until the disk has what was appended."""
        with disk_guard(_named(self._path)):
            self._file.flush()
            os.fsync(self._file.fileno())

    def array(self, dtype: Any) -> NDArray[Any]:
        """Everything appended, as an array that shares the file's pages."""
        used = self.size
        self.append(_PAD)
        with disk_guard(_named(self._path)):
            self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0)
        return np.frombuffer(self._map, np.uint8)[:used].view(dtype)

    def save(self) -> None:
        """Wait until the disk has what was written to the array."""
        with disk_guard(_named(self._path)):
            self._map.flush()

    def release(self) -> None:
        """Let the system take the pages back; they are read again when needed."""
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Close the file. A full disk has been reported by then."""
        with contextlib.suppress(OSError):
            self._file.close()


class Kept:
    """Files of a work folder that grow together: the first `rows` rows of the input are in them,
    and stay after a kill.

    An error before anything is kept removes the folder.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._note = folder, folder / "kept.json"
        known = noted(self._note, rows=int, sizes=dict) or {"rows": 0, "sizes": {}}
        if known["sizes"].keys() - set(names) or not all(
            type(size) is int and holds(folder / name, size)
            for name, size in known["sizes"].items()
        ):
            known = {"rows": 0, "sizes": {}}
        self.rows: int = known["rows"]
        self.files = {name: Mapped(folder / name, known["sizes"].get(name, 0)) for name in names}

    def keep(self, rows: int) -> None:
        """Note that the first `rows` rows are in the files."""
        # The files first: the note must never promise rows that the disk does not have.
        for file in self.files.values():
            file.settle()
        with disk_guard(_named(self._note)):
            write_json(
                self._note,
                {"rows": rows, "sizes": {name: file.size for name, file in self.files.items()}},
            )
        self.rows = rows

    def close(self) -> None:
        """Close the files; what is in them stays."""
        for file in self.files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if error is not None and not self._note.exists():
            shutil.rmtree(self._folder)


def holds(path: Path, size: int) -> bool:
    """Whether a file has at least `size` bytes."""
    return path.exists() and path.stat().st_size >= size


def _named(path: Path) -> str:
    return f"the work folder {path.parent}"


def file_pages() -> int:
    """Bytes of file pages, programs and libraries among them, that the process holds in memory;
    `sys.maxsize` where Linux does not say.
    """
    statm = Path("/proc/self/statm")
    return (
        int(statm.read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")
        if statm.exists()
        else sys.maxsize
    )
