"""What of `memory` is left for the table of the search, and the least that the data need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from pomona.data.duplicates._substring_pages import largest_pages
from pomona.data.duplicates._substring_units import BYTE, TOKEN, WORD
from pomona.data.duplicates._unicode import strings
from pomona.errors import PomonaError
from pomona.records import Source, TableSource

_MIB = 1 << 20
_FIXED = (
    368 * _MIB
)  # measured: Python, Arrow, a first compilation by numba, batches of rows, 32 MiB of mapped pages
_TABLE = 16 * _MIB
_WITHOUT_TABLE = 320 * _MIB
_LITTLE = 4 * _MIB
_TIMES_A_PAGE = 3  # measured: a page, its values, and a batch of them
_TIMES = {WORD: 10, BYTE: 10, TOKEN: 340}  # measured: bytes held for each byte of one document


class Budget:
    """The bytes of `limit` by use. Raises PomonaError with the least amount when they are too
    few.
    """

    def __init__(self, limit: int, kind: int, source: Source) -> None:
        self._limit, self._times, self._longest = limit, _TIMES[kind], 0
        self._table = (
            max(0, source.table.nbytes - _LITTLE) if isinstance(source, TableSource) else 0
        )
        pages = largest_pages(source)
        self._pages = _TIMES_A_PAGE * max(0, pages - _LITTLE)
        why = ", with the table that is given" if self._table else ""
        why += f", with pages of {pages / 1e6:,.1f} MB in the Parquet file" if self._pages else ""
        self._need(f"Python, its libraries and a small table{why} take more")

    def watched(self, texts: Iterable[pa.StringArray]) -> Iterator[pa.StringArray]:
        """The same texts, each batch before it is searched. Raises PomonaError naming the row (from
        0) of a text too long to hold.
        """
        row = 0
        for batch in texts:
            sizes = np.diff(strings(batch)[1])
            if len(sizes) and (longest := int(sizes.max())) > self._longest:
                self._longest = longest
                held = f"has {longest / 1e6:,.1f} MB and takes {self._times} times that"
                self._need(f"the text of row {row + int(sizes.argmax())} {held}")
            yield batch
            row += len(sizes)

    def table(self) -> int:
        """Bytes for the table, once all texts have been watched: not those of the longest text that
        the system may not have got back.
        """
        return max(_TABLE, self._limit - self._table - _FIXED - self._times // 2 * self._longest)

    def _need(self, why: str) -> None:
        read = _WITHOUT_TABLE + self._pages + self._times * self._longest
        least = -(-(self._table + max(_FIXED + _TABLE, read)) // _MIB)
        if self._limit < least * _MIB:
            given = f"{self._limit / _MIB:,.1f} MiB are not enough"
            raise PomonaError(
                f"{given}: {why}", where="memory", remedy=f'give "{least}MiB" or more'
            )
