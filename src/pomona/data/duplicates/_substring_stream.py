"""The texts end to end on disk, and the passes over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.duplicates._mapped import Mapped, file_pages
from pomona.data.duplicates._substring_scan import scan, spans
from pomona.data.duplicates._substring_units import BYTE, TOKEN, classes, count_units
from pomona.data.duplicates._unicode import strings

_FULLNESS = 0.6
_BLOCK, _PAGES = 1 << 17, 32 << 20
_TOKEN_ROWS, _TOKEN_BYTES = 128, 1 << 18
_FEWEST_SLOTS = 16
Encode = Callable[[pa.StringArray], tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]]
Report = Callable[[int, int], None]


@dataclass
class Stream:
    """Documents end to end. `text` uint8, `offsets` int64 `[documents + 1]` into it, `marks` one bit a byte, `bounds` of tokens.

    With TOKEN units `text` holds the token ids, four bytes each, and `bounds` int32 `[tokens, 2]` their bytes in the document.
    """

    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    marks: NDArray[np.uint8]
    bounds: NDArray[np.int32]
    kind: int
    length: int
    _files: list[Mapped]
    _before: int = 0
    _pages: int = _PAGES

    @classmethod
    def of(cls, texts: Iterable[pa.StringArray], kind: int, length: int, folder: Path, encode: Encode | None) -> Self:
        """Write the texts (their tokens by `encode`, when given) to files in `folder`."""
        with ExitStack() as undo:
            files = [text, offsets, bounds, marks] = [undo.enter_context(closing(Mapped(folder))) for _ in range(4)]
            offsets.append(np.zeros(1, np.int64))
            for batch in texts:
                if encode is None:
                    data, ends = strings(batch)
                    offsets.append(text.size + ends[1:] - ends[0])
                    text.append(data[ends[0] : ends[-1]])
                    continue
                for part in _parts(batch):
                    ids, pieces, ends = encode(part)
                    offsets.append(text.size + ends * TOKEN)
                    text.append(ids)
                    bounds.append(pieces)
            for start in range(0, text.size, 1 << 23):
                marks.append(np.zeros((min(1 << 23, text.size - start) + 7) // 8, np.uint8))
            arrays = text.array(np.uint8), offsets.array(np.int64), marks.array(np.uint8), bounds.array(np.int32).reshape(-1, 2)
            undo.pop_all()
        pa.default_memory_pool().release_unused()
        return cls(*arrays, kind, length, files)

    def close(self) -> None:
        """Give the disk space back."""
        for file in self._files:
            file.close()

    def count(self) -> tuple[int, int]:
        """Units, and positions at which a whole gram begins."""
        counts = [count_units(self.text, self.offsets, *block, self.length, self.kind, classes()) for block in self.blocks()]
        return sum(units for units, _ in counts), sum(grams for _, grams in counts)

    def mark(self, grams: int, memory: int, later_only: bool, report: Report) -> tuple[int, int]:
        """Mark every gram that repeats, with a table of at most `memory` bytes. What it does not need is for pages of the arrays.

        Returns the passes it took and the bytes of the table.
        """
        most = max(_FEWEST_SLOTS, memory // 8)
        slots = min(most, int(grams / _FULLNESS) + _FEWEST_SLOTS)
        parts = -(-grams // int(_FULLNESS * slots)) if grams else 0
        self._pages = _PAGES + max(0, memory - 8 * slots)
        while not self._pass_over(parts, slots, later_only, report):
            parts *= 2
        self._pages = _PAGES
        return parts, 8 * slots

    def spans(self, first: int, last: int) -> NDArray[np.int64]:
        """The struck spans of documents first … last − 1, int64 `[n, 3]`: document, first byte and end in its text."""
        size = int(self.offsets[last] - self.offsets[first]) // (self.length * (TOKEN if self.kind == TOKEN else BYTE)) + last - first
        found = np.empty((size, 3), np.int64)
        count = spans(self.text, self.offsets, self.bounds, first, last, self.length, self.kind, classes(), self.marks, found)
        self._release()
        return found[:count]

    def _pass_over(self, parts: int, slots: int, later_only: bool, report: Report) -> bool:
        """Search every part; False when the table of one became too full. Marks made so far are right and stay."""
        shared, table = (self.text, self.offsets), np.empty(slots, np.uint64)
        for part in range(parts):
            table[:], entered = 0, 0
            for first, last in self.blocks():
                entered = scan(*shared, first, last, self.length, self.kind, classes(), part, parts, table, self.marks, later_only, entered)
                if entered < 0:
                    return False
                report(part * len(self.text) + int(self.offsets[last]), parts * len(self.text))
        return True

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Documents in ranges of about 128 KiB; pages are given back in between when they have become too many."""
        documents, first = len(self.offsets) - 1, 0
        while first < documents:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + _BLOCK, side="right")) - 1
            last = min(documents, max(first + 1, last))
            yield first, last
            self._release()
            first = last

    def _release(self) -> None:
        if file_pages() - self._before > self._pages:
            for file in self._files:
                file.release()
            self._before = file_pages()


def _parts(texts: pa.StringArray) -> Iterator[pa.StringArray]:
    """Few texts at a time: what a tokenizer says of a text takes many times its bytes."""
    _, offsets = strings(texts)
    first = 0
    while first < len(texts):
        last = int(np.searchsorted(offsets, offsets[first] + _TOKEN_BYTES, side="right")) - 1
        last = min(len(texts), first + _TOKEN_ROWS, max(first + 1, last))
        yield texts.slice(first, last - first)
        first = last
