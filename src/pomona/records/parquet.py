"""Parquet and Arrow files as sources: shards in order, each checked against all together before
its rows are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.dataset as ds

from pomona.errors import PomonaError, row_of
from pomona.records.column_types import BATCH_ROWS, columns_of, fitted, plain, united
from pomona.records.source import Batches, Files, Filter, kept, one_schema
from pomona.records.store import locate, readable, unreadable

_MANY = 16
_TEXTS = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class ParquetSource(Files):
    """Parquet shards; row groups that cannot match a filter are not read. Texts of the columns
    `encoded` come as dictionaries, as which Parquet keeps them, whatever the schema says. A batch
    has `rows` rows at most. The first row that is read is row `before` of its file, from 0.
    """

    encoded: tuple[str, ...] = field(default=(), kw_only=True)
    rows: int = field(default=BATCH_ROWS, kw_only=True)
    before: int = field(default=0, kw_only=True)

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """Batches of the files in order, each file's errors under its name."""
        schema = self.streamed(columns)
        for file in self.files:
            with readable(file):
                shard = self.fragment(file)
                same = self._same(shard, columns, keep)
                # Where it has other columns than all together, all that there are, for the filter.
                names = columns if keep is None or same else self.schema.names
                there = set(shard.physical_schema.names)
                # One row group ahead, in one thread: what is held does not grow with the file.
                batches = shard.to_batches(
                    columns=[name for name in names if name in there],
                    filter=keep if same else None,
                    batch_size=self.rows,
                    batch_readahead=1,
                    fragment_readahead=1,
                    use_threads=False,
                )
                row = None if same and keep is not None else self.before
                for batch in batches:
                    whole = sound(batch, file, row)
                    row = None if row is None else row + batch.num_rows
                    if same:
                        yield whole.cast(schema)
                    else:
                        yield from self._other(whole, file, columns, keep)

    def _same(self, shard: ds.Fragment, columns: Sequence[str], keep: Filter) -> bool:
        """Whether the file has what is wanted as all files have it together."""
        own = plain(shard.physical_schema)
        names = columns if keep is None else self.schema.names
        return all(
            name in own.names and own.field(name) == self.schema.field(name) for name in names
        )

    def _other(
        self, batch: pa.RecordBatch, file: str, columns: Sequence[str], keep: Filter
    ) -> Batches:
        names = list(columns) if keep is None else self.schema.names
        wanted = pa.schema([self.schema.field(name) for name in names])
        rows = kept(fitted(batch, wanted, file), keep).select(list(columns))
        yield rows.cast(self.streamed(columns))

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
            shard = self.fragment(file)
            if keep is None or self._same(shard, (), keep):
                return shard.count_rows(filter=keep)
        one = replace(self, files=(file,))
        return sum(batch.num_rows for batch in one.stream(self.schema.names[:1], keep))

    def fragment(self, file: str) -> ds.Fragment:
        """One shard, opened. Raises PomonaError when it is damaged or its columns do not fit."""
        shard = _open_shard(file, self.encoded)
        check_fits(columns_of(shard.physical_schema, file), self.schema, file, self.first)
        return shard


def open_parquet(files: Sequence[str]) -> ParquetSource:
    """A source over Parquet shards. Reads only their footers."""
    schema, notes = one_schema(_schemas(files, lambda file: _open_shard(file).physical_schema))
    return ParquetSource(tuple(files), schema, files[0], notes=notes)


def _schemas(files: Sequence[str], schema_of: Callable[[str], pa.Schema]) -> dict[str, pa.Schema]:
    """The columns of each file; of many, some are asked for at the same time."""

    def columns(file: str) -> pa.Schema:
        return columns_of(schema_of(file), file)

    if len(files) < _MANY:
        return {file: columns(file) for file in files}
    with ThreadPoolExecutor(_MANY) as pool:
        return dict(zip(files, pool.map(columns, files), strict=True))


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
                own = columns_of(batch.schema, file)
                check_fits(own, self.schema, file, self.first)
                sound(batch, file, row)
                row += batch.num_rows
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    rows = batch.slice(start, BATCH_ROWS)
                    if set(own) == set(self.schema):
                        rows = rows.select(self.schema.names).cast(self.schema)
                    else:
                        rows = fitted(rows, self.schema, file)
                    yield kept(rows, keep)


def open_arrow(files: Sequence[str]) -> ArrowSource:
    """A source over Arrow files. Reads only their schemas."""
    schema, notes = one_schema(_schemas(files, lambda file: next(_arrow_batches(file)).schema))
    return ArrowSource(tuple(files), schema, files[0], notes=notes)


def _arrow_batches(file: str) -> Batches:
    """The file's batches after an empty one that carries its schema."""
    store, path = locate(file)
    with readable(file), store.open_input_file(path) as handle:
        if handle.read_at(6, 0) == b"ARROW1":
            reader = pa.ipc.open_file(handle)
            yield _no_rows(reader.schema)
            for index in range(reader.num_record_batches):
                yield _without_views(reader.get_batch(index))
            return
        handle.seek(0)
        stream = pa.ipc.open_stream(handle)
        yield _no_rows(stream.schema)
        yield from map(_without_views, stream)


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    types = [pa.string() if _is_of_views(kind) else kind for kind in schema.types]
    fields = list(zip(schema.names, types, strict=True))
    return pa.RecordBatch.from_pylist([], schema=pa.schema(fields))


def _is_of_views(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) and kind.value_type == pa.string_view()


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Categories of Polars, whose texts are views, as texts: Arrow 25 decodes none of these."""
    for place, column in enumerate(batch.columns):
        if _is_of_views(column.type):
            texts = column.dictionary.cast(pa.string()).take(column.indices)
            batch = batch.set_column(place, batch.schema.names[place], texts)
    return batch


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
        where = file if row is None else row_of(file, row + at)
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


def check_fits(shard: pa.Schema, wanted: pa.Schema, file: str, first: str) -> None:
    """Check that a shard's columns are among those that are wanted, in these types or narrower
    ones. Raises PomonaError naming the first that is not: the file has changed.
    """
    for name in shard.names:
        here = shard.field(name).type
        there = wanted.field(name).type if name in wanted.names else "missing"
        if isinstance(there, str) or united(name, here, there) != there:
            message = f'column "{name}" is {here} here and {there} in {first}'
            remedy = "read the shards apart, or write them again with the same columns"
            raise PomonaError(message, where=file, remedy=remedy)
