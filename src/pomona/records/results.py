"""The results of an operation on tables and their card. The files are one thing: nobody else's and
none of the inputs, one writer at a time, all written beside their places and then published with
the card, which says what was done and lists them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from pyarrow import fs

from pomona._version import __version__
from pomona.documents import parse_json, read_json
from pomona.errors import PomonaError
from pomona.files import beside, cache_folder, file_sha256, recover, sha256_of, sync, write_json
from pomona.places import Where, address, check_outputs
from pomona.records.store import info, is_remote, locate
from pomona.records.writing import WritableRows, upload, write_partial
from pomona.workspace import Lock, disk_guard, refuse_changed


@dataclass(frozen=True)
class Input:
    """A file that was read: its SHA-256 (None when it is remote), and its rows where they were
    counted.
    """

    path: str
    rows: int | None
    sha256: str | None


@dataclass(frozen=True)
class Written:
    """A file that was written: its path from the card's folder (or its address), bytes, and SHA-256
    (None when it is remote). A file of ours is known again by it.
    """

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Card:
    """`removed` counts rows by reason; `groups` has rows in and out of each group; `details` is the
    operation's own. `left_out` is how many rows of the inputs were malformed or lacked a value and
    were dropped or set aside when they were read: they are not in `rows_in`. `notes` say which
    files have columns that others lack or have in another type.
    """

    operation: str
    parameters: Mapping[str, Any]
    inputs: tuple[Input, ...]
    rows_in: int
    rows_out: int
    removed: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    left_out: int = 0
    notes: tuple[str, ...] = ()
    outputs: tuple[Written, ...] = ()
    version: str = __version__

    @property
    def signature(self) -> str:
        """One line that says how the result was made, as sacreBLEU does for metrics."""
        parts = (
            f"{name}:{_short(value)}"
            for name, value in self.parameters.items()
            if value is not None
        )
        return "|".join([self.operation, *parts, f"version:{self.version}"])

    def write(self, out: str | Path) -> Path:
        """Write the card beside `out`, as `OUT.card.json`."""
        path = card_of(out)
        if not is_remote(path):
            write_json(path, {"signature": self.signature, **asdict(self)})
            return path
        with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
            staged = Path(folder) / "card"
            write_json(staged, {"signature": self.signature, **asdict(self)})
            with disk_guard(address(path)):
                upload(staged, address(path))
        return path


def card_of(out: str | Path) -> Path:
    """Where the card of `out` is; `pomona.places.address` tells a remote one's."""
    return Path(f"{out}.card.json")


def inputs_of(paths: Iterable[tuple[str | Path, int | None]]) -> tuple[Input, ...]:
    """The inputs of a card from paths and their rows."""
    return tuple(
        Input(str(path), rows, sha256_of(path) if Path(path).exists() else None)
        for path, rows in paths
    )


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return " ".join(text.splitlines())


class Results:
    """The results of a command, in a `with` block: `write` (or `partial`) each of them, then
    `publish`. Without `publish` everything is as it was.

    A file that is there already is replaced only where it is what the card beside the first result
    says that we wrote. The first result gives the card its name.

    Args:
        files: Where each result goes, by what the user calls it; None is left out.
        inputs: Files and folders that are read.
        stamps: What the inputs are like: when it differs at the end, nothing is published.
        folders: Folders of the command's own, such as that of its work.
        notes: What the card says of how the inputs were read.
        dry_run: Check, and lock nothing.

    Raises:
        PomonaError: a result is an input, another result, in such a folder, or not ours; another
            process writes it; or an input was changed.
        ResourceError: the disk is full.
    """

    def __init__(
        self,
        files: Mapping[str, Where | None],
        *,
        inputs: Iterable[Where] = (),
        stamps: Callable[[], Any] = lambda: None,
        folders: Mapping[str, Where | None] | None = None,
        notes: Sequence[str] = (),
        dry_run: bool = False,
    ) -> None:
        self._files = {name: address(where) for name, where in files.items() if where is not None}
        self._main = next(iter(self._files.values()))
        for name, where in self._files.items():
            if where.endswith("/"):
                wrong = "ends in a slash and so names a folder"
                raise PomonaError(wrong, where=where, remedy=f"name a file for {name}")
        card = address(card_of(self._main))
        own = dict(folders or {})
        check_outputs({**self._files, "the card": card, **own}, inputs, folders=list(own))
        self._stamps, self._dry_run, self._notes = stamps, dry_run, tuple(notes)
        self._partials: dict[str, Path] = {}
        self._locks: list[Lock] = []
        self._made: list[Path] = []
        self._staged: Path | None = None
        self._published = False

    def __enter__(self) -> Self:
        """Lock the results and look at what is in their places."""
        try:
            self._journal = [] if self._dry_run else self._lock()
            self._refuse_foreign([*listed_in_card(self._main), *self._journal])
            self._before = self._stamps()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for partial in self._partials.values():
            partial.unlink(missing_ok=True)
        if self._staged is not None:
            shutil.rmtree(self._staged, ignore_errors=True)
        self._release()

    def partial(self, name: str) -> Path:
        """Where to write the result `name` until it is published."""
        where = self._files[name]
        if name not in self._partials:
            if is_remote(where):
                self._staged = self._staged or Path(tempfile.mkdtemp(prefix="pomona-"))
                self._partials[name] = self._staged / f"{len(self._partials)}"
            else:
                path = Path(os.path.realpath(where))
                path.parent.mkdir(parents=True, exist_ok=True)
                self._partials[name] = beside(path)
        return self._partials[name]

    def write(self, name: str, rows: WritableRows, lines: str | None = None) -> None:
        """Write the result `name` as `pomona.records.write` does; `lines` as `with_lines` says."""
        where = self._files[name]
        with disk_guard(where):
            partial = self.partial(name)
        write_partial(rows, partial, where, lines=lines)

    def publish(self, card: Card) -> Card:
        """Give every result its name, and write the card that lists them. Returns that card."""
        refuse_changed(self._before, self._stamps(), self._main)
        outputs = tuple(self._written(name) for name in self._partials)
        card = replace(card, outputs=outputs, notes=(*card.notes, *self._notes))
        # A kill from here on leaves results that no card lists yet. The note in the lock's file,
        # which stays then, tells the next run that they are ours. What an earlier killed run had
        # noted is so until it is replaced: a second kill may come before that.
        noted = [asdict(output) for output in (*self._journal, *outputs)]
        with disk_guard(self._main):
            self._locks[0].note(json.dumps(noted))
        for name, partial in self._partials.items():
            where = self._files[name]
            with disk_guard(where):
                if is_remote(where):
                    upload(partial, where)
                else:
                    sync(partial)
                    partial.replace(os.path.realpath(where))
        with disk_guard(address(card_of(self._main))):
            card.write(self._main)
        self._published = True
        return card

    def _lock(self) -> list[Written]:
        for where in self._files.values():
            if not is_remote(where):
                self._made += [one for one in _lock_of(where).parents if not one.exists()]
            self._locks.append(Lock(_lock_of(where), doing="writing it", where=where, other="path"))
            if not is_remote(where):
                recover(Path(os.path.realpath(where)))
        try:
            return _written(parse_json(self._locks[0].noted(), self._main, top=list))
        except PomonaError:  # nothing is noted, or the kill came before it was
            return []

    def _release(self) -> None:
        # A note stays, of an earlier run that was killed too, until what it lists is in a card.
        for lock in self._locks:
            noted = not self._published and lock.noted()
            lock.close() if noted else lock.release()
        made = [] if self._published else sorted(self._made, reverse=True)  # the deepest first
        for folder in made:
            with suppress(OSError):  # something is in it
                folder.rmdir()

    def _refuse_foreign(self, ours: Iterable[Written]) -> None:
        known = {(_resolved(self._main, one.path), one.size, one.sha256) for one in ours}
        for name, where in self._files.items():
            place = where if is_remote(where) else os.path.realpath(where)
            what = info(where)
            link = not is_remote(where) and Path(place).is_symlink()  # what leads to itself
            if what.type == fs.FileType.NotFound and not link:
                continue
            if what.type != fs.FileType.File:
                raise PomonaError("is no file", where=where, remedy=f"name a file for {name}")
            if not any(one[:2] == (place, what.size) for one in known) or (
                not is_remote(where) and (place, what.size, file_sha256(Path(where))) not in known
            ):
                raise PomonaError(
                    "is there already, and is not what Pomona wrote there",
                    where=where,
                    remedy="choose another path, or move it away",
                )

    def _written(self, name: str) -> Written:
        where, partial = self._files[name], self._partials[name]
        return Written(_relative(self._main, where), partial.stat().st_size, file_sha256(partial))


def _lock_of(where: str) -> Path:
    if is_remote(where):
        return cache_folder() / "locks" / hashlib.sha256(where.encode()).hexdigest()
    path = Path(os.path.realpath(where))
    return path.with_name(f".{path.name}.lock")


def _relative(main: str, where: str) -> str:
    """A result's name in a card, which may move with its folder."""
    if is_remote(where) or is_remote(main):
        return where
    return os.path.relpath(os.path.realpath(where), Path(os.path.realpath(main)).parent)


def _resolved(main: str, name: str) -> str:
    if is_remote(name):
        return name
    return os.path.realpath(Path(os.path.realpath(main)).parent / name)


def listed_in_card(main: Where) -> list[Written]:
    """The results that the card beside the first one lists. Raises PomonaError when what has the
    card's name is no card.
    """
    where = address(card_of(main))
    remedy = "choose another path, or move it away"
    wrong = "is there already, and is no card of Pomona's"
    kind = info(where).type
    if kind == fs.FileType.NotFound:
        return []
    if kind != fs.FileType.File:
        raise PomonaError(wrong, where=where, remedy=remedy)
    if is_remote(where):
        store, key = locate(where)
        with store.open_input_stream(key) as stream:
            card = parse_json(stream.read(), where, wrong=wrong, remedy=remedy)
    else:
        card = read_json(where, wrong=wrong, remedy=remedy)
    if not {"signature", "operation", "outputs"} <= card.keys():
        raise PomonaError(wrong, where=where, remedy=remedy)
    return _written(card["outputs"])


def _written(outputs: Any) -> list[Written]:
    """What of an untrusted list is about written files."""
    kinds = {"path": str, "size": int, "sha256": str}
    return [
        Written(**{name: one[name] for name in kinds})
        for one in (outputs if isinstance(outputs, list) else [])
        if isinstance(one, dict) and all(type(one.get(k)) is kind for k, kind in kinds.items())
    ]
