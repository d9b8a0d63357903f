"""What an operation must know of a table before it writes rows: scores, groups and sizes, read in
one pass and checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.data.inputs import Inputs, opened, with_texts
from pomona.errors import PomonaError
from pomona.records import (
    Input,
    Piece,
    Records,
    as_text,
    check_engine,
    inputs_of,
    rows_by_file,
    split,
    spread,
    usual_texts,
)


@dataclass(frozen=True)
class Scanned:
    """A table that was read once: its `pieces` have `counts` rows each, and are read by
    `engine`.
    """

    records: Records
    pieces: tuple[Piece, ...]
    counts: tuple[int, ...]
    engine: str
    inputs: tuple[Input, ...]

    def __len__(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Scan(Scanned):
    """A table and what was read of it, all `[n]`: `scores` float64, `groups` as places in `names`,
    `sizes` float64.
    """

    scores: NDArray[np.float64] | None
    groups: NDArray[np.int64] | None
    names: tuple[str, ...]
    sizes: NDArray[np.float64]


@dataclass(frozen=True)
class _Look:
    """One job: the piece, and what is wanted of its rows."""

    piece: Piece
    score: str | None
    group: str | None
    size: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """What a job found: `scores` and `sizes` float64 `[rows]`, `labels` dictionary-encoded
    `[rows]`.
    """

    scores: NDArray[np.float64]
    labels: pa.Array
    sizes: NDArray[np.float64]


def scan(
    inputs: Inputs,
    *,
    score: str | None = None,
    group: str | None = None,
    size: str = "rows",
    engine: str | None = None,
) -> Scan:
    """Read the columns an operation needs, without the text itself. `size` is "rows", "bytes" (of
    the text) or a column.

    Raises PomonaError naming file and row (from 1) for a null, NaN, infinity or negative size, and
    for a table without rows.
    """
    engine, records = check_engine(engine), opened(inputs)
    shown = records.column_names
    named = [
        name
        for name in (score, group, None if size in ("rows", "bytes") else size)
        if name is not None
    ]
    records.require(*named)
    for name in named:
        if name != group:
            _need_numbers(records, name)
    wanted = _texts(records) if size == "bytes" else ()
    records, texts = with_texts(records, *wanted, required=named)
    columns = list(dict.fromkeys([*named, *texts])) or shown[:1]
    pieces = split(records)
    jobs = [
        _Look(
            replace(piece, records=piece.records.select(*columns)), score, group, size, tuple(texts)
        )
        for piece in pieces
    ]
    seen = list(spread(_look, jobs, engine))
    counts = [len(part.sizes) for part in seen]
    refuse_empty(records, counts)
    groups = (
        None
        if group is None
        else pa.chunked_array([part.labels for part in seen]).unify_dictionaries().combine_chunks()
    )
    return Scan(
        records.select(*shown),
        tuple(replace(piece, records=piece.records.select(*shown)) for piece in pieces),
        tuple(counts),
        engine,
        inputs_of(rows_by_file(pieces, counts)),
        None if score is None else np.concatenate([part.scores for part in seen]),
        None if groups is None else groups.indices.to_numpy().astype(np.int64),
        () if groups is None else tuple(groups.dictionary.to_pylist()),
        np.concatenate([part.sizes for part in seen]),
    )


def _look(job: _Look) -> _Seen:
    piece, rows = job.piece, 0
    scores, sizes, labels = (
        [np.empty(0)],
        [np.empty(0)],
        [pa.array([], pa.string()).dictionary_encode()],
    )
    for batch in piece.records.stream():
        if job.score is not None:
            scores.append(_numbers(batch, job.score, piece, rows))
        if job.group is not None:
            labels.append(labels_of(batch, job.group, piece, rows))
        sizes.append(_sizes(batch, job.size, job.texts, piece, rows))
        rows += batch.num_rows
    known = pa.chunked_array(labels).unify_dictionaries().combine_chunks()
    return _Seen(np.concatenate(scores), known, np.concatenate(sizes))


def refuse_empty(records: Records, counts: Sequence[int]) -> None:
    """Raise PomonaError when pieces with so many rows have none."""
    if not sum(counts):
        raise PomonaError(
            "there are no rows",
            where=records.source.where,
            remedy="check the input and its filters",
        )


def _texts(records: Records) -> tuple[str, ...]:
    for wanted in (("text",), ("prompt", "completion")):
        if set(wanted) <= set(records.column_names):
            return wanted
    usual = usual_texts(records.schema)
    if len(usual) == 1:
        return (usual[0],)
    message = 'size "bytes" needs the column "text", "prompt" and "completion", or conversations'
    if usual:
        message = f'size "bytes" may be of {" or ".join(map(repr, usual))}'
    raise PomonaError(
        message, where=records.source.where, remedy='name a column of sizes, or use size "rows"'
    )


def _need_numbers(records: Records, name: str) -> None:
    kind = records.schema.field(name).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        message = f'column "{name}" holds {kind}, not numbers'
        remedy = "name a numeric column; those of CSV are text, and Parquet or JSONL hold numbers"
        raise PomonaError(message, where=records.source.where, remedy=remedy)


def _no_nulls(column: pa.Array, name: str, piece: Piece, done: int) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise PomonaError(
            f'column "{name}" is null',
            where=piece.row_name(done + row),
            remedy="fill it, or leave such rows out: --on-error drop",
        )


def _numbers(batch: pa.RecordBatch, name: str, piece: Piece, done: int) -> NDArray[np.float64]:
    column = batch.column(name)
    _no_nulls(column, name, piece, done)
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        message = f'column "{name}" is {values[bad[0]]}, not a finite number'
        raise PomonaError(
            message,
            where=piece.row_name(done + int(bad[0])),
            remedy="score the row again, or leave such rows out: --on-error drop",
        )
    return values


def labels_of(batch: pa.RecordBatch, name: str, piece: Piece, done: int) -> pa.Array:
    """A column as dictionary-encoded text. Raises PomonaError with file and row for a null."""
    column = batch.column(name)
    _no_nulls(column, name, piece, done)
    return as_text(column).dictionary_encode()


def _sizes(
    batch: pa.RecordBatch, size: str, texts: Sequence[str], piece: Piece, done: int
) -> NDArray[np.float64]:
    if size == "rows":
        return np.ones(batch.num_rows)
    if size != "bytes":
        values = _numbers(batch, size, piece, done)
        bad = np.flatnonzero(values < 0)
        if len(bad):
            message = f'column "{size}" is {values[bad[0]]:g}, a negative size'
            raise PomonaError(
                message, where=piece.row_name(done + int(bad[0])), remedy="give sizes of 0 or more"
            )
        return values
    total = np.zeros(batch.num_rows)
    for name in texts:
        _no_nulls(batch.column(name), name, piece, done)
        total += pc.call_function("binary_length", [batch.column(name)]).to_numpy(
            zero_copy_only=False
        )
    return total
