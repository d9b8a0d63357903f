"""What a table can be read from, and the sources that need no parsing: tables in memory, other
records, changed types; and what becomes of malformed rows of tables that a function opens by
itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.errors import PomonaError, first_line, nearest
from pomona.records.column_types import (
    BATCH_ROWS,
    in_parts,
    mixes_parts,
    natural_type,
    plain,
    united,
)

Batches = Iterator[pa.RecordBatch]
Ints = NDArray[np.int64]
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
    """Files with the same columns, or of which some lack columns or have narrower ones, read one
    after the other. `notes` say where that is so.
    """

    files: tuple[str, ...]
    schema: pa.Schema
    first: str  # the first file whose columns they are, also where `files` are others
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.files[0]

    def parts(self) -> Sequence[Any]:
        """Pieces that can be read apart."""
        return [replace(self, files=(file,)) for file in self.files]

    def places(self, rows: Ints) -> Ints:
        """Where these rows of the one file stand in it, from 0."""
        return rows


def no_column(name: str, known: Iterable[str], where: str) -> PomonaError:
    """The error for a column that is not there, with the nearest name."""
    return PomonaError(f'there is no column "{name}"', where=where, remedy=nearest(name, known))


def kept(batch: pa.RecordBatch, keep: Filter) -> pa.RecordBatch:
    """The rows of `batch` for which `keep` is true."""
    return batch if keep is None else batch.filter(keep)


def one_schema(schemas: Mapping[str, pa.Schema]) -> tuple[pa.Schema, tuple[str, ...]]:
    """The columns of all files, in the order in which they first come, and notes of those that some
    files lack or have in a narrower type.

    Raises:
        PomonaError: a column has types in two files that no type holds.
    """
    fields: dict[str, pa.DataType] = {}
    first = dict[str, str]()
    for file, schema in schemas.items():
        for one in schema:
            there = fields.get(one.name, pa.null())
            kind = united(one.name, there, one.type)
            if kind is None:
                message = f'column "{one.name}" is {one.type} here and {there} in {first[one.name]}'
                remedy = "read the files apart, or write them again with the same columns"
                raise PomonaError(message, where=file, remedy=remedy)
            fields[one.name] = kind
            first.setdefault(one.name, file)
    whole = pa.schema(list(fields.items()))
    return whole, notes_between(schemas, whole)


def notes_between(schemas: Mapping[str, pa.Schema], whole: pa.Schema) -> tuple[str, ...]:
    """What some files have otherwise than all together."""
    notes = (_note(one.name, one.type, schemas) for one in whole)
    return tuple(note for note in notes if note)


def _note(name: str, kind: pa.DataType, schemas: Mapping[str, pa.Schema]) -> str | None:
    """Which files have a column otherwise."""
    lacking = [file for file, schema in schemas.items() if name not in schema.names]
    types = {
        file: schema.field(name).type for file, schema in schemas.items() if file not in lacking
    }
    other = [file for file, own in types.items() if own != kind and not pa.types.is_null(own)]
    told = [f"is missing in {_some(lacking)}, and null there"] if lacking else []
    if other:
        told.append(f"is {types[other[0]]} in {_some(other)}, read as {kind}")
    return f'column "{name}" {"; ".join(told)}' if told else None


def _some(files: Sequence[str]) -> str:
    return files[0] + (f" and {len(files) - 1:,} more" if len(files) > 1 else "")


def spelt_notes(spelt: frozenset[str], notes: Sequence[str]) -> tuple[str, ...]:
    """Which ids are numbers in some rows and texts in others, unless notes say so of files."""
    told = [f'column "{name}" ' for name in sorted(spelt)]
    said = [note for note in notes if "read as string" in note]
    rest = [one for one in told if not any(note.startswith(one) for note in said)]
    return tuple(f"{one}has numbers and texts, all read as texts" for one in rest)


def sample_notes(
    sample: Mapping[str, Mapping[str, list[Any]]], schema: pa.Schema
) -> tuple[str, ...]:
    """What some of several files have otherwise."""
    if len(sample) < 2:
        return ()
    schemas = {
        file: pa.schema([(name, natural_type(some)) for name, some in found.items()])
        for file, found in sample.items()
    }
    return notes_between(schemas, schema)


def parted_in(sample: Mapping[str, dict[str, list[Any]]]) -> frozenset[str]:
    """The columns of conversations with texts and lists of parts; in the sample they then have
    lists alone.
    """
    names = dict.fromkeys(name for found in sample.values() for name in found)
    mixed = frozenset(
        name
        for name in names
        if mixes_parts([one for found in sample.values() for one in found.get(name, ())])
    )
    for found in sample.values():
        for name in mixed & found.keys():
            found[name] = [in_parts(one) for one in found[name]]
    return mixed


def notes_of(source: Any) -> tuple[str, ...]:
    """What is to be said of how files are read, from under what is made of them."""
    if isinstance(source, Files):
        return source.notes
    inner = getattr(source, "source", None) or getattr(source, "records", None)
    return () if inner is None else notes_of(inner)


@dataclass(frozen=True)
class Keyed(Streamed):
    """Files in folders that are named by the values of columns (`lang=en`), and these columns:
    `values` by file.
    """

    source: Source
    keys: pa.Schema
    values: Mapping[str, Mapping[str, Any]]

    @property
    def schema(self) -> pa.Schema:
        """The columns of the files, and those of their folders."""
        return pa.schema([*self.source.schema, *self.keys])

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.source.where

    def parts(self) -> Sequence[Keyed]:
        """Pieces that can be read apart."""
        return [replace(self, source=part) for part in self.source.parts()]

    def count(self, keep: Filter) -> int:
        """See `Source`."""
        return self.source.count(None) if keep is None else super().count(keep)

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`. A filter may ask for any column, so all are read for it."""
        wanted = set(columns) if keep is None else set(self.schema.names)
        own = [name for name in self.source.schema.names if name in wanted]
        own = own or self.source.schema.names[:1]
        keys = [one for one in self.keys if one.name in wanted]
        for part in self.source.parts():
            values = self.values[part.where]
            for batch in part.stream(own, None):
                rows = batch.select(own)
                for one in keys:
                    value = pa.scalar(values.get(one.name), one.type)
                    rows = rows.append_column(one, pa.repeat(value, rows.num_rows))
                yield kept(rows, keep)


@dataclass(frozen=True)
class TableSource(Streamed):
    """A table in memory; `origin` are the records of which its rows are made, and their places
    there, None where these are the same.
    """

    table: pa.Table
    where: str = "the table"
    origin: tuple[Any, Ints | None] | None = None

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


def passing(source: Source, names: Sequence[str], keep: Filter, stop: int) -> Ints:
    """The places, from 0, of the first `stop` rows that pass a filter on the columns `names`."""
    found, done, count = [np.zeros(0, np.int64)], 0, 0
    number = f"number beside {', '.join(names)}"
    for batch in source.stream(names, None):
        numbers = pa.array(np.arange(done, done + batch.num_rows))
        rows = kept(batch.select(names).append_column(number, numbers), keep)
        found.append(rows[number].to_numpy())
        done, count = done + batch.num_rows, count + rows.num_rows
        if count >= stop:
            break
    return np.concatenate(found)


def origins(source: Any, rows: Ints) -> list[tuple[str, int]]:
    """The file of each of these rows of a source, and its place there, from 0."""
    if (records := getattr(source, "records", None)) is not None:
        return records.origins(source.origin(rows))
    parts, first = source.parts(), 0
    found: list[tuple[str, int]] = [("", 0)] * len(rows)
    for place, part in enumerate(parts):
        last = place == len(parts) - 1 or len(rows) == 0 or first > rows.max()
        stop = int(rows.max(initial=0)) + 1 if last else first + part.count(None)
        here = np.flatnonzero((first <= rows) & (rows < stop))
        for at, origin in zip(here, _of_file(part, rows[here] - first), strict=True):
            found[at] = origin
        if last:
            break
        first = stop
    return found


def _of_file(part: Any, rows: Ints) -> list[tuple[str, int]]:
    while (inner := getattr(part, "source", None)) is not None:  # the same rows, more columns
        part = inner
    if hasattr(part, "records"):
        return origins(part, rows)
    if isinstance(part, TableSource) and part.origin is not None:
        records, places = part.origin
        return records.origins(rows if places is None else places[rows])
    places = part.places(rows) if isinstance(part, Files) else rows
    return [(part.where, int(place)) for place in places]


@dataclass
class RowPolicy:
    """`drop` or `reject` to the file `rejects`; `names` are what tables are for, by their paths.
    `left_out` counts rows by the table they are of.
    """

    on_error: Literal["drop", "reject"]
    rejects: Path | None
    names: Mapping[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    opened: dict[str, Any] = field(default_factory=dict)
    _told: set[Any] = field(default_factory=set)

    def file_of(self, source: str) -> Path | None:
        """Where rejected rows of a table go: the file itself, and for further tables others beside
        it, with what they are for, or their number, in their names.
        """
        place = len(self.opened)
        if self.rejects is None or place == 0:
            return self.rejects
        name = self.names.get(source, str(place + 1))
        return self.rejects.with_name(f"{self.rejects.stem}.{name}{self.rejects.suffix}")

    def is_new(self, where: str, wanted: Mapping[str, str]) -> bool:
        """Whether rows that lack a value of these columns have not been set aside yet."""
        key = (where, tuple(sorted(wanted.items())))
        new = key not in self._told
        self._told.add(key)
        return new

    def count(self, where: str, rows: int) -> None:
        """So many rows of a table are left out by now."""
        self.left_out[where] = max(rows, self.left_out.get(where, 0))


_POLICY: ContextVar[RowPolicy | None] = ContextVar("row policy", default=None)


def row_policy() -> RowPolicy | None:
    """What holds in the block that runs."""
    return _POLICY.get()


_ALL_ROWS: ContextVar[bool] = ContextVar("types of all rows", default=False)


def looks_at_all_rows() -> bool:
    """Whether all rows of a file say its columns and types in the block that runs."""
    return _ALL_ROWS.get()


@contextmanager
def types_of_all_rows() -> Iterator[None]:
    """In this block `read` looks at all rows of JSON for their columns and types, which takes
    another reading, where else the first ones say them.
    """
    token = _ALL_ROWS.set(True)
    try:
        yield
    finally:
        _ALL_ROWS.reset(token)


@contextmanager
def malformed_rows(
    on_error: Literal["drop", "reject"],
    rejects: str | Path | None = None,
    names: Mapping[str, str] | None = None,
) -> Iterator[RowPolicy]:
    """In this block `read` drops malformed rows of files, or sets them aside in `rejects`, where it
    is not told another way. Raises PomonaError where one of both is missing.
    """
    if (on_error == "reject") != (rejects is not None):
        message = "--on-error reject and a file of rejects go together"
        raise PomonaError(message, where="rejects", remedy="give both, or neither")
    policy = RowPolicy(on_error, None if rejects is None else Path(rejects), names or {})
    token = _POLICY.set(policy)
    try:
        yield policy
    finally:
        _POLICY.reset(token)
