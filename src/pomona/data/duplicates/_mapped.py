"""Arrays in files without a name, mapped into memory: they vanish with the process, however it ends."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.records._store import is_remote
from pomona.records._write import disk_guard

_PIECE = 1 << 16
_PAD = np.zeros(8, np.uint8)  # a map cannot be empty


class Mapped:
    """A nameless file of numbers and, once closed for writing, its array."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.size = 0

    def append(self, data: NDArray[Any]) -> None:
        """Write in small pieces: of what is written at once Linux makes pages of up to 2 MiB, which it then maps whole to give one byte."""
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self.size += raw.nbytes
        with disk_guard(f"the work folder {self._folder}"):
            for start in range(0, raw.nbytes, _PIECE):
                self._file.write(raw[start : start + _PIECE])

    def array(self, dtype: Any) -> NDArray[Any]:
        """Everything appended, as an array that shares the file's pages."""
        used = self.size
        self.append(_PAD)
        with disk_guard(f"the work folder {self._folder}"):
            self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0)
        return np.frombuffer(self._map, np.uint8)[:used].view(dtype)

    def release(self) -> None:
        """Let the system take the pages back; they are read again when needed."""
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Give the disk space back. A full disk has been reported by then."""
        with contextlib.suppress(OSError):
            self._file.close()


def file_pages() -> int:
    """Bytes of file pages, programs and libraries among them, that the process holds in memory; `sys.maxsize` where Linux does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else sys.maxsize


def work_folder(out: str | Path, work: str | Path | None) -> Path:
    """The folder `work`, made when it is not there; by default that of `out`."""
    if work is None and is_remote(str(out)):
        return Path(tempfile.gettempdir())
    folder = Path(out).absolute().parent if work is None else Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
