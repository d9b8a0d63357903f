"""The folder beside OUT in which a result grows, with a journal of finished tensors that a killed
merge goes on from.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.files import sync
from pomona.workspace import Lock

INTERVAL = 5.0  # seconds between two entries; what a power failure can cost
_JOURNAL, _LOCK, _RESULT = "journal", "lock", "result"


class MergeWorkspace:
    """`.OUT.partial` beside OUT, with the result so far, its journal, and whatever was prepared for
    the merge.

    Raises PomonaError when OUT is there and `overwrite` is not given, when OUT is no checkpoint,
    and when another process works on it.
    """

    def __init__(self, out: Path, *, overwrite: bool = False) -> None:
        self.out = out
        self.folder = out.with_name(f".{out.name}.partial")
        check_free(out, overwrite)
        self.new = not self.folder.exists()
        self._lock = Lock(self.folder / _LOCK, doing="merging into it", where=out, other="folder")

    @property
    def result(self) -> Path:
        """The folder that becomes OUT."""
        return self.folder / _RESULT

    def open(self, key: str) -> Journal:
        """The journal of the merge that `key` stands for; what another merge left is removed."""
        journal = Journal.read(self.folder / _JOURNAL, key) if self.result.is_dir() else None
        if journal is None:
            shutil.rmtree(self.result, ignore_errors=True)
            (self.folder / _JOURNAL).unlink(missing_ok=True)
            self.result.mkdir()
            journal = Journal(self.folder / _JOURNAL, key)
        return journal

    def finish(self) -> None:
        """The result takes OUT's place, whole."""
        sync(self.result)
        old = self.out.with_name(f".{self.out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.out.exists():
            self.out.rename(old)
        self.result.rename(self.out)
        sync(self.out.parent)
        shutil.rmtree(old, ignore_errors=True)
        self.remove()

    def remove(self) -> None:
        """Nothing stays."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """What is there stays, for the same command to go on from."""
        self._lock.release()


class Journal:
    """Lines of JSON: the merge's key, then the numbers of finished tensors with what was measured
    on them.
    """

    def __init__(self, path: Path, key: str, done: Mapping[int, Any] | None = None) -> None:
        self.path, self.key = path, key
        self.done: dict[int, Any] = dict(done or {})
        self.found = len(self.done)  # tensors that were finished before
        self._waiting: dict[int, Any] = {}
        self._last = time.monotonic()

    @classmethod
    def read(cls, path: Path, key: str) -> Journal | None:
        """The journal of an earlier, killed call; None when there is none or it is of another
        merge.
        """
        if not path.is_file():
            return None
        lines = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # the kill came while it was written
                break
        if not lines or lines[0] != {"key": key}:
            return None
        return cls(
            path,
            key,
            {int(number): measured for line in lines[1:] for number, measured in line.items()},
        )

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
        if self._waiting:
            self._append(self._waiting)
        self._waiting, self._last = {}, time.monotonic()

    def _append(self, value: Any) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(value) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def check_free(out: Path, overwrite: bool) -> None:
    """Raise PomonaError when OUT may not be written: there already, or to be overwritten and not a
    checkpoint.
    """
    if not out.name or out.name in (".", ".."):
        raise PomonaError("is no name for a result", where=out, remedy="name a new folder")
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise PomonaError(
            "is there already",
            where=out,
            remedy="choose another name, or write over it with --overwrite",
        )
    if not out.is_dir() or (any(out.iterdir()) and not (out / "config.json").is_file()):
        raise PomonaError(
            "is no checkpoint, so it is not overwritten",
            where=out,
            remedy="choose another name, or remove it",
        )
