"""Arrays in files without a name, mapped into memory: they vanish with the process, however it ends."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.records._store import is_remote
from pomona.records._write import disk_guard

_PAD = np.zeros(8, np.uint8)  # a map cannot be empty


class Mapped:
    """A nameless file of numbers and, once closed for writing, its array."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.size = 0

    def append(self, data: NDArray[Any]) -> None:
        self.size += data.nbytes
        with disk_guard(f"the work folder {self._folder}"):
            self._file.write(np.ascontiguousarray(data))

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
        self._file.close()


def work_folder(out: str | Path, work: str | Path | None) -> Path:
    """The folder `work`, made when it is not there; by default that of `out`."""
    if work is None and is_remote(str(out)):
        return Path(tempfile.gettempdir())
    folder = Path(out).absolute().parent if work is None else Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
