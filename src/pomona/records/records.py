"""`Records`: a table that is described now, and read or written when asked."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.errors import PomonaError, Sought, quantity, row_of
from pomona.files import atomic_file
from pomona.records.column_types import BATCH_ROWS, columns_of
from pomona.records.engines import spread
from pomona.records.parquet import ParquetSource
from pomona.records.parsing import is_array
from pomona.records.source import (
    Batches,
    Filter,
    Keyed,
    Source,
    Streamed,
    TableSource,
    kept,
    no_column,
    origins,
    passing,
    row_policy,
)
from pomona.records.store import is_remote
from pomona.records.text_source import TextSource, with_late_types
from pomona.records.writing import write_rows
from pomona.workspace import disk_guard

_WHOLE = 2**16  # rows of a batch where all are held anyhow: each costs time of its own
_ANY, _TEXT = "any value", "any text"  # neither null nor NaN; nor white space alone


@dataclass(frozen=True, eq=False, repr=False)
class Records:
    """A lazy, immutable table. Make one with `pomona.records.read`; nothing but its schema is read
    before rows are asked for.

    `source` is what the rows are read from: `source.where` is its name in errors, `source.parts()`
    its files. Of these rows come only those that pass `filters`, and at most `limit` of them;
    `engine` reads them. `rejected` is how many rows were left out as malformed, which `read` was
    told to drop or to set aside in the file `rejects`.
    """

    source: Source
    _columns: tuple[str, ...]
    filters: tuple[tuple[str, pa.Array | str], ...] = ()  # one of these, or _ANY or _TEXT
    limit: int | None = None
    engine: str = "native"
    rejected: int = 0
    drops: bool = False
    rejects: str | None = None

    @classmethod
    def of(cls, source: Source, engine: str = "native", rejected: int = 0) -> Records:
        """All rows and columns of a source."""
        return cls(source, tuple(source.schema.names), engine=engine, rejected=rejected)

    def __repr__(self) -> str:
        columns = ", ".join(f"{field.name} {field.type}" for field in self.schema)
        return f"Records({self.source.where}: {columns})"

    @property
    def schema(self) -> pa.Schema:
        """Columns and types, in plain Arrow types (never large or dictionary ones)."""
        schema = self.source.schema  # which may be one of others again
        return pa.schema([schema.field(name) for name in self._columns])

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self._columns)

    def require(self, *columns: str) -> Records:
        """Return these records. Raises PomonaError naming a column that is missing, the file, and
        the nearest name.
        """
        for name in columns:
            if name not in self._columns:
                raise no_column(name, self._columns, self.source.where)
        return self

    def select(self, *columns: str) -> Records:
        """Only these columns, in this order. Raises PomonaError when one is missing."""
        self.require(*columns)
        return replace(self, _columns=tuple(dict.fromkeys(columns)))

    def where(self, **wanted: Any) -> Records:
        """Only rows in which every named column equals its value, or is one of several values; None
        matches null.

        Raises:
            PomonaError: a column is missing, or a value is not of its type.
        """
        self.require(*wanted)
        values = ((name, self._wanted(name, value)) for name, value in wanted.items())
        return self._filtered(*values)

    def complete(self, *columns: str, texts: Sequence[str] = ()) -> Records:
        """Where malformed rows are dropped or set aside, these records without rows that lack a
        value in one of `columns`, or a text that is more than white space in one of `texts`: such
        are malformed then. Else these records.

        Raises:
            PomonaError: a column is missing, or a row cannot be read.
            ResourceError: the disk filled up while the rejects were written.
        """
        self.require(*columns, *texts)
        wanted = dict.fromkeys(columns, _ANY)
        for name in texts:
            wanted[name] = _TEXT if pa.types.is_string(self.schema.field(name).type) else _ANY
        if not self.drops or not wanted:
            return self
        own = frozenset(getattr(self.source, "own", self.source.schema.names))
        where, policy = str(self.source.where), row_policy()
        new = policy is None or policy.is_new(where, wanted)
        lacking = _Lacking(self, wanted, own).written(self.rejects if new else None)
        if policy is not None:
            policy.count(where, self.rejected + lacking)
        return replace(self._filtered(*wanted.items()), rejected=self.rejected + lacking)

    def _filtered(self, *values: tuple[str, pa.Array | str]) -> Records:
        # The first rows are taken before the filter, so a filter after them is one on its own.
        whole = self.limit is None
        base = self if whole else replace(self, source=_Nested(self), filters=(), limit=None)
        return replace(base, filters=(*base.filters, *values))

    def with_lines(self, name: str) -> Records:
        """These records with another column: of rows of JSONL and CSV the line that each was, with
        its newline, null where we would write the row of JSONL as it is there. Else these records.
        What `Results.write` is told to be `lines` comes back to the byte.
        """
        source = _with_lines(self.source, name) if self.engine == "native" else None
        if source is None:
            return self
        return replace(self, source=source, _columns=(*self._columns, name))

    def with_late_types(self) -> Records:
        """These records, columns of JSONL that are null in all of the first rows with the type of
        their first value. All lines are looked at once.
        """
        source = self.source
        if isinstance(source, Keyed) and isinstance(source.source, TextSource):
            return replace(self, source=replace(source, source=with_late_types(source.source)))
        if not isinstance(source, TextSource):
            return self
        return replace(self, source=with_late_types(source))

    def head(self, n: int) -> Records:
        """The first `n` rows. Raises PomonaError when `n` is negative."""
        if n < 0:
            message = f"head({n}) asks for a negative number of rows"
            raise PomonaError(message, remedy="give 0 or more")
        return replace(self, limit=n if self.limit is None else min(n, self.limit))

    def count(self) -> int:
        """The number of rows. Parquet without a filter answers from its footers.

        Raises:
            PomonaError: a file is damaged or a row malformed.
        """
        if self.engine == "ray" and self.limit is None:
            return sum(spread(Records.count, self._parts(), "ray"))
        if self.limit is None:
            return self.source.count(self._keep())
        return sum(batch.num_rows for batch in self.stream())

    def batches(self, rows: int = BATCH_ROWS) -> Batches:
        """Batches of exactly `rows` rows (the last may be shorter), in order, in bounded memory.

        Raises:
            PomonaError: `rows` is not positive, a file is damaged or a row malformed.
        """
        if rows < 1:
            raise PomonaError(f"batches({rows}) asks for empty batches", remedy="give 1 or more")
        return self._rechunked(rows)

    def to_table(self, dictionaries: Sequence[str] = ()) -> pa.Table:
        """Every row in memory; Parquet's texts of `dictionaries` as such, which is faster where few
        stand in many rows. Raises PomonaError when a file is damaged or a row malformed.
        """
        if dictionaries and isinstance(self.source, ParquetSource) and self.engine == "native":
            source = replace(self.source, encoded=tuple(dictionaries), rows=_WHOLE)
            encoded = replace(self, source=source)
            return pa.Table.from_batches(encoded.stream(), source.streamed(self._columns))
        return pa.Table.from_batches(self.stream(), schema=self.schema)

    @property
    def paths(self) -> list[str]:
        """The files that are read, and their addresses; a table in memory has none."""
        names = [part.where for part in self.source.parts()]
        return [name for name in names if is_remote(name) or Path(name).exists()]

    def row_name(self, index: int) -> str:
        """How errors name the row at `index` (from 0) of these: by its file and its number there,
        from 1, whatever is filtered or left out. For that rows may be read once more.
        """
        return self.row_names([index])[0]

    def row_names(self, rows: Sequence[int] | NDArray) -> list[str]:
        """The same of several rows."""
        return [row_of(*origin) for origin in self.origins(rows)]

    def other_row(self, other: int, row: int) -> str:
        """How an error of `row` names another: by its number alone where both are in one file."""
        (where, place), (here, _) = self.origins([other, row])
        return f"row {place + 1}" if where == here else row_of(where, place)

    def origins(self, rows: Sequence[int] | NDArray) -> list[tuple[str, int]]:
        """The file of each of these rows and its place there, all from 0: see `row_name`."""
        places = np.asarray(rows, np.int64)
        keep = self._keep()
        if keep is not None and len(places):
            names = list(dict.fromkeys(name for name, _ in self.filters))
            places = passing(self.source, names, keep, int(places.max()) + 1)[places]
        return origins(self.source, places)

    def write(self, path: str | Path) -> Path:
        """Write every row to `path`; see `pomona.records.write`."""
        return write(self, path)

    def _rechunked(self, rows: int) -> Batches:
        held: list[pa.RecordBatch] = []
        count = 0
        for batch in self.stream():
            start = 0
            while count + batch.num_rows - start >= rows:
                cut = rows - count
                yield pa.concat_batches([*held, batch.slice(start, cut)])
                held, count, start = [], 0, start + cut
            if start < batch.num_rows:
                held.append(batch.slice(start))
                count += batch.num_rows - start
        if held:
            yield pa.concat_batches(held)

    def stream(self) -> Batches:
        """The rows in order, in batches as they come from the source; none is empty.

        Raises:
            PomonaError: a file is damaged or a row malformed.
        """
        left = self.limit
        if left == 0:
            return
        if self.engine == "native":
            batches = self.source.stream(self._columns, self._keep())
        else:
            tables = spread(Records.to_table, self._parts(), self.engine)
            batches = (batch for table in tables for batch in table.to_batches())
        for batch in batches:
            rows = batch.select(self.column_names)
            if left is not None:
                rows = rows.slice(0, left)
                left -= rows.num_rows
            if rows.num_rows:
                yield rows
            if left == 0:
                return

    def _parts(self) -> Iterator[Records]:
        """What each job of a cluster reads: a file, of which it needs no more rows than are asked
        for in all.
        """
        for part in self.source.parts():
            yield replace(self, source=part, engine="native")

    def _keep(self) -> pc.Expression | None:
        tests = [_test(name, values) for name, values in self.filters]
        return functools.reduce(operator.and_, tests) if tests else None

    def _wanted(self, name: str, value: Any) -> pa.Array:
        several = isinstance(value, Iterable) and not isinstance(value, str | bytes | dict)
        values = list(value) if several else [value]
        kind = self.schema.field(name).type
        try:
            wanted = pa.array(values, kind)
            if wanted.to_pylist() == values:
                return wanted
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            pass
        message = f'column "{name}" holds {kind}, which {", ".join(map(repr, values))} is not'
        remedy = "compare with values of the column's type"
        raise PomonaError(message, where=self.source.where, remedy=remedy)


def _with_lines(source: Any, name: str) -> Any:
    """Lines of text, also under the texts that are made of them; None of others."""
    if not isinstance(source, TextSource):
        inner = _with_lines(source.source, name) if hasattr(source, "made") else None
        return None if inner is None else replace(source, source=inner)
    if source.kind not in ("jsonl", "csv") or any(map(is_array, source.files)):
        return None
    schema = source.schema.append(pa.field(name, pa.string()))
    return replace(source, schema=schema, lines=name)


@dataclass(frozen=True)
class RowName(Sought):
    """How errors name a row, which is looked up once it is said: see `Records.row_name`."""

    records: Records
    index: int

    def __str__(self) -> str:
        return self.records.row_name(self.index)


@dataclass(frozen=True)
class Derived(Streamed):
    """A source made of other records, with their columns."""

    records: Records

    @property
    def schema(self) -> pa.Schema:
        """See `Source`."""
        return self.records.schema

    @property
    def where(self) -> str:
        """See `Source`."""
        return self.records.source.where

    def origin(self, rows: NDArray) -> NDArray:
        """Which rows of the records these rows of it are."""
        return rows


@dataclass(frozen=True)
class _Nested(Derived):
    """Records as the source of further ones: a filter on the first rows."""

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`."""
        for batch in self.records.stream():
            yield kept(batch, keep)


def _test(name: str, values: pa.Array | str) -> pc.Expression:
    """Whether a column has one of the values, any, or any text. Never null."""
    column = pc.field(name)
    if not isinstance(values, str):
        return column.isin(values)
    if values == _ANY:
        return ~column.is_null(nan_is_null=True)
    seen: Any = pc.match_substring_regex  # pyright: ignore[reportAttributeAccessIssue]
    return column.is_valid() & seen(column, r"[^\s\p{Z}]")


@dataclass(frozen=True)
class _Lacking:
    """The rows of `records` that lack a value of what is `wanted`: its kind, by column. Columns
    but for their `own` were made for this.
    """

    records: Records
    wanted: Mapping[str, str]
    own: frozenset[str]

    def written(self, rejects: str | None) -> int:
        """How many there are; they are added to the file of rejects, where there is one."""
        if rejects is None:
            return sum(batch.num_rows for _, batch in self._batches())
        there, count = Path(rejects).read_bytes(), 0
        with disk_guard(rejects), atomic_file(rejects) as partial, partial.open("wb") as out:
            out.write(there)
            for where, batch in self._batches():
                for row in batch.to_pylist():
                    out.write(self._told(where, row).encode() + b"\n")
                    count += 1
        return count

    def _told(self, where: str, row: Mapping[str, Any]) -> str:
        name = next(
            name
            for name, kind in self.wanted.items()
            if (row[name] is None or row[name] != row[name])
            or (kind == _TEXT and not row[name].strip())
        )
        reason = f'column "{name}" is {"empty" if isinstance(row[name], str) else "null"}'
        own = {key: value for key, value in row.items() if key in self.own}
        text = json.dumps(own, ensure_ascii=False, default=str)
        told = {"file": where, "line": None, "reason": reason, "text": text, "base64": None}
        return json.dumps(told, ensure_ascii=False)

    def _batches(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        present = functools.reduce(operator.and_, [_test(*pair) for pair in self.wanted.items()])
        keep = self.records._keep()
        absent = ~present if keep is None else keep & ~present
        if self.records.limit is not None:
            rows = _Nested(self.records)
            yield from ((rows.where, batch) for batch in rows.stream((), ~present))
            return
        for part in self.records.source.parts():
            batches = part.stream(part.schema.names, absent)
            yield from ((part.where, batch) for batch in batches)


@dataclass(frozen=True)
class _Filtered(Derived):
    mask: NDArray

    def origin(self, rows: NDArray) -> NDArray:
        """See `Derived`."""
        return self.mask.nonzero()[0][rows]

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """The marked rows of each batch; the first column where none is asked for, so that rows are
        still counted.
        """
        every = self.records.column_names
        names, start = every if keep is not None else list(columns) or every[:1], 0
        for batch in self.records.select(*names).stream():
            stop = start + batch.num_rows
            if stop > len(self.mask):
                message = f"had {quantity(len(self.mask), 'row')} and now has more"
                remedy = "run again once nothing writes to it"
                raise PomonaError(message, where=self.where, remedy=remedy)
            yield kept(batch.filter(pa.array(self.mask[start:stop])), keep)
            start = stop


def filtered(records: Records, mask: NDArray) -> Records:
    """The rows for which `mask`, bool `[n]`, is true, in order. Reading them raises PomonaError
    when there are more than `n`.
    """
    return Records.of(_Filtered(records, mask))


def as_records(value: Records | pa.Table) -> Records:
    """Records over a table in memory, or the records themselves. Raises PomonaError for a table
    without columns or with two of one name.
    """
    if isinstance(value, Records):
        return value
    columns_of(value.schema, "the table")
    return Records.of(TableSource(value))


def write(
    records: Records | pa.Table,
    path: str | Path,
    *,
    format: Literal["parquet", "jsonl", "csv"] | None = None,
) -> Path:
    """Write records or a table, whole or not at all: Parquet (zstd), JSONL or CSV by suffix, or as
    `format` says.

    A suffix `.gz` or `.zst` compresses JSONL and CSV. `path` may be an `s3://` address.

    Raises:
        PomonaError: the suffix says no format, a column's type has no place in the format, or a row
            cannot be read.
        ResourceError: the disk is full. Nothing is left behind, and a file that was there is as it
            was.
    """
    return write_rows(as_records(records), path, format)
