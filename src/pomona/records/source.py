"""What a table can be read from, and the sources that need no parsing: tables in memory, other
records, changed types.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import PomonaError, first_line, nearest
from pomona.records.column_types import BATCH_ROWS, plain

Batches = Iterator[pa.RecordBatch]
Filter = pc.Expression | None  # what rows must pass; all do where it is None


class Source(Protocol):
    """Rows with a known schema, streamed in order and in bounded memory as often as wanted."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    @property
    def where(self) -> str:
        """The file or table, as errors name it."""
        ...

    def parts(self) -> Sequence[Source]:
        """The same rows in pieces that can be read side by side, in order."""
        ...

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """Batches with at least `columns`, only of rows for which `keep` is true."""
        ...

    def count(self, keep: Filter) -> int:
        """The number of rows for which `keep` is true."""
        ...


class Streamed:
    """Counts by streaming, for sources that know no shortcut."""

    def count(self: Source, keep: Filter) -> int:
        """Rows that a filter keeps."""
        return sum(batch.num_rows for batch in self.stream([], keep))

    def parts(self: Source) -> Sequence[Source]:
        """Pieces that can be read apart."""
        return [self]


@dataclass(frozen=True)
class Files(Streamed):
    """Files with the columns of the first, read one after the other."""

    files: tuple[str, ...]
    schema: pa.Schema
    first: str  # the file whose columns they are, also where `files` are others

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.files[0]

    def parts(self) -> Sequence[Any]:
        """Pieces that can be read apart."""
        return [replace(self, files=(file,)) for file in self.files]


def no_column(name: str, known: Iterable[str], where: str) -> PomonaError:
    """The error for a column that is not there, with the nearest name."""
    return PomonaError(f'there is no column "{name}"', where=where, remedy=nearest(name, known))


def kept(batch: pa.RecordBatch, keep: Filter) -> pa.RecordBatch:
    """The rows of `batch` for which `keep` is true."""
    return batch if keep is None else batch.filter(keep)


@dataclass(frozen=True)
class TableSource(Streamed):
    """A table in memory."""

    table: pa.Table
    where: str = "the table"

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return plain(self.table.schema)

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """The rows that a filter keeps, in batches."""
        for batch in self.table.to_batches(max_chunksize=BATCH_ROWS):
            yield kept(batch.cast(self.schema), keep)


@dataclass(frozen=True)
class Recast(Streamed):
    """Another source with the types the reader asked for."""

    source: Source
    schema: pa.Schema

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.source.where

    def parts(self) -> Sequence[Source]:
        """Pieces that can be read apart."""
        return [Recast(part, self.schema) for part in self.source.parts()]

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """The rows that a filter keeps, in batches."""
        for batch in self.source.stream(self.schema.names, None):
            arrays = [self._cast(batch, field) for field in self.schema]
            yield kept(pa.record_batch(arrays, schema=self.schema), keep)

    def _cast(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        try:
            return batch.column(field.name).cast(field.type)
        except pa.ArrowException as error:
            message = f'column "{field.name}" cannot be read as {field.type}: {first_line(error)}'
            remedy = f"it holds {batch.schema.field(field.name).type}"
            raise PomonaError(message, where=self.where, remedy=remedy) from error
