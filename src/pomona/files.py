"""Whole files or none, and only our own replaced: everything is written beside its destination,
synced, and renamed over it. A folder that we make lists what we made in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from pomona.documents import read_json
from pomona.errors import PomonaError, first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

LISTING = ".pomona.json"  # in a folder that we made: {"kind": …, "made": [names below the folder]}
_LEFT = re.compile(
    r"\.(?P<name>.+)\.(?P<pid>[0-9]{1,10})\.(?P<check>[0-9a-f]{8})\.(?P<kind>partial|old)",
    re.DOTALL,
)
_ELSEWHERE = "choose another name, or move away what is there"
_FOREIGN = "is not what Pomona wrote there, so it is not replaced"


def cache_folder() -> Path:
    """Where is kept what can be made again: POMONA_CACHE, or the user's cache."""
    given = os.environ.get("POMONA_CACHE")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("pomona"))


def beside(path: Path, kind: Literal["partial", "old"] = "partial", pid: int | None = None) -> Path:
    """What a process (this one) calls what will be `path`, or was it. Its digits are made of the
    others: a name that merely looks alike is somebody else's, and never taken for a leftover.
    """
    pid = os.getpid() if pid is None else pid
    return path.with_name(f".{path.name}.{pid}.{_check_digits(path.name, pid)}.{kind}")


def _check_digits(name: str, pid: int) -> str:
    return hashlib.sha256(f"pomona/{pid}/{name}".encode(errors="surrogateescape")).hexdigest()[:8]


def sync(path: Path) -> None:
    """What was written to a file, or the names in a folder, is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; it replaces `path` when the block ends, and is removed when the
    block fails. A link stays, and what it leads to is replaced. What killed writers of it left
    beside it goes.

    Raises PomonaError when a folder, a pipe or a device is at `path`.
    """
    path = Path(path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if os.path.lexists(path) and not path.is_file():
        raise PomonaError("is no file", where=path, remedy=_ELSEWHERE)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    partial = beside(path)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path, kind: str = "") -> Iterator[Path]:
    """Yield an empty folder; it becomes `path` when the block ends, and is removed when the block
    fails. Of a folder that is there, the files that we made in it go and all others stay. `kind`
    says what the folder is, as in "an index": one of another kind is not replaced.

    Raises PomonaError when `path` is not a folder of ours of that kind, and when a file of somebody
    else has the name of a new one.
    """
    path = Path(path)
    check_ours(path, kind)
    if path.is_symlink():
        path = path.resolve()
    partial = beside(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    # From the first moment, so that what a kill leaves is known as ours.
    _list(partial, kind)
    try:
        yield partial
        replace_directory(partial, path, kind)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_directory(new: Path, path: Path, kind: str = "") -> None:
    """The folder `new`, beside `path`, takes its place, with a list of what is in it; what others
    have put in `path` moves along. See `atomic_directory`. No link may be at `path`.
    """
    check_ours(path, kind)
    before = _made(path) or frozenset[str]()
    others = [name for name in _files(path) if name not in before]
    for name in others:
        _take_back(path / name, new / name, new)
    made = set(_list(new, kind))
    for name in others:
        if name in made or any(str(parent) in made for parent in PurePosixPath(name).parents):
            raise PomonaError(
                "is in the way of a new file and Pomona did not write it",
                where=path / name,
                remedy="move it away",
            )
    for file in new.rglob("*"):
        if not file.is_symlink():
            sync(file)
    sync(new)
    # What is not ours has its name in the new folder before the old one loses its own: a kill here
    # or later never leaves it under no name.
    for name in others:
        _carry(path / name, new / name)
    # A folder cannot be replaced in one step. A kill between the two renames leaves the old one
    # under a name that `recover` knows.
    old = beside(path, "old")
    if path.exists():
        path.rename(old)
    new.rename(path)
    sync(path.parent)
    _discard(old, path)


def check_ours(path: Path, kind: str = "") -> None:
    """Raise PomonaError unless a result may become the folder `path`: nothing is there, an empty
    folder, or one that we made and that is of the same kind.
    """
    if not path.name or path.name in (".", ".."):
        raise PomonaError("is no name for a result", where=path, remedy="name a new folder")
    recover(path)
    if path.is_dir():
        listed = _listed(path)
        if listed is None and any(path.iterdir()):
            wrong = "holds files and is no folder that Pomona made, so it is not replaced"
            raise PomonaError(wrong, where=path, remedy=_ELSEWHERE)
        was = listed and listed["kind"]
        if was and kind and was != kind:
            wrong = f"is {was}, which {kind} does not replace"
            raise PomonaError(wrong, where=path, remedy=_ELSEWHERE)
        return
    if os.path.lexists(path):
        raise PomonaError("is no folder", where=path, remedy=_ELSEWHERE)


def recover(path: Path) -> None:
    """Bring back a folder that a kill left under its second name, and remove what killed writers of
    `path` left beside it.
    """
    if not path.parent.is_dir():
        return
    for left in leftovers(path.parent):
        if left.match["name"] != path.name:
            continue
        if left.match["kind"] == "old" and _made(left.path) and not os.path.lexists(path):
            left.path.rename(path)
        else:
            left.remove()


def sweep(folder: Path, *, deep: bool = False) -> None:
    """Remove what killed writers left half-written in a folder, and (deep) in those below it."""
    below = [path for path in folder.rglob("*") if path.is_dir()] if deep else []
    for place in [folder, *below]:
        if place.is_dir():  # it may have gone with the one above
            for left in leftovers(place):
                recover(place / left.match["name"])


class Leftover:
    """What a writer that is no more left: where it is, and the parts of its name."""

    def __init__(self, path: Path, match: re.Match[str]) -> None:
        self.path, self.match = path, match

    def remove(self) -> None:
        """Take the file away, or of a folder what is listed as ours."""
        if not self.path.is_dir():
            self.path.unlink(missing_ok=True)
        elif self.match["kind"] == "old":
            _discard(self.path, self.path.with_name(self.match["name"]))
        elif _made(self.path) is not None or set(os.listdir(self.path)) <= {LISTING}:  # noqa: PTH208
            shutil.rmtree(self.path, ignore_errors=True)


def leftovers(folder: Path) -> list[Leftover]:
    """What writers that are no more left in a folder; nothing where its names are kept from us."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except PermissionError:
        return []
    matches = [(name, _LEFT.fullmatch(name)) for name in names]
    return [
        Leftover(folder / name, match)
        for name, match in matches
        if match is not None
        and match["check"] == _check_digits(match["name"], int(match["pid"]))
        and not _alive(int(match["pid"]))
    ]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _list(folder: Path, kind: str) -> list[str]:
    """Write the list of what is in a folder into it."""
    made = [name for name in _files(folder) if name != LISTING]
    text = json_text({"kind": kind, "made": made})
    (folder / LISTING).write_text(text, encoding="utf-8", errors="surrogateescape")
    return [*made, LISTING]


def _made(folder: Path) -> frozenset[str] | None:
    """Names of the files below a folder that we made; None where it is not ours."""
    listed = _listed(folder)
    return None if listed is None else frozenset([*listed["made"], LISTING])


def _listed(folder: Path) -> dict[str, Any] | None:
    """What a folder's list says, as far as it is one."""
    listing = folder / LISTING
    if not stat.S_ISREG(listing.lstat().st_mode if os.path.lexists(listing) else 0):
        return None
    try:
        listed = read_json(listing)
    except PomonaError:
        return None
    kind, names, digests = listed.get("kind"), listed.get("made"), listed.get("sha256", {})
    if not isinstance(names, list) or not isinstance(digests, dict):
        return None
    known = {name: one for name, one in digests.items() if isinstance(one, list)}
    return {
        "kind": kind if isinstance(kind, str) else "",
        "made": [name for name in names if isinstance(name, str)],
        "sha256": known,
    }


def _files(folder: Path) -> list[str]:
    """Names of all below a folder that is no folder, or an empty one; in order."""
    names: list[str] = []
    for place, folders, files in os.walk(folder):
        below = Path(place)
        links = [name for name in folders if (below / name).is_symlink()]
        names += [str((below / name).relative_to(folder)) for name in [*files, *links]]
        if below != folder and not folders and not files:
            names.append(str(below.relative_to(folder)))
    return sorted(names)


def _carry(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir() and not file.is_symlink():
        place.mkdir(exist_ok=True)
        return
    try:
        os.link(file, place, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(file, place, follow_symlinks=False)


def _take_back(file: Path, place: Path, new: Path) -> None:
    """Undo `_carry`, which a killed attempt did: what was carried would be listed as ours."""
    if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
        if not _is_carried(file, place):
            return
        place.unlink()
    for folder in (place, *place.parents):
        if folder == new:
            return
        with suppress(OSError):  # it is not there, or something else is in it
            folder.rmdir()


def _is_carried(file: Path, place: Path) -> bool:
    """Whether one is the other, or a copy of it with its time."""
    there, here = file.lstat(), place.lstat()
    if os.path.samestat(there, here):
        return True
    if file.is_symlink() or place.is_symlink():
        return file.is_symlink() and place.is_symlink() and file.readlink() == place.readlink()
    known = (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns)
    return known and file_sha256(file) == file_sha256(place)


def _discard(old: Path, path: Path) -> None:
    """Remove of a replaced folder what we made, and what has its name in the new one too."""
    if not old.is_dir():
        return
    made = _made(old)
    # The list goes last: without it, nobody would know what a kill has left here.
    for name in [] if made is None else sorted(_files(old), key=lambda name: name == LISTING):
        if made and (name in made or os.path.lexists(path / name)):
            place = old / name
            place.rmdir() if place.is_dir() and not place.is_symlink() else place.unlink()
    for place, _, _ in os.walk(old, topdown=False):
        if not os.listdir(place):  # noqa: PTH208
            Path(place).rmdir()


def check_into(folder: Path, names: Iterable[str]) -> None:
    """Raise PomonaError when what has one of the names in a folder, or that of our list, is not as
    we wrote it, and when something else than a folder is there.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise PomonaError("is no folder", where=folder, remedy=_ELSEWHERE)
    listed = _listed(folder)
    digests = (listed or {}).get("sha256", {})
    for name in names:
        there = folder / name
        if os.path.lexists(there) and not (
            there.is_file() and file_sha256(there) in digests.get(name, ())
        ):
            raise PomonaError(_FOREIGN, where=there, remedy="move it away")
    if listed is None and os.path.lexists(folder / LISTING):
        raise PomonaError(_FOREIGN, where=folder / LISTING, remedy="move it away")


def write_into(folder: Path, files: Mapping[str, str | Path], kind: str = "") -> None:
    """Write files into a folder and list them there as ours, with what is in them; `kind` as in
    `atomic_directory`, where it is new. A path is a file on the same disk, which is moved there.

    Raises PomonaError when what has one of the names is not as we wrote it.
    """
    check_into(folder, files)
    listed = _listed(folder) or {}
    made, digests = set(listed.get("made", ())), dict(listed.get("sha256", {}))
    kind = listed.get("kind") or kind
    texts = {name: file.encode() for name, file in files.items() if isinstance(file, str)}
    new = {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    new |= {name: file_sha256(file) for name, file in files.items() if isinstance(file, Path)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # where only the kernel makes files
        raise PomonaError("cannot be made", where=folder, remedy=_ELSEWHERE) from None
    # While they are written both the old and the new ones are ours: a kill leaves some of each.
    both = {name: [*digests.get(name, ()), digest] for name, digest in new.items()}
    names = sorted({*made, *files})
    write_json(folder / LISTING, {"kind": kind, "made": names, "sha256": {**digests, **both}})
    for name, file in files.items():
        with atomic_file(folder / name) as partial:
            file.replace(partial) if isinstance(file, Path) else partial.write_bytes(texts[name])
    only = {name: [digest] for name, digest in new.items()}
    write_json(folder / LISTING, {"kind": kind, "made": names, "sha256": {**digests, **only}})


def remove_from(folder: Path, name: str) -> None:
    """Remove a file that we made in a folder, if it is there."""
    if name in (_made(folder) or ()):
        (folder / name).unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as `json_text`, whole or not at all."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """`value` as indented JSON. NaN is refused."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_array(path: str | Path, mode: Literal["r", "c"] = "r") -> NDArray[Any]:
    """The array in a `.npy` file, mapped into memory: only its head is read here. Raises OSError,
    and ValueError for whatever is wrong with the head or the length of the file.
    """
    import numpy as np

    try:
        return np.lib.format.open_memmap(path, mode=mode).view(np.ndarray)
    except OSError:
        raise
    except Exception as error:  # the head is Python, which fails in ways of its own
        raise ValueError(f"{path} is no array of NumPy: {first_line(error)}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's files in name order (names included; hidden files and
    pycache left out).
    """
    path, digest = Path(path), hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        relative = file.relative_to(path)
        if any(part.startswith(".") or part == "__pycache__" for part in relative.parts):
            continue
        digest.update(str(relative).encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
