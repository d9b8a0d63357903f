"""Parquet and Arrow files as sources: shards in order, each checked against the first before its
rows are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.dataset as ds

from pomona.errors import PomonaError
from pomona.records.column_types import BATCH_ROWS, columns_of
from pomona.records.source import Batches, Files, Filter, kept
from pomona.records.store import locate, readable, unreadable

_TEXTS = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class ParquetSource(Files):
    """Parquet shards; row groups that cannot match a filter are not read. Texts of the columns
    `encoded` come as dictionaries, as which Parquet keeps them, whatever the schema says. A batch
    has `rows` rows at most.
    """

    encoded: tuple[str, ...] = field(default=(), kw_only=True)
    rows: int = field(default=BATCH_ROWS, kw_only=True)

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """Batches of the files in order, each file's errors under its name."""
        schema = self.streamed(columns)
        for file in self.files:
            with readable(file):
                # One row group ahead, in one thread: what is held does not grow with the file.
                batches = self.fragment(file).to_batches(
                    columns=list(columns),
                    filter=keep,
                    batch_size=self.rows,
                    batch_readahead=1,
                    fragment_readahead=1,
                    use_threads=False,
                )
                row = 0 if keep is None else None
                for batch in batches:
                    yield sound(batch, file, row).cast(schema)
                    row = None if row is None else row + batch.num_rows

    def streamed(self, columns: Sequence[str]) -> pa.Schema:
        """The columns of the batches."""
        found = pa.schema([self.schema.field(name) for name in columns])
        for place, one in enumerate(found):
            if one.name in self.encoded and pa.types.is_string(one.type):
                found = found.set(place, one.with_type(_TEXTS))
        return found

    def count(self, keep: Filter) -> int:
        """See `Source`."""
        return sum(self._count(file, keep) for file in self.files)

    def _count(self, file: str, keep: Filter) -> int:
        with readable(file):
            return self.fragment(file).count_rows(filter=keep)

    def fragment(self, file: str) -> ds.Fragment:
        """One shard, opened. Raises PomonaError when it is damaged or its columns are not those of
        the first.
        """
        shard = _open_shard(file, self.encoded)
        same_shape(columns_of(shard.physical_schema, file), self.schema, file, self.first)
        return shard


def open_parquet(files: Sequence[str]) -> ParquetSource:
    """A source over Parquet shards. Reads only the footer of the first."""
    schema = columns_of(_open_shard(files[0]).physical_schema, files[0])
    return ParquetSource(tuple(files), schema, files[0])


def _open_shard(file: str, encoded: Sequence[str] = ()) -> ds.Fragment:
    store, path = locate(file)
    # Row groups are read one by one: Arrow's default fetches the whole file ahead.
    scan = ds.ParquetFragmentScanOptions(pre_buffer=False)
    texts = ds.ParquetReadOptions(dictionary_columns=list(encoded))
    form = ds.ParquetFileFormat(read_options=texts, default_fragment_scan_options=scan)
    with readable(file):
        return next(iter(ds.dataset(path, format=form, filesystem=store).get_fragments()))


@dataclass(frozen=True)
class ArrowSource(Files):
    """Arrow stream or IPC files, as Hugging Face datasets are saved on disk."""

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`."""
        for file in self.files:
            row = 0
            for batch in _arrow_batches(file):
                same_shape(columns_of(batch.schema, file), self.schema, file, self.first)
                sound(batch, file, row)
                row += batch.num_rows
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    rows = batch.slice(start, BATCH_ROWS).select(self.schema.names)
                    yield kept(rows.cast(self.schema), keep)


def open_arrow(files: Sequence[str]) -> ArrowSource:
    """A source over Arrow files. Reads only the schema of the first."""
    schema = columns_of(next(_arrow_batches(files[0])).schema, files[0])
    return ArrowSource(tuple(files), schema, files[0])


def _arrow_batches(file: str) -> Batches:
    """The file's batches after an empty one that carries its schema."""
    store, path = locate(file)
    with readable(file), store.open_input_file(path) as handle:
        if handle.read_at(6, 0) == b"ARROW1":
            reader = pa.ipc.open_file(handle)
            yield pa.RecordBatch.from_pylist([], schema=reader.schema)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
            return
        handle.seek(0)
        stream = pa.ipc.open_stream(handle)
        yield pa.RecordBatch.from_pylist([], schema=stream.schema)
        yield from stream


def sound(batch: pa.RecordBatch, file: str, row: int | None) -> pa.RecordBatch:
    """`batch`, whose first row is row `row` (from 0) of the file. Raises PomonaError when its bytes
    are not what its types say, such as text that is not UTF-8.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if (error := _fault(column)) is None:
            continue
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if "UTF8" not in str(error):
            raise unreadable(file, error) from error
        at = next(at for at in range(len(column)) if _fault(column.slice(at, 1)))
        message = f'column "{name}" is not valid UTF-8'
        where = file if row is None else f"{file}, row {row + at}"
        remedy = "decode the text with its own encoding first"
        raise PomonaError(message, where=where, remedy=remedy) from error
    return batch


def _fault(column: pa.Array) -> Exception | None:
    if "list_view" in str(column.type):  # Arrow 25 finds faults in lists that have none
        return None
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        return error
    return None


def same_shape(shard: pa.Schema, wanted: pa.Schema, file: str, first: str) -> None:
    """Check a shard's columns, whatever their order. Raises PomonaError naming the first that
    differs.
    """
    for name in dict.fromkeys([*wanted.names, *shard.names]):
        here = shard.field(name).type if name in shard.names else "missing"
        there = wanted.field(name).type if name in wanted.names else "missing"
        if here != there:
            message = f'column "{name}" is {here} here and {there} in {first}'
            remedy = "read the shards apart, or write them again with the same columns"
            raise PomonaError(message, where=file, remedy=remedy)
