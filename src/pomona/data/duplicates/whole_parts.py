"""Lines and paragraphs that occur more than once among all texts: found by fingerprints of 128
bits, in as many passes over the texts as keep them within the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.duplicates.substring_texts import ColumnTexts
from pomona.data.work import noted
from pomona.files import atomic_file, write_json
from pomona.shingles import fingerprints
from pomona.text import strings
from pomona.workspace import disk_guard

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
PARTS = ("line", "paragraph")
_EACH = 96  # bytes that a part takes while it is compared
_TEXTS = 8192  # of a block
_NOTE = "passes.json"
_SPACE = np.zeros(256, np.bool_)
_SPACE[[9, 10, 11, 12, 13, 32]] = True


@dataclass(frozen=True)
class Cut:
    """The parts of some texts, `[n]` each: the text of each, where it begins and where the next
    does, and the bytes between which there is more than white space.
    """

    text: Ints
    start: Ints
    stop: Ints
    first: Ints
    last: Ints


def parts_of(texts: pa.StringArray, unit: str, least: int) -> tuple[Cut, NDArray[np.uint64]]:
    """The lines or paragraphs of at least `least` words, and their fingerprints `[n, 2]`. Places
    are bytes of all texts end to end. What blank lines part is a paragraph.
    """
    whole, offsets = strings(texts)
    data, offsets = whole[offsets[0] : offsets[-1]], offsets - offsets[0]
    cut = _lines(data, offsets)
    seen = cut.last > cut.first
    if unit == "paragraph":
        cut = _joined(cut, seen)
    else:
        cut = Cut(*(values[seen] for values in vars(cut).values()))
    space = _SPACE[data]
    begins = np.flatnonzero(~space & np.append(True, space)[: len(space)])
    words = np.searchsorted(begins, cut.last) - np.searchsorted(begins, cut.first, "right") + 1
    cut = Cut(*(values[words >= least] for values in vars(cut).values()))
    bounds = np.stack([cut.first, cut.last], 1).reshape(-1)
    prints = fingerprints(data, bounds)[::2] if len(bounds) else np.zeros((0, 2), np.uint64)
    return cut, prints


def _lines(data: NDArray[np.uint8], offsets: Ints) -> Cut:
    """Every line of every text; a text that ends with a newline has no line after it."""
    ends = np.flatnonzero(data == 10) + 1
    stops = np.unique(np.concatenate([ends, offsets[1:]]))
    stops = stops[stops > 0]
    starts = np.append(0, stops[:-1]) if len(stops) else stops
    seen = np.flatnonzero(~_SPACE[data])
    first = np.append(seen, len(data))[np.searchsorted(seen, starts)]
    last = np.append(-1, seen)[np.searchsorted(seen, stops)] + 1
    text = np.searchsorted(offsets, starts, side="right") - 1
    return Cut(text, starts, stops, np.minimum(first, stops), np.maximum(last, starts))


def _joined(lines: Cut, seen: Mask) -> Cut:
    """Lines as paragraphs: those that stand together, with the blank ones after them."""
    new = seen.copy()
    new[1:] &= ~seen[:-1] | (lines.text[1:] != lines.text[:-1])
    heads = np.flatnonzero(new)
    if not len(heads):
        return Cut(*(values[:0] for values in vars(lines).values()))
    tails = np.append(heads[1:], len(seen)) - 1
    # blank lines at the head of the next text are not of this paragraph
    text = lines.text[heads]
    ends = np.searchsorted(lines.text, text, side="right") - 1
    tails = np.minimum(tails, ends)
    written = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), 0))
    return Cut(
        text, lines.start[heads], lines.stop[tails], lines.first[heads], lines.last[written[tails]]
    )


class RepeatedParts:
    """The parts of texts that occur more than once; all of them, or with `keep` "first" those that
    occurred before. `folder` is where it works: passes that are done there are not done again.
    """

    def __init__(
        self,
        texts: ColumnTexts,
        unit: str,
        least: int,
        keep: Literal["none", "first"],
        folder: Path,
    ) -> None:
        self._texts, self._unit, self._least, self._keep = texts, unit, least, keep
        self._folder, self._path = folder, folder / "spans"
        self._spans: Ints = np.zeros((0, 3), np.int64)
        self.count = self.passes = self.texts = 0

    def find(self, memory: int, progress: Callable[[int, int], None]) -> None:
        """Read the texts: once to count parts, then as often as `memory` asks, and at last to note
        where the repeated ones are. Raises PomonaError for a row without a text.
        """
        done, repeated = self._found()
        if repeated is None:
            self.count = sum(len(cut.text) for cut, _, _ in self._read())
            repeated = np.zeros(self.count, np.bool_)
            self._keep_pass(0, repeated)
        self.passes = max(1, -(-self.count * _EACH // memory))
        for number in range(done, self.passes):
            places, prints, done = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.uint64)], 0
            for cut, found, _ in self._read():
                mine = np.flatnonzero(found[:, 1] % np.uint64(self.passes) == np.uint64(number))
                places.append(mine + done)
                prints.append(found[mine])
                done += len(cut.text)
            self._mark(np.concatenate(places), np.concatenate(prints), repeated)
            self._keep_pass(number + 1, repeated)
            progress(number + 1, self.passes + 1)
        self._write(repeated)
        progress(self.passes + 1, self.passes + 1)

    def _found(self) -> tuple[int, Mask | None]:
        """How many passes are done, and what they found; None where not even parts are counted."""
        said = noted(self._folder / _NOTE, passes=int, parts=int)
        if said is None:
            return 0, None
        path = self._folder / f"repeated-{said['passes']}"
        bits = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
        if len(bits) != -(-said["parts"] // 8):
            return 0, None
        self.count = said["parts"]
        return said["passes"], np.unpackbits(bits, count=self.count).astype(np.bool_)

    def _keep_pass(self, done: int, repeated: Mask) -> None:
        """Keep what so many passes found: the file before the note that names it."""
        with disk_guard(self._folder):
            with atomic_file(self._folder / f"repeated-{done}") as partial:
                np.packbits(repeated).tofile(partial)
            write_json(self._folder / _NOTE, {"passes": done, "parts": len(repeated)})
            (self._folder / f"repeated-{done - 1}").unlink(missing_ok=True)

    def _mark(self, places: Ints, prints: NDArray[np.uint64], repeated: Mask) -> None:
        order = np.lexsort((places, prints[:, 0], prints[:, 1]))
        places, prints = places[order], prints[order]
        same = (prints[1:] == prints[:-1]).all(axis=1)
        repeated[places[1:][same]] = True
        if self._keep == "none":
            repeated[places[:-1][same]] = True

    def _read(self) -> Iterator[tuple[Cut, NDArray[np.uint64], tuple[Ints, int]]]:
        done = 0
        for texts in self._texts.texts():
            cut, prints = parts_of(texts, self._unit, self._least)
            offsets = strings(texts)[1]
            yield cut, prints, (offsets - offsets[0], done)
            done += len(texts)
        self.texts = done

    def _write(self, repeated: Mask) -> None:
        """Write the text, first byte and end of each struck part down."""
        done = 0
        with disk_guard(self._path), self._path.open("wb") as out:
            for cut, _, (offsets, first) in self._read():
                mine = repeated[done : done + len(cut.text)]
                done += len(cut.text)
                text, start, stop = cut.text[mine], cut.start[mine], cut.stop[mine]
                rows = np.stack([text + first, start - offsets[text], stop - offsets[text]], 1)
                out.write(np.ascontiguousarray(rows, np.int64).tobytes())
        if int(repeated.sum()):
            self._spans = np.memmap(self._path, np.int64, "r").reshape(-1, 3)

    def spans(self, first: int, last: int) -> Ints:
        """The struck parts of texts first … last − 1, int64 `[n, 3]`: text, first byte and end."""
        low, high = np.searchsorted(self._spans[:, 0], [first, last])
        return np.array(self._spans[low:high])

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Texts in ranges."""
        for first in range(0, self.texts, _TEXTS):
            yield first, min(first + _TEXTS, self.texts)
