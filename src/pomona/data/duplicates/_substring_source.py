"""Rows in batches of a few MiB, in and out. Arrow's dataset decodes a whole row group before it
gives the first batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pomona.records import BATCH_ROWS, ParquetSource, Records, kept, locate, unreadable

_BATCH_BYTES = 4 << 20
_GROUP_BYTES = 8 << 20
_BUFFER = 1 << 20


@dataclass(frozen=True)
class _Paged(ParquetSource):
    """Parquet shards, read page by page."""

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        """Batches of about 4 MiB and at most 8,192 rows. A filter may ask for any column, so all
        are read for it.
        """
        names = list(columns) if keep is None else self.schema.names
        schema = pa.schema([self.schema.field(name) for name in names])
        for file in self.files:
            self.fragment(file)
            store, path = locate(file)
            try:
                with (
                    store.open_input_file(path) as handle,
                    pq.ParquetFile(handle, pre_buffer=False, buffer_size=_BUFFER) as shard,
                ):
                    for batch in shard.iter_batches(
                        _rows(shard.metadata), columns=names, use_threads=False
                    ):
                        yield kept(batch.select(names).cast(schema), keep)
            except (OSError, pa.ArrowException) as error:
                raise unreadable(file, error) from error


def _rows(metadata: pq.FileMetaData) -> int:
    size = sum(
        metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)
    )
    return max(1, min(BATCH_ROWS, _BATCH_BYTES * metadata.num_rows // max(1, size)))


def paged(records: Records) -> Records:
    """The same records; Parquet comes in small batches."""
    source = records._source
    return (
        replace(records, _source=_Paged(source.files, source.schema))
        if isinstance(source, ParquetSource)
        else records
    )


def pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about 4 MiB at most, or of one row."""
    for batch in batches:
        rows = max(1, batch.num_rows * _BATCH_BYTES // max(1, batch.nbytes))
        for first in range(0, batch.num_rows, rows):
            yield batch.slice(first, rows)


@dataclass(frozen=True, eq=False, repr=False)
class SmallBatches(Records):
    """Records to be written with few bytes at a time, where rows are long."""

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Batches of at most `rows` rows, whole ones of the stream as long as they hold no more
        than 8 MiB.
        """
        held: list[pa.RecordBatch] = []
        count = size = 0
        for batch in self._stream():
            if held and (count + batch.num_rows > rows or size + batch.nbytes > _GROUP_BYTES):
                yield pa.concat_batches(held)
                held, count, size = [], 0, 0
            held.append(batch)
            count, size = count + batch.num_rows, size + batch.nbytes
        if held:
            yield pa.concat_batches(held)
