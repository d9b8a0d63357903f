"""Reading some columns of any input file by file, with bad rows named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.data._inputs import Inputs, need_text, opened, parts
from pomona.errors import PomonaError
from pomona.records.card import Input, inputs_of


@dataclass(frozen=True)
class Batch:
    """Rows of one file: the file, the number of the first row in it (from 0) and in all inputs, and the rows."""

    where: str
    row: int
    start: int
    rows: pa.RecordBatch

    def at(self, index: int) -> str:
        """Where row `index` of this batch stands, for errors."""
        return f"{self.where}, row {self.row + index}"

    def texts(self, column: str) -> list[Any]:
        """The values of a column. Raises PomonaError naming the row when one is not valid UTF-8."""
        values = self.rows.column(column)
        try:
            return values.to_pylist()
        except UnicodeDecodeError as error:
            index = next(i for i, value in enumerate(values) if not _decodes(value))
            remedy = "decode the text with its own encoding first"
            raise PomonaError(f'column "{column}" is not valid UTF-8', where=self.at(index), remedy=remedy) from error


class Rows:
    """The inputs of an operation; `inputs` and `count` are known after the first whole reading."""

    def __init__(self, inputs: Inputs, texts: Sequence[str], required: Sequence[str], others: Sequence[str] = ()) -> None:
        """`texts` must hold strings, `required` may not be null, `others` are read where they exist.

        Raises PomonaError for a missing column and for one in `texts` that holds no strings.
        """
        self.records = opened(inputs).require(*texts, *required)
        for name in texts:
            need_text(self.records, name)
        self._required = required
        self.columns = tuple(dict.fromkeys([*texts, *required, *(name for name in others if name in self.records.column_names)]))
        self._counts: dict[str, int] = {}

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(self._counts.values())

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs for a card."""
        return inputs_of(self._counts.items())

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """All rows in order. Raises PomonaError with file and row for a null in a required column."""
        counts: dict[str, int] = {}
        start = 0
        for where, part in parts(self.records):
            row = 0
            for rows in part.select(*(columns or self.columns))._stream():
                batch = Batch(where, row, start, rows)
                self._check(batch)
                yield batch
                row, start = row + rows.num_rows, start + rows.num_rows
            counts[where] = counts.get(where, 0) + row
        self._counts = counts

    def _check(self, batch: Batch) -> None:
        for name in self._required:
            if name in batch.rows.schema.names and batch.rows.column(name).null_count:
                index = pc.index(batch.rows.column(name).is_null(), pa.scalar(True)).as_py()
                raise PomonaError(f'column "{name}" is null', where=batch.at(index), remedy="fill it, or drop such rows first")


def _decodes(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
