"""Where things are read and written: names that can be given, and that no output of a command is
one of its inputs, another of its outputs, or what its next run would read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from pomona.errors import PomonaError

Where = str | Path

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # `Path` leaves one of its slashes


def address(where: str | Path) -> str:
    """A path or an s3:// address as text: `Path` takes one of an address's two slashes away."""
    text = str(where)
    return f"s3://{text[4:].lstrip('/')}" if text.startswith("s3:/") else text


def check_name(where: str | Path) -> str:
    """The address of a file or folder. Raises PomonaError when it is empty, holds NUL, or bytes
    that are not UTF-8, which neither a card nor a plan can hold; and for addresses other than s3://
    and a ~ that no shell has replaced, which would become folders of these names.
    """
    text = address(where)
    wrong, remedy = "", "give the path of a file or a folder"
    if text == "~" or text.startswith("~/"):
        wrong = "begins with ~, which stands for no folder here"
        remedy = 'write "$HOME" in its place: shells replace ~ only at the beginning of a word'
    elif _SCHEME.match(text) and not text.startswith("s3://"):
        wrong = "is an address that Pomona cannot read or write"
        remedy = "give a path on this machine, or an s3:// address in small letters"
    elif not text or "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        wrong = "is not the name of a file: it is empty, holds NUL, or is not UTF-8"
    if wrong:
        shown = text.encode("utf-8", "backslashreplace").decode() or '""'
        raise PomonaError(wrong, where=shown, remedy=remedy)
    return text


class Found(str):
    """The address of a file that was found in a folder or by a pattern: `among` are these. What is
    written there the next run would find too, so `check_outputs` refuses it.
    """

    among: tuple[str, ...]

    def __new__(cls, where: str, among: Iterable[str]) -> Found:
        self = super().__new__(cls, where)
        self.among = tuple(among)
        return self

    def __reduce__(self) -> tuple[type[Found], tuple[str, tuple[str, ...]]]:
        return Found, (str(self), self.among)


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
        inputs: Files and folders that it reads; of a file that is `Found` also all that is looked
            through for it.
        folders: Names of outputs that are folders: nothing else may lie in them, nor be one.

    Raises:
        PomonaError: an output is an input or another output, one of them lies in an output that
            is a folder, or an output would be found by the next run.
    """
    places = {name: _Place(where) for name, where in outputs.items() if where is not None}
    for name, place in places.items():
        if not place.path.name:
            remedy = f"write {name} to a path below it"
            raise PomonaError("is the root of everything", where=place.given, remedy=remedy)
    inputs = list(inputs)
    read = [_Place(where) for where in inputs]
    for name, place in places.items():
        for other in read:
            _compare(
                name, place, other, f"is an input, and {name} would replace it", name in folders
            )
    among = {one for where in inputs for one in getattr(where, "among", ())}
    for name, place in places.items():
        for one in sorted(among):
            _refuse_found(name, place, one)
        for other_name, other in places.items():
            if other_name != name:
                both = f"would be {name} and {other_name} at once"
                _compare(name, place, other, both, name in folders, other_name)


class _Place:
    """A local path with all links followed, or an address."""

    def __init__(self, where: Where) -> None:
        self.given = check_name(where)
        self.remote = self.given.startswith("s3://")
        self.path = (
            PurePosixPath("/", self.given.removeprefix("s3://"))
            if self.remote
            else Path(os.path.realpath(self.given))
        )

    def same(self, other: _Place) -> bool:
        """Whether both are one file or folder."""
        if self.remote or other.remote:
            return (self.remote, self.path) == (other.remote, other.path)
        if self.path == other.path:
            return True
        try:
            return os.path.samefile(self.path, other.path)  # noqa: PTH121
        except OSError:
            return False

    def holds(self, other: _Place) -> bool:
        """Whether the other lies in this folder."""
        return self.remote == other.remote and self.path in other.path.parents


def _compare(
    name: str, place: _Place, other: _Place, wrong: str, holds: bool, inner: str | None = None
) -> None:
    """inner: the output that `other` is; None where it is an input, which stays where it is."""
    if place.same(other):
        raise PomonaError(wrong, where=place.given, remedy=f"write {name} to another path")
    if holds and place.holds(other):
        raise PomonaError(
            f"lies in {place.given}, which is {name}: nothing else may be there",
            where=other.given,
            remedy=f"write {inner or name} to another path",
        )


def _refuse_found(name: str, place: _Place, among: str) -> None:
    """Raise PomonaError for an output that a folder or pattern holds which is looked through. Names
    that begin with a dot are passed over there.
    """
    if place.remote != among.startswith("s3://"):
        return
    where, below = among.removeprefix("s3://"), ""
    signs = [where.index(sign) for sign in "*?[" if sign in where]
    pattern = bool(signs) and not os.path.isdir(among)  # noqa: PTH112 - it may be an address
    if pattern:
        fixed = where[: min(signs)].rpartition("/")[0]
        below = where[len(fixed) :].lstrip("/")
        where = fixed or ("/" if where.startswith("/") else ".")
    # Links are followed up to the first sign, as they are in the output's own path.
    inside = PurePosixPath("/", where) if place.remote else Path(os.path.realpath(where))
    if inside not in place.path.parents:
        return
    rest = place.path.relative_to(inside)
    hidden = any(part.startswith(".") for part in rest.parts)
    if hidden or (pattern and not re.fullmatch(glob_pattern(below), str(rest))):
        return
    how = "has a name of" if pattern else "lies in"
    message = f"{how} {among}, which is read: the next run would read it too"
    raise PomonaError(message, where=place.given, remedy=f"write {name} to another folder")


def glob_pattern(glob: str) -> str:
    """A glob as a regular expression, with the meaning it has on a disk."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", glob)
    return "".join(
        signs.get(part) or (part.replace("[!", "[^") if at % 2 else re.escape(part))
        for at, part in enumerate(parts)
    )
