"""The passes over a stream, one for each part of the hash space, and what they marked: both are
kept, so that a killed run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.data.duplicates._mapped import Mapped, holds
from pomona.data.duplicates._substring_scan import scan
from pomona.data.duplicates._substring_units import classes
from pomona.documents import read_json
from pomona.files import write_json

_BLOCK, _PIECE = 1 << 17, 1 << 23
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Search:
    """What is looked for: grams of `length` units of a kind; `later_only` marks one only after an
    equal one has ended.
    """

    length: int
    kind: int
    later_only: bool


@dataclass(frozen=True)
class Cut:
    """How the hash space is cut: into `parts`, each with a table of `slots` entries; the first
    `done` have been searched.
    """

    parts: int
    slots: int
    done: int = 0


class Passes:
    """One bit for each byte of the stream: the gram that begins there is struck. And how far the
    search is.
    """

    def __init__(self, folder: Path, size: int, search: Search) -> None:
        self._note, self._search = folder / "passes.json", [search.length, search.later_only]
        known = read_json(self._note) if self._note.exists() else {}
        wanted = (size + 7) // 8
        same = known.get("search") == self._search and holds(folder / "marks", wanted)
        self._known = Cut(**known["cut"]) if same else None
        if not same:
            self._note.unlink(missing_ok=True)
        self._file = Mapped(folder / "marks", wanted if same else 0)
        for start in range(self._file.size, wanted, _PIECE):
            self._file.append(np.zeros(min(_PIECE, wanted - start), np.uint8))
        self.marks: Bytes = self._file.array(np.uint8)

    def cut(self, parts: int, most: int, slots: int) -> Cut:
        """The cut of the run that was killed, where its table has at most `most` entries; else the
        one given, from its beginning.
        """
        return self._known if self._known and self._known.slots <= most else Cut(parts, slots)

    def note(self, cut: Cut) -> None:
        """Keep that `cut.done` parts are searched and marked."""
        self._file.save()
        write_json(self._note, {"search": self._search, "cut": vars(cut)})

    def release(self) -> None:
        """Let the system take the pages of the marks back."""
        self._file.release()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def blocks(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Documents in ranges of about 128 KiB."""
    documents, first = len(offsets) - 1, 0
    while first < documents:
        last = int(np.searchsorted(offsets, offsets[first] + _BLOCK, side="right")) - 1
        last = min(documents, max(first + 1, last))
        yield first, last
        first = last


def mark_part(
    text: Bytes, offsets: Ints, marks: Bytes, search: Search, part: int, cut: Cut
) -> Iterator[int]:
    """Mark the grams of one part that repeat. Yields the documents searched so far, and -1 when the
    table became too full to go on.

    Marks made until then are right and stay.
    """
    table, entered = np.zeros(cut.slots, np.uint64), 0
    for first, last in blocks(offsets):
        entered = scan(
            text,
            offsets,
            first,
            last,
            search.length,
            search.kind,
            classes(),
            part,
            cut.parts,
            table,
            marks,
            search.later_only,
            entered,
        )
        yield last if entered >= 0 else -1
        if entered < 0:
            return


@dataclass(frozen=True)
class PartJob:
    """One part for a worker of a cluster. `sizes` are the bytes of the files "text" and "offsets"
    of `folder`, `run` names this search.
    """

    folder: Path
    run: str
    sizes: tuple[int, int]
    search: Search
    part: int
    cut: Cut

    @property
    def file(self) -> Path:
        """Where the worker puts its marks."""
        return self.folder / f"marks-{self.run}-{self.part}"


def run_part(job: PartJob) -> PartJob | None:
    """Search a part into marks of its own in `job.file`; None when the table became too full."""
    text, offsets = (
        _mapped(job.folder / name, size, "c")
        for name, size in zip(("text", "offsets"), job.sizes, strict=True)
    )
    marks = _mapped(job.file, (job.sizes[0] + 7) // 8, "w+")
    full = -1 in mark_part(text, offsets.view(np.int64), marks, job.search, job.part, job.cut)
    return None if full else job


def merge(job: PartJob, marks: Bytes) -> None:
    """Take over what a worker marked."""
    found = _mapped(job.file, len(marks), "r")
    for start in range(0, len(marks), _PIECE):
        marks[start : start + _PIECE] |= found[start : start + _PIECE]
    job.file.unlink()


def _mapped(path: Path, size: int, mode: Any) -> Bytes:
    return np.memmap(path, np.uint8, mode, shape=(size,)).view(np.ndarray)
