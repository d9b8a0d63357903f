"""Where results may be written: no output of a command is one of its inputs, another of its
outputs, or somebody else's.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from pomona.errors import PomonaError
from pomona.files import address

Where = str | Path


def check_outputs(
    outputs: Mapping[str, Where | None],
    inputs: Iterable[Where] = (),
    *,
    folders: Collection[str] = (),
) -> None:
    """Compare all outputs of a command with its inputs and each other, by real path (links
    followed, and the same file under two names) or by s3:// address.

    Args:
        outputs: Files and folders that the command writes, by what the user calls them; None is
            left out.
        inputs: Files and folders that it reads.
        folders: Names of outputs that are folders: nothing else may lie in them, nor be one.

    Raises:
        PomonaError: an output is an input or another output, or one of them lies in an output that
            is a folder.
    """
    places = {name: _Place(where) for name, where in outputs.items() if where is not None}
    read = [_Place(where) for where in inputs]
    for name, place in places.items():
        for other in read:
            _compare(
                name, place, other, f"is an input, and {name} would replace it", name in folders
            )
    for name, place in places.items():
        for other_name, other in places.items():
            if other_name != name:
                both = f"would be {name} and {other_name} at once"
                _compare(name, place, other, both, name in folders)


class _Place:
    """A local path with all links followed, or an address."""

    def __init__(self, where: Where) -> None:
        self.given = address(where)
        self.remote = self.given.startswith("s3://")
        self.path = (
            PurePosixPath("/", self.given.removeprefix("s3://"))
            if self.remote
            else Path(os.path.realpath(self.given))
        )

    def same(self, other: _Place) -> bool:
        if self.remote or other.remote:
            return (self.remote, self.path) == (other.remote, other.path)
        if self.path == other.path:
            return True
        try:
            return os.path.samefile(self.path, other.path)  # noqa: PTH121
        except OSError:
            return False

    def holds(self, other: _Place) -> bool:
        return self.remote == other.remote and self.path in other.path.parents


def _compare(name: str, place: _Place, other: _Place, wrong: str, holds: bool) -> None:
    remedy = f"write {name} to another path"
    if place.same(other):
        raise PomonaError(wrong, where=place.given, remedy=remedy)
    if holds and place.holds(other):
        raise PomonaError(
            f"lies in {place.given}, which is {name}: nothing else may be there",
            where=other.given,
            remedy=remedy,
        )


def stamp(inputs: Iterable[Where]) -> list[tuple[str, int, int, int]]:
    """Name, size, time of change and number of every file that is read, and of all files in a
    folder; what is not local has none. Two stamps that differ mean that a file was changed.
    """
    stamps: list[tuple[str, int, int, int]] = []
    for where in inputs:
        path = Path(where)
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            try:
                status = file.stat()
            except OSError:
                continue
            if not file.is_dir():
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
