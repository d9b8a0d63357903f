"""What an operation must know of a table before it writes rows: scores, groups and sizes, read in one pass and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.data._inputs import Inputs, need_text, opened, parts
from pomona.errors import PomonaError
from pomona.records import Records
from pomona.records._masked import masked
from pomona.records._source import Streamed, kept
from pomona.records.card import Input, inputs_of


@dataclass(frozen=True)
class Scan:
    """A table and what was read of it, all `[n]`: `scores` float64, `groups` as places in `names`, `sizes` float64."""

    records: Records
    inputs: tuple[Input, ...]
    scores: NDArray[np.float64] | None
    groups: NDArray[np.int64] | None
    names: tuple[str, ...]
    sizes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.sizes)


def scan(inputs: Inputs, *, score: str | None = None, group: str | None = None, size: str = "rows") -> Scan:
    """Read the columns an operation needs, without the text itself. `size` is "rows", "bytes" (of the text) or a column.

    Raises PomonaError naming file and row (from 1) for a null, NaN, infinity or negative size, and for a table without rows.
    """
    records = opened(inputs)
    texts = _texts(records) if size == "bytes" else ()
    named = [name for name in (score, group, None if size in ("rows", "bytes") else size) if name is not None]
    records.require(*named)
    for name in named:
        if name != group:
            _need_numbers(records, name)
    files: list[tuple[str, int]] = []
    scores: list[NDArray[np.float64]] = []
    labels: list[pa.Array] = []
    sizes: list[NDArray[np.float64]] = []
    columns = list(dict.fromkeys([*named, *texts])) or records.column_names[:1]
    for where, part in parts(records):
        rows = 0
        for batch in part.select(*columns)._stream():
            if score is not None:
                scores.append(_numbers(batch, score, where, rows))
            if group is not None:
                labels.append(_labels(batch, group, where, rows))
            sizes.append(_sizes(batch, size, texts, where, rows))
            rows += batch.num_rows
        files.append((where, rows))
    if not sum(rows for _, rows in files):
        raise PomonaError("there are no rows", where=records._source.where, remedy="check the input and its filters")
    groups = pa.chunked_array(labels).unify_dictionaries().combine_chunks() if labels else None
    return Scan(
        records,
        inputs_of(files),
        np.concatenate(scores) if scores else None,
        None if groups is None else groups.indices.to_numpy().astype(np.int64),
        () if groups is None else tuple(groups.dictionary.to_pylist()),
        np.concatenate(sizes),
    )


def row_name(where: str, row: int) -> str:
    """How errors name a row of a file or table; rows count from 1."""
    return f"{where}, row {row + 1}"


def not_onto(out: str | Path, inputs: Sequence[Input]) -> None:
    """Raise PomonaError when `out` is one of the inputs: those stay as they were."""
    for item in inputs:
        if Path(item.path).exists() and Path(out).resolve() == Path(item.path).resolve():
            raise PomonaError("is read and would be replaced", where=out, remedy="write to another path")


@dataclass(frozen=True)
class _Watched(Streamed):
    """The rows of `records`; `progress` is told how many of `total` have been read."""

    records: Records
    total: int
    progress: Callable[[int, int], None] | None

    @property
    def schema(self) -> pa.Schema:
        return self.records.schema

    @property
    def where(self) -> str:
        return self.records._source.where

    def stream(self, columns: Sequence[str], keep: pc.Expression | None) -> Iterator[pa.RecordBatch]:
        """Every batch; raises at the end when there were more rows or fewer."""
        done = 0
        for batch in self.records._stream():
            done += batch.num_rows
            yield kept(batch, keep)
            if self.progress is not None:
                self.progress(done, self.total)
        if done != self.total:
            message = f"had {self.total:,} rows and now has {done:,}"
            raise PomonaError(message, where=self.where, remedy="run again once nothing writes to it")


def counted(records: Records, total: int, progress: Callable[[int, int], None] | None) -> Records:
    """The same records, which say how many of `total` rows have been read."""
    return Records._of(_Watched(records, total, progress))


def chosen(records: Records, mask: NDArray[np.bool_], progress: Callable[[int, int], None] | None) -> Records:
    """The rows for which `mask`, `[n]`, is true, in order. Reading them raises PomonaError when there are no longer `n`."""
    return masked(counted(records, len(mask), progress), mask)


def _texts(records: Records) -> tuple[str, ...]:
    for wanted in (("text",), ("prompt", "completion")):
        if set(wanted) <= set(records.column_names):
            for name in wanted:
                need_text(records, name, "name a column of sizes, or use size=rows")
            return wanted
    message = 'size "bytes" needs the column "text", or "prompt" and "completion"'
    raise PomonaError(message, where=records._source.where, remedy="name a column of sizes, or use size=rows")


def _need_numbers(records: Records, name: str) -> None:
    kind = records.schema.field(name).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        message = f'column "{name}" holds {kind}, not numbers'
        remedy = "name a numeric column, or read the file with columns=pyarrow.schema(...)"
        raise PomonaError(message, where=records._source.where, remedy=remedy)


def _no_nulls(column: pa.Array, name: str, where: str, done: int) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise PomonaError(f'column "{name}" is null', where=row_name(where, done + row), remedy="fill it, or drop the row first")


def _numbers(batch: pa.RecordBatch, name: str, where: str, done: int) -> NDArray[np.float64]:
    column = batch.column(name)
    _no_nulls(column, name, where, done)
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        message = f'column "{name}" is {values[bad[0]]}, not a finite number'
        raise PomonaError(message, where=row_name(where, done + int(bad[0])), remedy="score the row again, or drop it first")
    return values


def _labels(batch: pa.RecordBatch, name: str, where: str, done: int) -> pa.Array:
    column = batch.column(name)
    _no_nulls(column, name, where, done)
    return column.cast(pa.string()).dictionary_encode()


def _sizes(batch: pa.RecordBatch, size: str, texts: Sequence[str], where: str, done: int) -> NDArray[np.float64]:
    if size == "rows":
        return np.ones(batch.num_rows)
    if size != "bytes":
        values = _numbers(batch, size, where, done)
        bad = np.flatnonzero(values < 0)
        if len(bad):
            message = f'column "{size}" is {values[bad[0]]:g}, a negative size'
            raise PomonaError(message, where=row_name(where, done + int(bad[0])), remedy="give sizes of 0 or more")
        return values
    total = np.zeros(batch.num_rows)
    for name in texts:
        _no_nulls(batch.column(name), name, where, done)
        total += pc.call_function("binary_length", [batch.column(name)]).to_numpy(zero_copy_only=False)
    return total
