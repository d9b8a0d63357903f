"""Rows read a second time: those that a mask marks, or those of several tables in any order, put
down once as Arrow and read back through memory maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.mixing.table_scan import Scanned
from pomona.errors import PomonaError
from pomona.records import (
    Batches,
    Derived,
    Filter,
    Piece,
    Records,
    Streamed,
    filtered,
    kept,
    spread,
)

Ints = NDArray[np.int64]
ROWS = 8192


def common_schema(schemas: Mapping[str, pa.Schema], taken: Sequence[str]) -> pa.Schema:
    """The columns of all tables, in the order they first occur.

    Raises PomonaError for a column that two tables hold as different types, or whose name is
    `taken`.
    """
    fields: dict[str, tuple[str, pa.DataType]] = {}
    for name, schema in schemas.items():
        for field in schema:
            if field.name in taken:
                message = f'there is a column "{field.name}" already'
                raise PomonaError(
                    message,
                    where=f'dataset "{name}"',
                    remedy="drop or rename it; in Python, column names the new one",
                )
            first, kind = fields.setdefault(field.name, (name, field.type))
            if pa.types.is_null(kind):
                fields[field.name] = (name, field.type)
            elif kind != field.type and not pa.types.is_null(field.type):
                message = f'column "{field.name}" is {field.type} here and {kind} in "{first}"'
                raise PomonaError(
                    message,
                    where=f'dataset "{name}"',
                    remedy="write the tables again with the same types",
                )
    return pa.schema([(name, kind) for name, (_, kind) in fields.items()])


@dataclass(frozen=True)
class MappedTable:
    """One table, mapped: its batches and the row at which each begins, `[batches + 1]`."""

    batches: list[pa.RecordBatch]
    begins: Ints

    @classmethod
    def of(cls, records: Records, path: Path, schema: pa.Schema) -> MappedTable:
        """Put `records` down at `path` with the columns of `schema`, null where they have none."""
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in records.batches(ROWS):
                n, known = batch.num_rows, set(batch.schema.names)
                columns = [
                    batch.column(f.name).cast(f.type) if f.name in known else pa.nulls(n, f.type)
                    for f in schema
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        return cls(batches, np.cumsum([0, *(batch.num_rows for batch in batches)]))

    def take(self, rows: Ints) -> tuple[list[pa.RecordBatch], Ints]:
        """`rows` in pieces, and for each row of the pieces its place in `rows`."""
        order = np.argsort(rows, kind="stable")
        home = np.searchsorted(self.begins, rows[order], "right") - 1
        cuts = np.flatnonzero(np.diff(home)) + 1
        pieces = []
        for part, batch in zip(np.split(rows[order], cuts), home[np.append(0, cuts)], strict=True):
            pieces.append(self.batches[batch].take(pa.array(part - self.begins[batch])))
        return pieces, order


@dataclass(frozen=True)
class Gathered(Streamed):
    """The source behind a mixed table: row `row[i]` of table `dataset[i]`, with the dataset's name
    and `progress[i]`.
    """

    tables: Mapping[int, MappedTable]
    names: Sequence[str]
    dataset: Ints
    row: Ints
    progress: NDArray[np.float64]
    schema: pa.Schema
    where: str

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`."""
        labels = pa.array(self.names, pa.string())
        for start in range(0, len(self.row), ROWS):
            part = slice(start, start + ROWS)
            body = self._rows(self.dataset[part], self.row[part])
            added = [labels.take(pa.array(self.dataset[part])), pa.array(self.progress[part])]
            yield kept(pa.record_batch([*body.columns, *added], schema=self.schema), keep)

    def _rows(self, dataset: Ints, row: Ints) -> pa.RecordBatch:
        pieces: list[pa.RecordBatch] = []
        places: list[Ints] = []
        for index in np.unique(dataset):
            mine = np.flatnonzero(dataset == index)
            batches, order = self.tables[int(index)].take(row[mine])
            pieces.extend(batches)
            places.append(mine[order])
        back = np.argsort(np.concatenate(places))
        return pa.concat_batches(pieces).take(pa.array(back))


Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Watched(Derived):
    """The rows of `records`; `progress` is told how many of `total` have been read."""

    total: int
    progress: Progress | None

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """Every batch; raises at the end when there were more rows or fewer."""
        done = 0
        for batch in self.records.stream():
            done += batch.num_rows
            yield kept(batch, keep)
            if self.progress is not None:
                self.progress(done, self.total)
        if done != self.total:
            message = f"had {self.total:,} rows and now has {done:,}"
            raise PomonaError(
                message, where=self.where, remedy="run again once nothing writes to it"
            )


def counted(records: Records, total: int, progress: Progress | None) -> Records:
    """The same records, which say how many of `total` rows have been read."""
    return Records.of(_Watched(records, total, progress))


@dataclass(frozen=True)
class _Cut:
    """One job: a piece, and which of its rows are wanted, bool `[rows]`."""

    piece: Piece
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Picked(Streamed):
    """Rows that the workers of a cluster read and pick, piece by piece in order."""

    scan: Scanned
    mask: NDArray[np.bool_]
    progress: Progress | None

    @property
    def schema(self) -> pa.Schema:
        """See `Source`."""
        return self.scan.records.schema

    @property
    def where(self) -> str:
        """See `Source`."""
        return self.scan.records.source.where

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """Every marked row; raises where a piece has other rows than before."""
        ends = np.cumsum(self.scan.counts)
        jobs = map(_Cut, self.scan.pieces, np.split(self.mask, ends[:-1]))
        for done, table in zip(ends.tolist(), spread(_pick, jobs, self.scan.engine), strict=True):
            for batch in table.to_batches():
                yield kept(batch, keep)
            if self.progress is not None:
                self.progress(done, len(self.mask))


def _pick(job: _Cut) -> pa.Table:
    return marked(job.piece.records, job.mask, None).to_table()


def marked(records: Records, mask: NDArray[np.bool_], progress: Progress | None) -> Records:
    """The rows for which `mask`, `[n]`, is true, in order. Reading them raises PomonaError when
    there are no longer `n`.
    """
    return filtered(counted(records, len(mask), progress), mask)


def chosen(scan: Scanned, mask: NDArray[np.bool_], progress: Progress | None) -> Records:
    """The same rows of what was scanned, read by its engine."""
    if scan.engine == "native" or len(scan.pieces) == 1:
        return marked(scan.records, mask, progress)
    return Records.of(_Picked(scan, mask, progress))
