"""How large the pages of Parquet files are: their footers do not say, so the header of each page is
read (Apache Parquet, `PageHeader`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.records import Source, is_remote, unreadable

_SMALL = 1 << 20
_LOOK = 1 << 12
_INTEGERS, _BYTES, _LISTS, _STRUCT = (4, 5, 6), 8, (9, 10), 12
_FIXED = {1: 0, 2: 0, 3: 1, 7: 8}


def largest_pages(source: Source) -> int:
    """Bytes of the largest pages, decompressed, that are read together: one of each column. 0 for
    what is no local Parquet.

    Raises PomonaError when a file cannot be read.
    """
    from pomona.records import ParquetSource

    if not isinstance(source, ParquetSource):
        return 0
    return max((_largest(file) for file in source.files if not is_remote(file)), default=0)


def _largest(file: str) -> int:
    found = 0
    try:
        with pa.OSFile(file) as handle:
            footer = pq.read_metadata(handle)
            for group in range(footer.num_row_groups):
                chunks = [
                    footer.row_group(group).column(column) for column in range(footer.num_columns)
                ]
                found = max(found, sum(max(_pages(handle, chunk), default=0) for chunk in chunks))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from error
    return found


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
        found, end = _header(handle, at)
        if not found.get(3):
            yield chunk.total_uncompressed_size
            return
        yield found.get(2, 0)
        at += end + found[3]


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
    found: dict[int, int] = {}
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
            found[field] = number >> 1
        else:
            at = _after(data, at, kind)
    return found, at + 1


def _after(data: bytes, at: int, kind: int) -> int:
    """Where a value of `kind` ends that begins at `at`."""
    if kind in _FIXED:
        return at + _FIXED[kind]
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
