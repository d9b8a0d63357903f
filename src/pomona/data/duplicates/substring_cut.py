"""The rows without what was struck, and the list of that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.duplicates.substring_texts import ColumnTexts
from pomona.data.inputs import pieces
from pomona.errors import PomonaError
from pomona.records import Batches, Filter, Streamed, kept
from pomona.text import strings

Ints = NDArray[np.int64]
_SPANS = pa.schema(
    [("row", pa.int64()), ("start", pa.int64()), ("end", pa.int64()), ("reason", pa.string())]
)


@dataclass
class Tally:
    """What a whole reading of the cut rows met: `rows` that remain, `bytes` of all texts, and what
    was struck of them.
    """

    rows: int = 0
    bytes: int = 0
    struck_bytes: int = 0
    struck_spans: int = 0
    rows_struck: int = 0
    rows_emptied: int = 0


class Struck(Protocol):
    """What is struck of texts: their `spans`, and the texts in `blocks`, as `Stream` has them."""

    def spans(self, first: int, last: int) -> NDArray[np.int64]:
        """The struck spans of texts first … last − 1, int64 `[n, 3]`: text, first byte and end."""
        ...

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Texts in ranges."""
        ...


@dataclass(frozen=True)
class CutRows(Streamed):
    """The rows of `texts` without the struck spans; with `drop`, without the rows of which only
    white space is left.
    """

    texts: ColumnTexts
    stream_of: Struck
    drop: bool
    tally: Tally

    @property
    def schema(self) -> pa.Schema:
        """See `Source`."""
        return self.texts.records.schema

    @property
    def where(self) -> str:
        """See `Source`."""
        return self.texts.records.source.where

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """The rows with their spans struck; the tally counts anew each time."""
        self.tally.__init__()
        first = 0
        for batch in pieces(self.texts.records.stream()):
            texts, owners = self.texts.of(batch)
            last = first + len(texts)
            if last > self.texts.count:
                raise self._changed()
            cut, struck = self._cut(texts, self.stream_of.spans(first, last) - [first, 0, 0])
            emptied = self._tallied(cut, np.unique(owners[struck]), owners, batch.num_rows)
            rows = self.texts.replaced(batch, cut) if len(struck) else batch
            if self.drop and emptied.any():
                rows = rows.filter(pa.array(~emptied))
            self.tally.rows += rows.num_rows
            yield kept(rows, keep)
            first = last
        if first != self.texts.count:
            raise self._changed()

    def _tallied(
        self, cut: pa.StringArray, struck: Ints, owners: Ints, rows: int
    ) -> NDArray[np.bool_]:
        """Which rows lost all but white space, of those of which something was struck."""
        emptied = np.zeros(rows, np.bool_)
        emptied[struck] = True
        looked = np.flatnonzero(emptied[owners])
        left = [bool(text.strip()) for text in cut.take(pa.array(looked)).to_pylist()]
        emptied[owners[looked[left]]] = False
        self.tally.rows_struck += len(struck)
        self.tally.rows_emptied += int(emptied.sum())
        return emptied

    def _cut(self, texts: pa.StringArray, spans: Ints) -> tuple[pa.StringArray, Ints]:
        """The texts without `spans` int64 `[n, 3]` (text, start, end), and those that lost some."""
        data, offsets = strings(texts)
        tally = self.tally
        tally.bytes += int(offsets[-1] - offsets[0])
        if not len(spans):
            return texts, np.zeros(0, np.int64)
        rows, starts, stops = (
            spans[:, 0],
            *(spans[:, 1:] + offsets[spans[:, 0], None] - offsets[0]).T,
        )
        if (stops > offsets[rows + 1] - offsets[0]).any():
            raise self._changed()
        edge = np.zeros(offsets[-1] - offsets[0] + 1, np.int8)
        edge[starts] += 1
        edge[stops] -= 1
        left = data[offsets[0] : offsets[-1]][np.cumsum(edge, dtype=np.int8, out=edge)[:-1] == 0]
        lost = np.bincount(rows, weights=stops - starts, minlength=len(texts)).astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(np.diff(offsets) - lost)]).astype(np.int32)
        cut = pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(left))
        tally.struck_bytes += int(lost.sum())
        tally.struck_spans += len(spans)
        return cut, np.flatnonzero(lost)

    def _changed(self) -> PomonaError:
        message = "the input changed while it was read"
        remedy = "run again when nothing writes to it"
        return PomonaError(message, where=self.where, remedy=remedy)


@dataclass(frozen=True)
class StruckSpans(Streamed):
    """One row for each struck span."""

    stream_of: Struck
    texts: ColumnTexts
    reason: str
    schema: pa.Schema = _SPANS
    where: str = "the struck spans"

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`."""
        for first, last in self.stream_of.blocks():
            rows = self.stream_of.spans(first, last)
            rows[:, 0] = self.texts.rows_of(rows[:, 0])
            arrays = [pa.array(np.ascontiguousarray(column)) for column in rows.T]
            yield kept(
                pa.record_batch(
                    [*arrays, pa.array([self.reason] * len(rows), pa.string())], schema=_SPANS
                ),
                keep,
            )
