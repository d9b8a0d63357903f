"""Rows of several tables in any order, repeated or not: each is put down once as Arrow and read
back through memory maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.records import Records, Streamed, kept

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
                    remedy="drop or rename it; column=NAME names the new one",
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
class Shelf:
    """One table, mapped: its batches and the row at which each begins, `[batches + 1]`."""

    batches: list[pa.RecordBatch]
    begins: Ints

    @classmethod
    def of(cls, records: Records, path: Path, schema: pa.Schema) -> Shelf:
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
    """The source behind a mixed table: row `row[i]` of shelf `dataset[i]`, with the dataset's name
    and `progress[i]`.
    """

    shelves: Mapping[int, Shelf]
    names: Sequence[str]
    dataset: Ints
    row: Ints
    progress: NDArray[np.float64]
    schema: pa.Schema
    where: str

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
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
            found, order = self.shelves[int(index)].take(row[mine])
            pieces.extend(found)
            places.append(mine[order])
        back = np.argsort(np.concatenate(places))
        return pa.concat_batches(pieces).take(pa.array(back))
