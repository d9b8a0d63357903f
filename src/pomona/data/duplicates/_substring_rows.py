"""The rows without what was struck, and the list of what was struck, as sources that stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.data.duplicates._columns import TextColumn
from pomona.data.duplicates._substring_source import pieces
from pomona.data.duplicates._substring_stream import Stream
from pomona.data.duplicates._unicode import strings
from pomona.errors import PomonaError
from pomona.records import Streamed, kept

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


@dataclass(frozen=True)
class CutRows(Streamed):
    """The rows of `texts` without the struck spans; with `drop`, without the rows of which only
    white space is left.
    """

    texts: TextColumn
    stream_of: Stream
    drop: bool
    tally: Tally

    @property
    def schema(self) -> pa.Schema:
        return self.texts.records.schema

    @property
    def where(self) -> str:
        return self.texts.records._source.where

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        """The rows with their spans struck; the tally counts anew each time."""
        self.tally.__init__()
        first, place = 0, self.schema.get_field_index(self.texts.column)
        for batch in pieces(self.texts.records._stream()):
            last = first + batch.num_rows
            if last > self.texts.rows:
                raise self._changed()
            cut, emptied = self._cut(
                batch.column(place), self.stream_of.spans(first, last) - [first, 0, 0]
            )
            rows = batch.set_column(place, self.schema.field(place), cut)
            if self.drop and emptied.any():
                rows = rows.filter(pa.array(~emptied))
            self.tally.rows += rows.num_rows
            yield kept(rows, keep)
            first = last
        if first != self.texts.rows:
            raise self._changed()

    def _cut(
        self, texts: pa.StringArray, spans: NDArray[np.int64]
    ) -> tuple[pa.StringArray, NDArray[np.bool_]]:
        """The texts without `spans` int64 `[n, 3]` (row, start, end), and which rows lost all but
        white space.
        """
        data, offsets = strings(texts)
        tally, emptied = self.tally, np.zeros(len(texts), np.bool_)
        tally.bytes += int(offsets[-1] - offsets[0])
        if not len(spans):
            return texts, emptied
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
        struck = np.flatnonzero(lost)
        emptied[struck] = [not text.strip() for text in cut.take(pa.array(struck)).to_pylist()]
        tally.struck_bytes += int(lost.sum())
        tally.struck_spans += len(spans)
        tally.rows_struck += len(struck)
        tally.rows_emptied += int(emptied.sum())
        return cut, emptied

    def _changed(self) -> PomonaError:
        return PomonaError(
            "the input changed while it was read",
            where=self.where,
            remedy="run again when nothing writes to it",
        )


@dataclass(frozen=True)
class StruckSpans(Streamed):
    """One row for each struck span."""

    stream_of: Stream
    reason: str
    schema: pa.Schema = _SPANS
    where: str = "the struck spans"

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        for first, last in self.stream_of.blocks():
            found = self.stream_of.spans(first, last)
            arrays = [pa.array(np.ascontiguousarray(column)) for column in found.T]
            yield kept(
                pa.record_batch(
                    [*arrays, pa.array([self.reason] * len(found), pa.string())], schema=_SPANS
                ),
                keep,
            )
