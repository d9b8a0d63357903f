"""`Records`: a table that is described now and read when asked."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import PomonaError, nearest
from pomona.records._source import Source, Streamed, TableSource, kept
from pomona.records._types import BATCH_ROWS

if TYPE_CHECKING:
    from daft import DataFrame


@dataclass(frozen=True, eq=False, repr=False)
class Records:
    """A lazy, immutable table. Make one with `pomona.records.read`; nothing but its schema is read
    before rows are asked for.

    `rejected` is how many malformed rows were set aside when it was read.
    """

    _source: Source
    _columns: tuple[str, ...]
    _filters: tuple[tuple[str, pa.Array], ...] = ()
    _limit: int | None = None
    _engine: str = "native"
    rejected: int = 0

    @classmethod
    def _of(cls, source: Source, engine: str = "native", rejected: int = 0) -> Records:
        return cls(source, tuple(source.schema.names), _engine=engine, rejected=rejected)

    @classmethod
    def _from_frame(cls, frame: DataFrame, engine: str = "native") -> Records:
        """The lazy result of a Daft computation, for the levers."""
        from pomona.records._engine import FrameSource

        return cls._of(FrameSource(frame), engine)

    def __repr__(self) -> str:
        return (
            f"Records({self._source.where}: "
            f"{', '.join(f'{field.name} {field.type}' for field in self.schema)})"
        )

    @property
    def schema(self) -> pa.Schema:
        """Columns and types, in plain Arrow types (never large or dictionary ones)."""
        return pa.schema([self._source.schema.field(name) for name in self._columns])

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
                raise PomonaError(
                    f'there is no column "{name}"',
                    where=self._source.where,
                    remedy=nearest(name, self._columns),
                )
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
        base = (
            self
            if self._limit is None
            else replace(Records._of(_Nested(self), self._engine), rejected=self.rejected)
        )
        return replace(
            base,
            _filters=(
                *base._filters,
                *((name, self._wanted(name, value)) for name, value in wanted.items()),
            ),
        )

    def head(self, n: int) -> Records:
        """The first `n` rows. Raises PomonaError when `n` is negative."""
        if n < 0:
            raise PomonaError(
                f"head({n}) asks for a negative number of rows", remedy="give 0 or more"
            )
        return replace(self, _limit=n if self._limit is None else min(n, self._limit))

    def count(self) -> int:
        """The number of rows. Parquet without a filter answers from its footers.

        Raises:
            PomonaError: a file is damaged or a row malformed.
        """
        if self._engine == "ray":
            from pomona.records._engine import translated

            with translated():
                return self._frame().count_rows()
        if self._limit is None:
            return self._source.count(self._keep())
        return sum(batch.num_rows for batch in self._stream())

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Batches of exactly `rows` rows (the last may be shorter), in order, in bounded memory.

        Raises:
            PomonaError: `rows` is not positive, a file is damaged or a row malformed.
        """
        if rows < 1:
            raise PomonaError(f"batches({rows}) asks for empty batches", remedy="give 1 or more")
        return self._rechunked(rows)

    def to_table(self) -> pa.Table:
        """Every row in memory. Raises PomonaError when a file is damaged or a row malformed."""
        return pa.Table.from_batches(self._stream(), schema=self.schema)

    def write(self, path: str | Path) -> Path:
        """Write every row to `path`; see `pomona.records.write`."""
        from pomona.records._write import write

        return write(self, path)

    def _rechunked(self, rows: int) -> Iterator[pa.RecordBatch]:
        held: list[pa.RecordBatch] = []
        count = 0
        for batch in self._stream():
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

    def _stream(self) -> Iterator[pa.RecordBatch]:
        if self._engine == "ray" and self._limit != 0:
            yield from Records._from_frame(self._frame())._stream()
            return
        left = self._limit
        for batch in self._source.stream(self._columns, self._keep()) if left != 0 else ():
            rows = batch.select(self.column_names)
            if left is not None:
                rows = rows.slice(0, left)
                left -= rows.num_rows
            if rows.num_rows:
                yield rows
            if left == 0:
                return

    def _frame(self) -> DataFrame:
        """The same rows as a lazy Daft frame, filters pushed down, for the levers."""
        from pomona.records._engine import daft, to_frame

        module, frame = daft(self._engine), to_frame(self._source, self._engine)
        for name, values in self._filters:
            column = module.col(name)
            test = column.is_in([value for value in values.to_pylist() if value is not None])
            frame = frame.where(test | column.is_null() if values.null_count else test)
        frame = frame.select(*self._columns)
        return frame if self._limit is None else frame.limit(self._limit)

    def _keep(self) -> pc.Expression | None:
        tests = [pc.field(name).isin(values) for name, values in self._filters]
        return functools.reduce(operator.and_, tests) if tests else None

    def _wanted(self, name: str, value: Any) -> pa.Array:
        values = (
            list(value)
            if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict)
            else [value]
        )
        kind = self.schema.field(name).type
        try:
            wanted = pa.array(values, kind)
            if wanted.to_pylist() == values:
                return wanted
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            pass
        message = f'column "{name}" holds {kind}, which {", ".join(map(repr, values))} is not'
        raise PomonaError(
            message, where=self._source.where, remedy="compare with values of the column's type"
        )


@dataclass(frozen=True)
class Derived(Streamed):
    """A source made of other records, with their columns."""

    records: Records

    @property
    def schema(self) -> pa.Schema:
        return self.records.schema

    @property
    def where(self) -> str:
        return self.records._source.where


@dataclass(frozen=True)
class _Nested(Derived):
    """Records as the source of further ones: a filter on the first rows."""

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        for batch in self.records._stream():
            yield kept(batch, keep)


def as_records(value: Records | pa.Table) -> Records:
    """Records over a table in memory, or the records themselves."""
    return value if isinstance(value, Records) else Records._of(TableSource(value))
