"""The texts end to end in a file, with a bit for every byte at which a repeated gram begins, the
passes that find these, and the rows and spans read off them.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.duplicates.mapped import Kept, Mapped, file_pages, holds
from pomona.data.duplicates.substring_scan import BYTE, TOKEN, classes, count_units, scan, spans
from pomona.data.work import noted
from pomona.files import write_json
from pomona.records import spread, workers
from pomona.text import strings

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
class Partition:
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
        known = noted(self._note, search=list, cut=dict) or {}
        wanted = (size + 7) // 8
        same = known.get("search") == self._search and holds(folder / "marks", wanted)
        cut = known.get("cut", {})
        same = same and cut.keys() == {"parts", "slots", "done"}
        same = same and all(type(value) is int for value in cut.values())
        same = same and min(cut["parts"], cut["slots"]) > 0 <= cut["done"] <= cut["parts"]
        self._known = Partition(**cut) if same else None
        if not same:
            # Before the bits are cleared: a kill in between must not leave a note of a search
            # whose bits are gone.
            self._note.unlink(missing_ok=True)
        self._file = Mapped(folder / "marks", wanted if same else 0)
        for start in range(self._file.size, wanted, _PIECE):
            self._file.append(np.zeros(min(_PIECE, wanted - start), np.uint8))
        self.repeats: Bytes = self._file.array(np.uint8)

    def cut(self, parts: int, most: int, slots: int) -> Partition:
        """The cut of the run that was killed, where its table has at most `most` entries; else the
        one given, from its beginning.
        """
        return self._known if self._known and self._known.slots <= most else Partition(parts, slots)

    def note(self, cut: Partition) -> None:
        """Keep that `cut.done` parts are searched and their bits set."""
        # The bits first: the note must never promise parts whose bits the disk does not have.
        self._file.save()
        write_json(self._note, {"search": self._search, "cut": vars(cut)})

    def release(self) -> None:
        """Let the system take the pages of the bits back."""
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
    text: Bytes, offsets: Ints, repeats: Bytes, search: Search, part: int, cut: Partition
) -> Iterator[int]:
    """Mark the grams of one part that repeat. Yields the documents searched so far, and -1 when the
    table became too full to go on.

    Bits set until then are right and stay.
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
            repeats,
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
    cut: Partition

    @property
    def file(self) -> Path:
        """Where the worker puts the bits it sets."""
        return self.folder / f"marks-{self.run}-{self.part}"


def run_part(job: PartJob) -> PartJob | None:
    """Search a part into bits of its own in `job.file`; None when the table became too full."""
    text, offsets = (
        _mapped(job.folder / name, size, "c")
        for name, size in zip(("text", "offsets"), job.sizes, strict=True)
    )
    repeats = _mapped(job.file, (job.sizes[0] + 7) // 8, "w+")
    full = -1 in mark_part(text, offsets.view(np.int64), repeats, job.search, job.part, job.cut)
    return None if full else job


def merge(job: PartJob, repeats: Bytes) -> None:
    """Take over what a worker marked."""
    theirs = _mapped(job.file, len(repeats), "r")
    for start in range(0, len(repeats), _PIECE):
        repeats[start : start + _PIECE] |= theirs[start : start + _PIECE]
    job.file.unlink()


def _mapped(path: Path, size: int, mode: Any) -> Bytes:
    return np.memmap(path, np.uint8, mode, shape=(size,)).view(np.ndarray)


_FULLNESS = 0.6
_PAGES, _KEEP_BYTES = 32 << 20, 32 << 20
_TOKEN_ROWS, _TOKEN_BYTES = 128, 1 << 18
_FEWEST_SLOTS = 16
Encode = Callable[[pa.StringArray], tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int64]]]
Report = Callable[[int, int], None]


@dataclass
class Stream:
    """Documents end to end. `text` uint8, `offsets` int64 `[documents + 1]` into it, `bounds` of
    tokens.

    With TOKEN units `text` holds the token ids, four bytes each, and `bounds` int32 `[tokens, 2]`
    their bytes in the document.
    """

    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    bounds: NDArray[np.int32]
    search: Search
    _folder: Path
    _kept: Kept
    _passes: Passes
    _before: int = 0
    _pages: int = _PAGES

    @classmethod
    def of(
        cls, texts: Iterable[pa.StringArray], search: Search, folder: Path, encode: Encode | None
    ) -> Self:
        """Write the texts (their tokens by `encode`, when given) to files in `folder`, but for
        those that are there already.
        """
        with ExitStack() as undo:
            kept = undo.enter_context(Kept(folder, ["text", "offsets", "bounds"]))
            _fill(kept, texts, TOKEN if search.kind == TOKEN else BYTE, encode)
            text, offsets, bounds = kept.files.values()
            arrays = (
                text.array(np.uint8),
                offsets.array(np.int64),
                bounds.array(np.int32).reshape(-1, 2),
            )
            passes = Passes(folder, len(arrays[0]), search)
            undo.pop_all()
        pa.default_memory_pool().release_unused()
        return cls(*arrays, search, folder, kept, passes)

    def close(self) -> None:
        """Close the files; what is in them stays."""
        self._passes.close()
        self._kept.close()

    def count(self) -> tuple[int, int]:
        """Units, and positions at which a whole gram begins."""
        asked = (self.search.length, self.search.kind, classes())
        counts = [count_units(self.text, self.offsets, *block, *asked) for block in self.blocks()]
        return sum(units for units, _ in counts), sum(grams for _, grams in counts)

    def mark(
        self, grams: int, memory: int, report: Report, engine: str = "native"
    ) -> tuple[int, int]:
        """Mark every gram that repeats, with a table of at most `memory` bytes. What it does not
        need is for pages of the arrays.

        On Ray each worker searches a part of the hash space with such a table. Returns the passes
        it took and the bytes of the table.
        """
        most = max(_FEWEST_SLOTS, memory // 8)
        slots = min(most, int(grams / _FULLNESS) + _FEWEST_SLOTS)
        parts = max(-(-grams // int(_FULLNESS * slots)), workers(engine)) if grams else 0
        slots = min(slots, int(grams / _FULLNESS / max(1, parts)) + _FEWEST_SLOTS)
        cut = self._passes.cut(parts, most, slots)
        self._pages = _PAGES + max(0, memory - 8 * cut.slots)
        run = self._here if engine == "native" else functools.partial(self._abreast, engine)
        while not run(cut, report):
            cut = Partition(2 * cut.parts, cut.slots)
        self._pages = _PAGES
        return cut.parts, 8 * cut.slots

    def spans(self, first: int, last: int) -> NDArray[np.int64]:
        """The struck spans of documents first … last − 1, int64 `[n, 3]`: document, first byte and
        end in its text.
        """
        length, kind = self.search.length, self.search.kind
        size = (
            int(self.offsets[last] - self.offsets[first])
            // (length * (TOKEN if kind == TOKEN else BYTE))
            + last
            - first
        )
        rows = np.empty((size, 3), np.int64)
        count = spans(
            self.text,
            self.offsets,
            self.bounds,
            first,
            last,
            length,
            kind,
            classes(),
            self._passes.repeats,
            rows,
        )
        self._release()
        return rows[:count]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Documents in ranges of about 128 KiB; pages are given back in between when they have
        become too many.
        """
        for block in blocks(self.offsets):
            yield block
            self._release()

    def _here(self, cut: Partition, report: Report) -> bool:
        """Search the parts that are left; False when the table of one became too full."""
        size = len(self.text)
        for part in range(cut.done, cut.parts):
            for last in mark_part(
                self.text, self.offsets, self._passes.repeats, self.search, part, cut
            ):
                if last < 0:
                    return False
                report(part * size + int(self.offsets[last]), cut.parts * size)
                self._release()
            self._passes.note(replace(cut, done=part + 1))
        return True

    def _abreast(self, engine: str, cut: Partition, report: Report) -> bool:
        """The same by the workers of a cluster. All parts end before a new cut is tried."""
        sizes, run, whole = (len(self.text), 8 * len(self.offsets)), uuid.uuid4().hex, True
        jobs = (
            PartJob(self._folder, run, sizes, self.search, part, cut)
            for part in range(cut.done, cut.parts)
        )
        for part, job in enumerate(spread(run_part, jobs, engine), cut.done):
            if job is not None and whole:
                merge(job, self._passes.repeats)
                self._passes.note(replace(cut, done=part + 1))
                report(part + 1, cut.parts)
            whole = whole and job is not None
            self._release()
        return whole

    def _release(self) -> None:
        if file_pages() - self._before > self._pages:
            for file in (*self._kept.files.values(), self._passes):
                file.release()
            self._before = file_pages()


def _fill(kept: Kept, texts: Iterable[pa.StringArray], width: int, encode: Encode | None) -> None:
    """Append what is not there yet; it is kept every 32 MiB, so that a killed run need not make it
    again.
    """
    text, offsets, bounds = kept.files.values()
    if not kept.rows:
        offsets.append(np.zeros(1, np.int64))
    row, settled = 0, text.size
    for batch in texts:
        new = batch.slice(max(0, kept.rows - row))
        row += len(batch)
        for part in [new][: len(new)] if encode is None else _parts(new):
            data, pieces, ends = (encode or _bytes)(part)
            offsets.append(text.size + ends * width)
            text.append(data)
            bounds.append(pieces)
        if text.size - settled >= _KEEP_BYTES:
            kept.keep(row)
            settled = text.size
    if row > kept.rows or not row:
        kept.keep(row)


def _bytes(texts: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int64]]:
    """The texts as they are, no bounds, and the bytes up to the end of each."""
    data, ends = strings(texts)
    return data[ends[0] : ends[-1]], np.zeros((0, 2), np.int32), ends[1:] - ends[0]


def _parts(texts: pa.StringArray) -> Iterator[pa.StringArray]:
    """Few texts at a time: what a tokenizer says of a text takes many times its bytes."""
    _, offsets = strings(texts)
    first = 0
    while first < len(texts):
        last = int(np.searchsorted(offsets, offsets[first] + _TOKEN_BYTES, side="right")) - 1
        last = min(len(texts), first + _TOKEN_ROWS, max(first + 1, last))
        yield texts.slice(first, last - first)
        first = last
