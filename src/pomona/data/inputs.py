"""What operations on data take: paths, globs, tables or records, opened and read file by file so
that errors and cards can name them; one text column with bad rows named; and sizes in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.errors import PomonaError
from pomona.records import Input, Records, as_records, as_text, inputs_of, read, with_text

Inputs = str | Path | Sequence[str | Path] | pa.Table | Records


def opened(inputs: Inputs) -> Records:
    """The records of `inputs`, of which no type waits for rows behind the first."""
    given = isinstance(inputs, Records | pa.Table)
    return (as_records(inputs) if given else read(inputs)).with_late_types()


def parts(records: Records) -> list[tuple[str, Records]]:
    """Each file with its rows, in order; the first rows only (`head`) are one part."""
    source = records.source
    if records.limit is not None:
        return [(source.where, records)]
    return [(part.where, replace(records, source=part)) for part in source.parts()]


BATCH_BYTES = 4 << 20
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}


def open_column(inputs: Inputs, column: str, *, may_be_empty: bool = True) -> Records:
    """The records of `inputs` that have a text, where such are left out that have none; `column`
    as `with_text` takes it. Raises PomonaError when it is missing or does not hold text.
    """
    records = opened(inputs)
    made, _ = with_texts(records, column, may_be_empty=may_be_empty)
    return made.select(*records.column_names)


def with_texts(
    records: Records, *texts: str, required: Sequence[str] = (), may_be_empty: bool = True
) -> tuple[Records, list[str]]:
    """The records with all these texts, as `with_text` takes them, where such are left out that
    lack one or a value of the `required` columns; and the columns of the texts.
    """
    made, names = records, list[str]()
    for text in texts:
        made, name = with_text(made, text)
        names.append(name)
    left = [name for name in required if name not in names]
    if may_be_empty:
        made = made.complete(*dict.fromkeys([*names, *left]))
    else:
        made = made.complete(*left, texts=names)
    return made, names


class TextColumn:
    """The texts of rows, in order, as often as wanted; `column` as `with_text` takes it. `rows` and
    `inputs` are known after the first whole reading.
    """

    def __init__(self, records: Records, column: str, *, may_be_empty: bool = True) -> None:
        self.records, self.column, self._may_be_empty = records, column, may_be_empty
        self._rows: dict[str, int] = {}

    def texts(self) -> Iterator[pa.StringArray]:
        """The texts in batches. Raises PomonaError with file and row for a null, for bytes that are
        not UTF-8, and for an empty text unless it `may_be_empty`.
        """
        counts: dict[str, int] = {}
        made, name = with_text(self.records, self.column)
        for where, part in parts(made.select(name)):
            row = 0
            for batch in part.stream():
                texts = batch.column(0)
                self._check(texts, part, row)
                yield texts
                row += len(texts)
            counts[where] = counts.get(where, 0) + row
        self._rows = counts

    @property
    def rows(self) -> int:
        """Rows in all."""
        return sum(self._rows.values())

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs for a card."""
        return inputs_of(self._rows.items())

    def _check(self, texts: pa.StringArray, records: Records, row: int) -> None:
        if texts.null_count:
            at = row + pc.index(texts.is_null(), pa.scalar(True)).as_py()
            remedy = "fill it, or leave out rows without a text: --on-error drop"
            where = records.row_name(at)
            raise PomonaError(f'column "{self.column}" is null', where=where, remedy=remedy)
        if not self._may_be_empty and (empty := pc.index(texts, "").as_py()) >= 0:
            raise PomonaError(
                f'column "{self.column}" is empty',
                where=records.row_name(row + empty),
                remedy="leave out rows without a text: --on-error drop",
            )
        try:
            texts.validate(full=True)
        except pa.ArrowInvalid as error:
            at = row + next(index for index, text in enumerate(texts) if not _is_utf8(text))
            message = f'column "{self.column}" is not valid UTF-8'
            raise PomonaError(
                message,
                where=records.row_name(at),
                remedy="decode the text with its own encoding first",
            ) from error


def values_of(column: pa.Array) -> list[Any]:
    """The values of a column as Python's own, or as text where Python has no such: times of
    nanoseconds.
    """
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raise
    except ValueError:
        return as_text(column).to_pylist()


def pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of about 4 MiB at most, or of one row."""
    for batch in batches:
        rows = max(1, batch.num_rows * BATCH_BYTES // max(1, batch.nbytes))
        for first in range(0, batch.num_rows, rows):
            yield batch.slice(first, rows)


def unheard(done: int, total: int) -> None:
    """The progress report of those who asked for none."""


def _is_utf8(text: pa.StringScalar) -> bool:
    try:
        text.as_buffer().to_pybytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def size_in_bytes(size: int | str, name: str = "memory") -> int:
    """`"1GiB"`, `"512 MB"` or a number as bytes. Raises PomonaError for anything else and for less
    than 64 KiB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    if match is None or match[2].lower() not in _UNITS:
        raise PomonaError(
            f'"{size}" is not a size',
            where=name,
            remedy='write a number of bytes, or "512MiB", "4GiB"',
        )
    value = int(float(match[1]) * _UNITS[match[2].lower()])
    if value < 1 << 16:
        raise PomonaError(
            f"{size} is less than 64 KiB", where=name, remedy='give more, for example "1GiB"'
        )
    return value
