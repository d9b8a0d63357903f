"""The folder that a long job works in: one process at a time, what a kill left is gone on from when
it is of the same plan, leftovers are swept, and a full disk is told as what it is.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from pomona.documents import read_json
from pomona.errors import PomonaError, ResourceError, first_line
from pomona.files import beside, leftovers, recover, sweep, write_json
from pomona.places import Where

FileStamp = tuple[str, int, int, int]
_FULL = {errno.ENOSPC, errno.EDQUOT}
_SAYS_FULL = re.compile(r"\d requested and \d+ written|No space left on device|quota exceeded")
MARKER = "pomona-work.json"
NO_WINDOWS = "Pomona runs on Linux and macOS; on Windows, run it in WSL"
_NOTE = b"pomona\n"  # how the file of a lock begins that is not empty
_ID = re.compile("[0-9a-f]{16}")


class Lock:
    """A lock file that one process holds until `release`, or its death. As a context manager it is
    released at the end of the block.

    Raises PomonaError when another process has it: `doing` says what that one does, `where` names
    the output, and `other` what to choose instead.
    """

    def __init__(self, path: Path, *, doing: str, where: object, other: str) -> None:
        try:
            import fcntl
        except ImportError:
            raise PomonaError(NO_WINDOWS) from None
        self.path = path
        self._descriptor: int | None = None
        with disk_guard(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while not self._is_there():
                self.close()
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self.close()
                    raise PomonaError(
                        f"another process is {doing}",
                        where=where,
                        remedy=f"wait for it, or choose another {other}",
                    ) from None
        held = os.pread(self._held, len(_NOTE), 0)
        if not _NOTE.startswith(held):
            self.close()
            raise PomonaError(
                "is there, where Pomona would lock, and is not Pomona's",
                where=path,
                remedy=f"move it away, or choose another {other}",
            )

    @property
    def _held(self) -> int:
        assert self._descriptor is not None, "a lock that is not held"
        return self._descriptor

    def _is_there(self) -> bool:
        """Whether what is held still has its name: another process may have removed it between our
        opening and locking, and a third made a new one.
        """
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))  # noqa: PTH116
        except FileNotFoundError:
            return False

    def note(self, text: str) -> None:
        """Write something into the file for whoever holds it after a kill."""
        os.ftruncate(self._held, 0)
        os.pwrite(self._held, _NOTE + text.encode(), 0)
        os.fsync(self._held)

    def noted(self) -> bytes:
        """What a killed holder has noted, as far as it came."""
        return os.pread(self._held, 1 << 20, 0).removeprefix(_NOTE)

    def release(self) -> None:
        """Let others have it. The file goes while it is still held, so that nobody waits at it."""
        if self._descriptor is not None:
            if self._is_there():
                self.path.unlink()
            self.close()

    def close(self) -> None:
        """Let others have it; the file stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Workspace:
    """A folder for the work of one plan. Ours in it are a marker, which holds the plan and a random
    number, and the folder of that number: nothing else is ever removed. Nothing is made before
    `begin`, and `remove` takes it away when the result is written.
    """

    def __init__(self, root: Path, plan: Mapping[str, Any]) -> None:
        self.root = root
        self.plan: dict[str, Any] = json.loads(json.dumps(plan))  # as it is read back

    @property
    def _marker(self) -> Path:
        return self.root / MARKER

    @property
    def folder(self) -> Path:
        """Where the work is; the root itself as long as there is none."""
        marked = self._read()
        return self.root / f"work-{marked['id']}" if marked else self.root

    def _read(self) -> dict[str, Any] | None:
        """What the marker says; None where there is none. Raises PomonaError for one not ours."""
        if not os.path.lexists(self._marker):
            return None
        remedy = "delete the folder if its work is not needed, or choose another"
        marked = read_json(self._marker, remedy=remedy)
        number, plan = marked.get("id"), marked.get("plan")
        if not (isinstance(number, str) and _ID.fullmatch(number) and isinstance(plan, dict)):
            raise PomonaError("is no marker of Pomona's work", where=self._marker, remedy=remedy)
        return marked

    @property
    def begun(self) -> bool:
        """Whether there is work in the folder."""
        return self._read() is not None

    def check(self) -> None:
        """Raise PomonaError when the folder is no place for work: a file, or what somebody else has
        filled. (The work folder itself may be anybody's, as long as it is empty.)
        """
        remedy = "choose another work folder, or move away what is there"
        self._sweep_beside()
        if self.root.is_dir():
            recover(self._marker)
            if self._read() is None and any(self.root.iterdir()):
                raise PomonaError(
                    "holds files and is no work folder of Pomona's", where=self.root, remedy=remedy
                )
        elif os.path.lexists(self.root):
            raise PomonaError("is no folder", where=self.root, remedy=remedy)

    def differences(self) -> list[str]:
        """The names of what differs between this plan and that of the work in the folder; none
        where it holds no work, or what a kill left while work was removed.
        """
        marked = self._read()
        old = marked["plan"] if marked and self.folder.is_dir() else self.plan
        names = {*old, *self.plan}
        return sorted(name for name in names if old.get(name) != self.plan.get(name))

    def refuse_another(self, work: str) -> None:
        """Raise PomonaError when the folder holds work of another plan, naming what differs."""
        self.check()
        if names := self.differences():
            raise PomonaError(
                f"holds the beginning of another {work} ({', '.join(names)} differ)",
                where=self.root,
                remedy="finish that one with its own settings, or delete the folder",
            )

    def discard_another(self) -> None:
        """Remove work of another plan. Raises PomonaError when the folder holds something else."""
        self.check()
        cut_short = self._read() is not None and not self.folder.is_dir()
        if cut_short or self.differences():
            self.remove()

    def begin(self) -> None:
        """Make the folder with its plan, where it is not there. Raises ResourceError when the disk
        is full.
        """
        with disk_guard(self.root):
            before = self._read()
            if before is not None and before["plan"] != self.plan and not self.folder.is_dir():
                write_json(self._marker, {**before, "plan": self.plan})
            if before is None:
                made = not self.root.exists()
                marked = {"id": secrets.token_hex(8), "made": made, "plan": self.plan}
                # Before the folder that it names: without it nobody would know whose that is. And
                # in a new folder before that has its name, or a kill would leave it empty.
                place = self._beside if made else self.root
                place.mkdir(parents=True, exist_ok=True)
                write_json(place / MARKER, marked)
                if made:
                    place.rename(self.root)
            self.folder.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Nothing here is needed any more. What others have put beside it stays."""
        marked = self._read()
        if marked is None:
            return
        # By way of another name, so that a kill leaves the work whole, or known as removed.
        folder, gone = self.folder, self.root / f"gone-{marked['id']}"
        if folder.is_dir():
            shutil.rmtree(gone, ignore_errors=True)  # half of it is there after a kill
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        if marked.get("made") and [one.name for one in self.root.iterdir()] == [MARKER]:
            self.root.rename(self._beside)
            _take_away(self._beside)
        else:
            self._marker.unlink()

    @property
    def _beside(self) -> Path:
        """What the folder is called before and after all that a kill could leave behind."""
        return beside(self.root)

    def _sweep_beside(self) -> None:
        """Take away what a kill left while the folder was made or removed."""
        for left in leftovers(self.root.parent) if self.root.parent.is_dir() else ():
            if left.match["name"] == self.root.name and left.match["kind"] == "partial":
                _take_away(left.path)

    @contextmanager
    def resumed(self) -> Iterator[Path]:
        """The folder, with the work of this plan that is in it and no other. It is removed when the
        block ends well, and stays for the next attempt when it does not.

        Raises PomonaError when the folder holds something else or another process works in it,
        ResourceError for a full disk.
        """
        with self.locked():
            self.discard_another()
            self.begin()
            sweep(self.folder, deep=True)
            try:
                yield self.folder
            except BaseException:
                if not any(self.folder.glob("*")):
                    self.remove()
                raise
            self.remove()

    def locked(self) -> Lock:
        """Until it is released, no other process works in this folder."""
        self.check()
        place = self.root.with_name(f".{self.root.name}.lock")
        return Lock(place, doing="working in it", where=self.root, other="folder")


def _take_away(folder: Path) -> None:
    """Remove a folder that holds nothing but a marker or half of one, or nothing."""
    with suppress(OSError):  # somebody has put a file into it
        if folder.is_dir():
            recover(folder / MARKER)  # a half of it
            (folder / MARKER).unlink(missing_ok=True)
            folder.rmdir()


def stamp(inputs: Iterable[Where]) -> list[FileStamp]:
    """Name, size, time of change and number of every file that is read, and of all files in a
    folder; what is not local has none. Two stamps that differ mean that a file was changed.
    """
    stamps: list[FileStamp] = []
    for where in inputs:
        path = Path(where)
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            try:
                status = file.stat()
            except OSError:
                continue
            # Hidden ones are no part of an input, see `sha256_of`; of ours some come and go.
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if not file.is_dir() and not hidden:
                stamps.append((str(file), status.st_size, status.st_mtime_ns, status.st_ino))
    return stamps


def refuse_changed(before: object, after: object, where: object) -> None:
    """Raise PomonaError when two stamps of the inputs of `where` differ."""
    if before != after:
        raise PomonaError(
            "an input was changed while it was read, so nothing is written",
            where=where,
            remedy="run again once nothing writes to the inputs",
        )


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
    """Whether an error says that a disk or a quota is full: NumPy and libraries in Rust give their
    errors no number.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return getattr(error, "errno", None) is None and _SAYS_FULL.search(str(error)) is not None


def room_on_disk(folder: Path) -> tuple[int, str]:
    """Free bytes of the disk on which a folder is or will be, and where that disk is mounted."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    mount = folder.resolve()
    while not mount.is_mount():
        mount = mount.parent
    return shutil.disk_usage(folder).free, str(mount)
