"""What a search for repeats may hold: a budget of memory, and the Parquet pages it has to count."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.data.duplicates.substring_scan import BYTE, TOKEN, WORD
from pomona.data.duplicates.substring_texts import ColumnTexts
from pomona.errors import PomonaError
from pomona.records import Source, TableSource, is_remote, unreadable
from pomona.text import strings

_SMALL = 1 << 20
_LOOK = 1 << 12
_INTEGERS, _BYTES, _LISTS, _STRUCT = (4, 5, 6), 8, (9, 10), 12
_FIXED_SIZES = {1: 0, 2: 0, 3: 1, 7: 8}


def largest_pages(source: Source | None) -> int:
    """Bytes of the largest pages, decompressed, that are read together: one of each column. 0 for
    what is no local Parquet.

    Raises PomonaError when a file cannot be read.
    """
    from pomona.records import ParquetSource

    while not isinstance(source, ParquetSource):
        if (source := getattr(source, "source", None)) is None:
            return 0
    return max((_largest(file) for file in source.files if not is_remote(file)), default=0)


def _largest(file: str) -> int:
    pages = 0
    try:
        with pa.OSFile(file) as handle:
            footer = pq.read_metadata(handle)
            for group in range(footer.num_row_groups):
                chunks = [
                    footer.row_group(group).column(column) for column in range(footer.num_columns)
                ]
                pages = max(pages, sum(max(_pages(handle, chunk), default=0) for chunk in chunks))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from error
    return pages


def _pages(handle: pa.NativeFile, chunk: pq.ColumnChunkMetaData) -> Iterator[int]:
    """The decompressed size of each page; of a small chunk its own, and of one that cannot be
    followed to its end, too.
    """
    if chunk.total_uncompressed_size <= _SMALL:
        yield chunk.total_uncompressed_size
        return
    at = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    stop = at + chunk.total_compressed_size
    while at < stop:
        numbers, end = _header(handle, at)
        if not numbers.get(3):
            yield chunk.total_uncompressed_size
            return
        yield numbers.get(2, 0)
        at += end + numbers[3]


def _header(handle: pa.NativeFile, at: int) -> tuple[dict[int, int], int]:
    """The integers of the page header at `at` by the number of their field (2: size, 3: compressed
    size), and its length.
    """
    look = _LOOK
    while look <= 1 << 24:
        try:
            return _struct(handle.read_at(look, at), 0)
        except IndexError:  # the header has long statistics
            look *= 16
    return {}, 0


def _struct(data: bytes, at: int) -> tuple[dict[int, int], int]:
    """A struct of Thrift's compact protocol: its integers by field, and where it ends. Raises
    IndexError when the data end before it.
    """
    numbers: dict[int, int] = {}
    field = 0
    while head := data[at]:
        at, kind = at + 1, head & 15
        if head >> 4:
            field += head >> 4
        else:
            number, at = _varint(data, at)
            field = number >> 1
        if kind in _INTEGERS:
            number, at = _varint(data, at)
            numbers[field] = number >> 1
        else:
            at = _after(data, at, kind)
    return numbers, at + 1


def _after(data: bytes, at: int, kind: int) -> int:
    """Where a value of `kind` ends that begins at `at`."""
    if kind in _FIXED_SIZES:
        return at + _FIXED_SIZES[kind]
    if kind == _STRUCT:
        return _struct(data, at)[1]
    if kind in _INTEGERS:
        return _varint(data, at)[1]
    if kind == _BYTES:
        length, at = _varint(data, at)
        return at + length
    if kind in _LISTS:
        count, at, item = data[at] >> 4, at + 1, data[at] & 15
        if count == 15:
            count, at = _varint(data, at)
        for _ in range(count):
            at = at + 1 if item in (1, 2) else _after(data, at, item)
        return at
    raise IndexError(kind)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 128:
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
    return value | data[at] << shift, at + 1


_MIB = 1 << 20
_FIXED = (
    368 * _MIB
)  # measured: Python, Arrow, a first compilation by numba, batches of rows, 32 MiB of mapped pages
_TABLE = 16 * _MIB
_WITHOUT_TABLE = 320 * _MIB
_LITTLE = 4 * _MIB
_TIMES_A_PAGE = 3  # measured: a page, its values, and a batch of them
_TIMES = {WORD: 10, BYTE: 10, TOKEN: 340}  # measured: bytes held for each byte of one document


class MemoryBudget:
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
        if self._limit < self._least():
            raise self._too_little(f"Python, its libraries and a small table{why} take more")

    def watched(self, texts: ColumnTexts) -> Iterator[pa.StringArray]:
        """The texts, each batch before it is searched. Raises PomonaError naming the row of a text
        too long to hold.
        """
        done = 0
        for batch in texts.texts():
            sizes = np.diff(strings(batch)[1])
            if len(sizes) and (longest := int(sizes.max())) > self._longest:
                self._longest = longest
                if self._limit < self._least():
                    held = f"has {longest / 1e6:,.1f} MB and takes {self._times} times that"
                    name = texts.row_name(done + int(sizes.argmax()))
                    raise self._too_little(f"the text of {name} {held}")
            yield batch
            done += len(sizes)

    def table(self) -> int:
        """Bytes for the table, once all texts have been watched: not those of the longest text that
        the system may not have got back.
        """
        return max(_TABLE, self._limit - self._table - _FIXED - self._times // 2 * self._longest)

    def _least(self) -> int:
        read = _WITHOUT_TABLE + self._pages + self._times * self._longest
        return -(-(self._table + max(_FIXED + _TABLE, read)) // _MIB) * _MIB

    def _too_little(self, why: str) -> PomonaError:
        given = f"{self._limit / _MIB:,.1f} MiB are not enough"
        remedy = f'give "{self._least() // _MIB}MiB" or more'
        return PomonaError(f"{given}: {why}", where="memory", remedy=remedy)
