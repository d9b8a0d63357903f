"""Reading some columns of any input file by file, with bad rows named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.data.inputs import Inputs, opened, values_of, with_texts
from pomona.errors import PomonaError
from pomona.records import Input, Piece, inputs_of, parallel, rows_by_file, split


@dataclass(frozen=True)
class FileRows:
    """Rows of one piece of the input: the place of the first in it and in all inputs, from 0, and
    the rows.
    """

    piece: Piece
    row: int
    start: int
    rows: pa.RecordBatch

    def at(self, index: int) -> str:
        """Where row `index` of this batch stands, for errors."""
        return self.piece.row_name(self.row + index)

    def texts(self, column: str, rows: Sequence[int] | None = None) -> list[Any]:
        """The values of a column, or of some rows of it. Raises PomonaError naming the row when one
        is not valid UTF-8.
        """
        values = self.rows.column(column)
        values = values if rows is None else values.take(pa.array(rows))
        try:
            return values_of(values)
        except UnicodeDecodeError as error:
            index = next(i for i, value in enumerate(values) if not _decodes(value))
            remedy = "decode the text with its own encoding first"
            where = self.at(index if rows is None else rows[index])
            message = f'column "{column}" is not valid UTF-8'
            raise PomonaError(message, where=where, remedy=remedy) from error


class InputRows:
    """The inputs of an operation; `inputs` and `count` are known after the first whole reading."""

    def __init__(
        self,
        inputs: Inputs,
        texts: Sequence[str],
        required: Sequence[str],
        others: Sequence[str] = (),
        engine: str | None = "native",
    ) -> None:
        """`texts` are as `with_text` takes them, `required` columns or texts may not be null,
        `others` are read where they exist, by `engine`.

        Raises PomonaError for a missing column and for one in `texts` that holds no text.
        """
        records = opened(inputs)
        made, names = with_texts(records, *texts, required=required)
        self.records = made.select(*records.column_names)
        self._made = dict(zip(texts, names, strict=True))
        self._required = required
        self.columns = tuple(
            dict.fromkeys(
                [*texts, *required, *(name for name in others if name in records.column_names)]
            )
        )
        self._pieces, self._engine = split(made), engine
        self._counts: list[int] = []

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(self._counts)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs for a card."""
        return inputs_of(rows_by_file(self._pieces, self._counts))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[FileRows]:
        """All rows in order. Raises PomonaError with file and row for a null in a required
        column.
        """
        counts: list[int] = []
        shown = columns or self.columns
        read = [self._made.get(name, name) for name in shown]
        for piece, batches in parallel(self._pieces, read, self._engine):
            count, start = 0, sum(counts)
            for rows in batches:
                rows = rows.select(read).rename_columns(list(shown))
                batch = FileRows(piece, count, start + count, rows)
                self._check(batch)
                yield batch
                count += rows.num_rows
            counts.append(count)
        self._counts = counts

    def _check(self, batch: FileRows) -> None:
        for name in self._required:
            if name in batch.rows.schema.names and batch.rows.column(name).null_count:
                index = pc.index(batch.rows.column(name).is_null(), pa.scalar(True)).as_py()
                raise PomonaError(
                    f'column "{name}" is null',
                    where=batch.at(index),
                    remedy="fill it, or leave such rows out: --on-error drop",
                )


def _decodes(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
