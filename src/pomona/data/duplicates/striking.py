"""Documents of which the runs that a benchmark's items have are cut out, with what stands around
them, and the rest in pieces (Brown et al. 2020, arXiv 2005.14165, appendix C).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import regex
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.records import Batches, Derived, Filter, Records, kept, with_text

MARGIN, SHORTEST, MOST = 200, 200, 10  # characters on either side, of a piece, and pieces
Mask = NDArray[np.bool_]
Unit = tuple[str, int, int]  # as it is compared, and where it begins and ends in the text
_WORD = regex.compile(r"[^\s\p{Z}\p{P}\p{S}]+")


@dataclass
class Pieces:
    """What a whole reading of the cut rows met: rows that were cut, those of several pieces, rows
    that went, pieces, and the characters of the cut rows that are in none.
    """

    cut: int = 0
    several: int = 0
    gone: int = 0
    pieces: int = 0
    characters: int = 0


def runs_of(
    records: Records, column: str, wanted: Mask, chars: Mask, size: int
) -> set[tuple[str, ...]]:
    """All runs of `size` words, or characters, of the texts that are wanted."""
    made, name = with_text(records, column)
    found, row = set[tuple[str, ...]](), 0
    for batch in made.select(name).stream():
        for at in np.flatnonzero(wanted[row : row + batch.num_rows]):
            names = [
                unit for unit, _, _ in _units(batch.column(0)[int(at)].as_py(), chars[row + at])
            ]
            found.update(tuple(names[k : k + size]) for k in range(len(names) - size + 1))
        row += batch.num_rows
    return found


@dataclass(frozen=True)
class StruckRows(Derived):
    """The rows that hold nothing, and for each of the others the pieces that are left of its text,
    each as a row with the same other columns.
    """

    column: str
    holds: Mask
    chars: Mask
    runs: set[tuple[str, ...]]
    size: int
    tally: Pieces

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`; the tally counts anew each time."""
        self.tally.__init__()
        row = 0
        for batch in self.records.stream():
            holds = self.holds[row : row + batch.num_rows]
            if holds.any():
                yield kept(self._cut(batch, holds, self.chars[row : row + batch.num_rows]), keep)
            else:
                yield kept(batch, keep)
            row += batch.num_rows

    def _cut(self, batch: pa.RecordBatch, holds: Mask, chars: Mask) -> pa.RecordBatch:
        place = batch.schema.get_field_index(self.column)
        rows, texts = list[int](), list[str]()
        told = batch.column(place).to_pylist()
        for at, text in enumerate(told):
            left = self._left(text, bool(chars[at])) if holds[at] else [text]
            rows += [at] * len(left)
            texts += left
        taken = batch.take(pa.array(rows, pa.int64()))
        return taken.set_column(place, batch.schema.field(place), pa.array(texts, pa.string()))

    def _left(self, text: str, chars: bool) -> list[str]:
        pieces = list(_between(text, self._spans(_units(text, chars))))
        left = [piece for piece in pieces if len(piece) >= SHORTEST]
        # A run that its loop found and this does not see, of some rare letter: all of it goes.
        left = left if 0 < len(pieces) <= MOST and pieces != [text] else []
        self.tally.cut += bool(left)
        self.tally.several += len(left) > 1
        self.tally.gone += not left
        self.tally.pieces += len(left)
        self.tally.characters += len(text) - sum(map(len, left)) if left else 0
        return left

    def _spans(self, units: Sequence[Unit]) -> Iterator[tuple[int, int]]:
        names = [unit for unit, _, _ in units]
        for at in range(len(names) - self.size + 1):
            if tuple(names[at : at + self.size]) in self.runs:
                yield units[at][1], units[at + self.size - 1][2]


def check_column(records: Records, column: str) -> None:
    """Raise PomonaError unless the text is a column that pieces of it can stand in."""
    known = records.schema
    if column not in known.names or not pa.types.is_string(known.field(column).type):
        remedy = "name a column of texts, or leave out --strike: such rows go as wholes"
        message = f'pieces of "{column}" cannot stand in its place'
        raise PomonaError(message, where=records.source.where, remedy=remedy)


def _units(text: str, chars: bool) -> list[Unit]:
    """The words of a text in NFC and lower case without punctuation; or its characters, with one
    space for all that is between words.
    """
    units = list[Unit]()
    for word in _WORD.finditer(text):
        start, end = word.span()
        plain = unicodedata.normalize("NFC", word[0]).lower()
        if not chars:
            units.append((plain, start, end))
            continue
        if units:
            units.append((" ", units[-1][2], start))
        same = len(plain) == end - start
        units += [
            (letter, start + at, start + at + 1) if same else (letter, start, end)
            for at, letter in enumerate(plain)
        ]
    return units


def _between(text: str, spans: Iterator[tuple[int, int]]) -> Iterator[str]:
    """What is left of a text without spans, which ascend, and a margin on either side."""
    begin = 0
    for start, end in spans:
        if start - MARGIN > begin:
            yield text[begin : start - MARGIN]
        begin = max(begin, end + MARGIN)
    if begin < len(text):
        yield text[begin:]
