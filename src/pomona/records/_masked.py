"""Rows of other records, chosen by a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.records._records import Derived, Records
from pomona.records._source import kept


@dataclass(frozen=True)
class _Masked(Derived):
    mask: NDArray

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        """The marked rows of each batch; the first column where none is asked for, so that rows are
        still counted.
        """
        names, start = list(columns) or self.records.column_names[:1], 0
        for batch in self.records.select(*names)._stream():
            stop = start + batch.num_rows
            if stop > len(self.mask):
                raise PomonaError(
                    f"had {len(self.mask):,} rows and now has more",
                    where=self.where,
                    remedy="run again once nothing writes to it",
                )
            yield kept(batch.filter(pa.array(self.mask[start:stop])), keep)
            start = stop


def masked(records: Records, mask: NDArray) -> Records:
    """The rows for which `mask`, bool `[n]`, is true, in order. Reading them raises PomonaError
    when there are more than `n`.
    """
    return Records._of(_Masked(records, mask))
