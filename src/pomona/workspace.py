"""The folder that a long job works in: one process at a time, what a kill left is gone on from when
it is of the same plan, leftovers are swept, and a full disk is told as what it is.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pomona.documents import read_json
from pomona.errors import PomonaError, ResourceError, first_line
from pomona.files import write_json

_FULL = {errno.ENOSPC, errno.EDQUOT}
_LEFT = ("*.partial", "*.old")  # what pomona.files leaves when a kill comes


class Lock:
    """A lock file that one process holds until `release`, or its death. As a context manager it is
    released at the end of the block.

    Raises PomonaError when another process has it: `doing` says what that one does, `where` names
    the output, and `other` what to choose instead.
    """

    def __init__(self, path: Path, *, doing: str, where: Path, other: str) -> None:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise PomonaError(
                f"another process is {doing}",
                where=where,
                remedy=f"wait for it, or choose another {other}",
            ) from None

    def release(self) -> None:
        """Let others have it. The file stays: removing it would let two processes in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Workspace:
    """A folder with `plan.json`, which says what the work in it is for. Nothing is made before
    `begin`, and `remove` takes it away when the result is written.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.plan: dict[str, Any] = json.loads(json.dumps(plan))  # as it is read back

    @property
    def _note(self) -> Path:
        return self.folder / "plan.json"

    def differences(self) -> list[str]:
        """The names of what differs between this plan and that of the work in the folder; none
        where it holds no work.
        """
        old = read_json(self._note) if self._note.is_file() else self.plan
        names = {*old, *self.plan}
        return sorted(name for name in names if old.get(name) != self.plan.get(name))

    def refuse_another(self, work: str) -> None:
        """Raise PomonaError when the folder holds work of another plan, naming what differs."""
        if names := self.differences():
            raise PomonaError(
                f"holds the beginning of another {work} ({', '.join(names)} differ)",
                where=self.folder,
                remedy="finish that one with its own settings, or delete the folder",
            )

    def discard_another(self) -> None:
        """Remove work of another plan. Raises PomonaError when the folder holds something else."""
        if (
            self.folder.exists()
            and not self._note.exists()
            and any(not item.name.startswith(".") for item in self.folder.iterdir())
        ):
            raise PomonaError(
                "is not a work folder",
                where=self.folder,
                remedy="give work= an empty or a new folder",
            )
        if self.differences():
            self.remove()

    def begin(self) -> None:
        """Make the folder with its plan, where it is not there. Raises ResourceError when the disk
        is full.
        """
        if not self._note.is_file():
            with disk_guard(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(self._note, self.plan)

    def remove(self) -> None:
        """Nothing here is needed any more. A folder without a plan stays: it is somebody else's."""
        # By way of another name, so that a kill leaves the folder whole or gone: without its plan,
        # what is left would be nobody's.
        gone = self.folder.with_name(f".{self.folder.name}.discarded")
        shutil.rmtree(gone, ignore_errors=True)
        if self._note.is_file():
            self.folder.rename(gone)
            shutil.rmtree(gone)

    @contextmanager
    def resumed(self) -> Iterator[Path]:
        """The folder, with the work of this plan that is in it and no other. It is removed when the
        block ends well, and stays for the next attempt when it does not.

        Raises PomonaError when the folder holds something else, ResourceError for a full disk.
        """
        self.discard_another()
        self.begin()
        sweep(self.folder, deep=True)
        yield self.folder
        self.remove()


def sweep(folder: Path, *, deep: bool = False) -> None:
    """Remove what killed writers left half-written in a folder, and (deep) in those below it."""
    for ending in _LEFT:
        for left in list(folder.glob(f"**/.{ending}" if deep else f".{ending}")):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextmanager
def disk_guard(where: str | Path) -> Iterator[None]:
    """Turn a full disk into ResourceError and other system errors into PomonaError, both naming
    `where`.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            remedy = (
                "free some space or write elsewhere; nothing was left behind, and a file "
                "that was there is as it was"
            )
            raise ResourceError("the disk is full", where=where, remedy=remedy) from error
        raise PomonaError(
            f"cannot be written: {first_line(error)}",
            where=where,
            remedy="check the path and its permissions",
        ) from error


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def room_on_disk(folder: Path) -> tuple[int, str]:
    """Free bytes of the disk on which a folder is or will be, and where that disk is mounted."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    mount = folder.resolve()
    while not mount.is_mount():
        mount = mount.parent
    return shutil.disk_usage(folder).free, str(mount)
