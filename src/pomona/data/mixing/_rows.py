"""Rows read a second time: all of them, or those that a mask marks, here or by the workers of a
cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.data.mixing._columns import Scan
from pomona.errors import PomonaError
from pomona.records import Derived, Piece, Records, Streamed, filtered, kept, spread

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Watched(Derived):
    """The rows of `records`; `progress` is told how many of `total` have been read."""

    total: int
    progress: Progress | None

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        """Every batch; raises at the end when there were more rows or fewer."""
        done = 0
        for batch in self.records._stream():
            done += batch.num_rows
            yield kept(batch, keep)
            if self.progress is not None:
                self.progress(done, self.total)
        if done != self.total:
            message = f"had {self.total:,} rows and now has {done:,}"
            raise PomonaError(
                message, where=self.where, remedy="run again once nothing writes to it"
            )


def counted(records: Records, total: int, progress: Progress | None) -> Records:
    """The same records, which say how many of `total` rows have been read."""
    return Records._of(_Watched(records, total, progress))


@dataclass(frozen=True)
class _Cut:
    """One job: a piece, and which of its rows are wanted, bool `[rows]`."""

    piece: Piece
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Picked(Streamed):
    """Rows that the workers of a cluster read and pick, piece by piece in order."""

    found: Scan
    mask: NDArray[np.bool_]
    progress: Progress | None

    @property
    def schema(self) -> pa.Schema:
        return self.found.records.schema

    @property
    def where(self) -> str:
        return self.found.records._source.where

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        """Every marked row; raises where a piece has other rows than before."""
        ends = np.cumsum(self.found.counts)
        jobs = map(_Cut, self.found.pieces, np.split(self.mask, ends[:-1]))
        for done, table in zip(ends.tolist(), spread(_pick, jobs, self.found.engine), strict=True):
            for batch in table.to_batches():
                yield kept(batch, keep)
            if self.progress is not None:
                self.progress(done, len(self.mask))


def _pick(job: _Cut) -> pa.Table:
    return marked(job.piece.records, job.mask, None).to_table()


def marked(records: Records, mask: NDArray[np.bool_], progress: Progress | None) -> Records:
    """The rows for which `mask`, `[n]`, is true, in order. Reading them raises PomonaError when
    there are no longer `n`.
    """
    return filtered(counted(records, len(mask), progress), mask)


def chosen(found: Scan, mask: NDArray[np.bool_], progress: Progress | None) -> Records:
    """The same rows of what was scanned, read by its engine."""
    if found.engine == "native" or len(found.pieces) == 1:
        return marked(found.records, mask, progress)
    return Records._of(_Picked(found, mask, progress))
