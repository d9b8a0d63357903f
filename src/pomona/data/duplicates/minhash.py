"""Signing: a piece of a table becomes shingle sets, band keys and fingerprints, chunk by chunk,
in a work folder that outlives a kill.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.data.duplicates.signed import SHINGLES, DedupOptions, is_whole, save_chunk
from pomona.data.inputs import with_texts
from pomona.data.work import noted
from pomona.errors import PomonaError
from pomona.files import write_json
from pomona.records import Piece, Records, rows_by_file, spread, with_text
from pomona.shingles import ascii_rows, composed, fingerprints, hash_functions, sign
from pomona.text import strings, tables
from pomona.workspace import Workspace, disk_guard

CHUNK_ROWS, CHUNK_BYTES = 8192, 32 << 20


@dataclass(frozen=True)
class SigningJob:
    """A piece of the inputs, where its chunks go, and the number of the piece."""

    piece: Piece
    folder: Path
    part: int
    options: DedupOptions
    rows: int = CHUNK_ROWS


def sign_part(job: SigningJob) -> int:
    """Sign every chunk that is not yet there. Returns the rows of the piece.

    Raises:
        PomonaError: the column has nulls or is not text, a score is not finite, or the file cannot
            be read.
        ResourceError: the disk is full.
    """
    note = job.folder / f"{job.part:05d}.json"
    said = noted(note, rows=int, chunks=int)
    if said is not None and all(
        is_whole(job.folder / f"{job.part:05d}-{chunk:06d}") for chunk in range(said["chunks"])
    ):
        return said["rows"]
    rows, chunk = 0, 0
    with disk_guard(str(job.folder)):
        for batch in _chunks(job.piece.records, job.options, job.rows):
            place = job.folder / f"{job.part:05d}-{chunk:06d}"
            if not is_whole(place):
                save_chunk(_signed(batch, job.options, job.piece, rows), place)
            rows, chunk = rows + batch.num_rows, chunk + 1
        write_json(note, {"rows": rows, "chunks": chunk})
    return rows


def check_columns(records: Records, options: DedupOptions) -> Records:
    """The records, if they have what is asked for. Raises PomonaError when a column is missing or
    of the wrong type.
    """
    names, where = records.column_names, records.source.where
    if options.score:
        kind = records.require(options.score).schema.field(options.score).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise PomonaError(
                f'column "{options.score}" is {kind}, not a number',
                where=where,
                remedy="name a column with scores",
            )
    made, _ = with_texts(records, options.column, required=[*filter(None, [options.score])])
    return made.select(*names)


def _chunks(records: Records, options: DedupOptions, rows: int) -> Iterator[pa.RecordBatch]:
    records, name = with_text(records, options.column)
    columns = [name] + ([options.score] if options.score else [])
    for batch in _batches(records.select(*columns), rows):
        sizes = np.cumsum(
            pc.fill_null(
                pc.call_function("binary_length", [batch.column(0).cast(pa.string())]), 0
            ).to_numpy(zero_copy_only=False)
        )
        start = 0
        while start < batch.num_rows:
            before = sizes[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(sizes, before + CHUNK_BYTES, side="right")))
            yield batch.slice(start, stop - start)
            start = stop


def _batches(records: Records, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of about `rows` rows, without copying those that come so."""
    held: list[pa.RecordBatch] = []
    for batch in records.stream():
        for start in range(0, batch.num_rows, rows):
            held.append(batch.slice(start, rows))
            if 2 * sum(piece.num_rows for piece in held) >= rows:
                yield pa.concat_batches(held) if len(held) > 1 else held[0]
                held = []
    if held:
        yield pa.concat_batches(held)


def _signed(
    batch: pa.RecordBatch, options: DedupOptions, piece: Piece, before: int
) -> dict[str, NDArray[Any]]:
    column = _text(batch.column(0), options.column, piece, before)
    scores = (
        _scores(batch.column(1), options.score, piece, before) if options.score else np.zeros(0)
    )
    if options.method == "exact":
        data, offsets = strings(column)
        lengths = (
            pc.call_function("utf8_length", [column])
            .to_numpy(zero_copy_only=False)
            .astype(np.int64)
        )
        return {
            "prints": fingerprints(data, offsets),
            "facts": np.stack([lengths, np.zeros_like(lengths)], 1),
            "scores": scores,
        }
    data, offsets = strings(bare(composed(column)) if options.inside else composed(column))
    factors, shifts = hash_functions(
        (options.n_bands or 1) * (options.rows_per_band or 1), options.seed
    )
    keys, prints, set_offsets, sets, facts, token_offsets, tokens = sign(
        data,
        offsets,
        ascii_rows(data, offsets),
        *tables(),
        SHINGLES.index(options.shingle or "auto"),
        options.shingle_size or 1,
        factors,
        shifts,
        options.rows_per_band or 1,
        options.edit_similarity is not None,
    )
    arrays = {
        "keys": keys,
        "prints": prints,
        "set_offsets": set_offsets,
        "sets": sets,
        "facts": facts,
        "scores": scores,
    }
    return (
        arrays
        if options.edit_similarity is None
        else {**arrays, "token_offsets": token_offsets, "tokens": tokens}
    )


def bare(column: pa.StringArray) -> pa.StringArray:
    """The texts with spaces for punctuation and symbols."""
    options = pc.ReplaceSubstringOptions(r"[\p{P}\p{S}]+", " ")
    return pc.call_function("replace_substring_regex", [column], options)


def _text(column: pa.Array, name: str, piece: Piece, before: int) -> pa.StringArray:
    if column.null_count:
        row = before + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise PomonaError(
            f'column "{name}" is null',
            where=piece.row_name(row),
            remedy="drop the row or give it a text",
        )
    text = column.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowException as error:
        for row, value in enumerate(text.cast(pa.binary()).to_pylist()):
            try:
                value.decode()
            except UnicodeDecodeError as bad:
                place = piece.row_name(before + row)
                raise PomonaError(
                    f'column "{name}" is not UTF-8: {bad.reason}',
                    where=place,
                    remedy="convert the file to UTF-8",
                ) from error
        raise
    return text


def _scores(column: pa.Array, name: str | None, piece: Piece, before: int) -> NDArray[np.float64]:
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        remedy = "drop the row or score it again"
        raise PomonaError(
            f'column "{name}" is {values[bad[0]]}, not a number',
            where=piece.row_name(before + int(bad[0])),
            remedy=remedy,
        )
    return values.astype(np.float64)


Progress = Callable[[int, int], None]


@dataclass
class SigningScratch:
    """An open work folder, and how far the run is."""

    folder: Path
    plan: dict[str, Any]
    total: int
    progress: Progress | None = None
    done: int = 0

    @property
    def state(self) -> Path:
        """Where finished bands are kept."""
        return self.folder / "bands"

    @property
    def name(self) -> str:
        """A name for these inputs with these parameters."""
        return hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()[:16]

    def step(self, *_: int) -> None:
        """Note that one more step is done."""
        self.done += 1
        if self.progress:
            self.progress(min(self.done, self.total), self.total)

    def sign(
        self,
        pieces: Sequence[Piece],
        name: str,
        options: DedupOptions,
        engine: str | None,
        rows: int,
    ) -> list[tuple[str, int]]:
        """Sign every piece into the folder `name`. Returns the files and their rows."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        jobs = [
            SigningJob(piece, folder, number, options, rows) for number, piece in enumerate(pieces)
        ]
        counts: list[int] = []
        for count in spread(sign_part, jobs, engine):
            counts.append(count)
            self.step()
        return rows_by_file(pieces, counts)


@contextmanager
def scratch_at(
    folder: Path, plan: dict[str, Any], total: int, progress: Progress | None
) -> Iterator[SigningScratch]:
    """Open the work folder of exact and minhash; see `Workspace`."""
    workspace = Workspace(folder, plan)
    with workspace.resumed() as place:
        opened = SigningScratch(place, workspace.plan, total, progress)
        opened.state.mkdir(exist_ok=True)
        yield opened


def steps(options: DedupOptions, many: Sequence[Sequence[Piece]], against: bool) -> int:
    """How many steps a run has: a piece, a band, and the writing."""
    return sum(map(len, many)) + (options.n_bands or 0) * (2 if against else 1) + 1
