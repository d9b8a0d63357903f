"""Records in pieces that jobs read side by side: files, and of big ones row groups (Parquet) or
runs of lines (JSONL).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from pomona.errors import row_of
from pomona.records.engines import check_engine, spread
from pomona.records.parquet import ParquetSource
from pomona.records.parsing import Bad, ParsedRow, is_array, jsonl_rows, packs
from pomona.records.records import Records
from pomona.records.source import Batches, Filter, Keyed, Source, kept
from pomona.records.store import LONGEST, MARK, format_of, info, is_remote, readable, unreadable
from pomona.records.text_source import TextSource
from pomona.records.texts import TextRows

PIECE_BYTES = 64 << 20


@dataclass(frozen=True)
class Piece:
    """The rows of one job: `records`, which begin at row `first` (from 0) of the file `where`."""

    records: Records
    where: str
    first: int

    def row_name(self, index: int) -> str:
        """How errors name a row of the piece, see `Records.row_name`."""
        ((where, row),) = self.records.origins([index])
        return row_of(where, self.first + row)


def split(records: Records) -> list[Piece]:
    """The rows of `records` in pieces, in order: the same pieces at every call as long as the files
    stay as they are.

    A Parquet file of more than `PIECE_BYTES` is cut between row groups, plain local JSONL between
    lines (it is read through once for that, without being parsed). Tables in memory and the first
    rows only (`head`) are one piece; filtered files are not cut.

    Raises PomonaError when a file cannot be read.
    """
    if records.limit is not None:
        return [Piece(replace(records, engine="native"), records.source.where, 0)]
    return [piece for source in records.source.parts() for piece in _pieces(records, source)]


def parallel(
    pieces: Sequence[Piece], columns: Sequence[str], engine: str | None
) -> Iterator[tuple[Piece, Iterable[pa.RecordBatch]]]:
    """Each piece and its rows with `columns`, in order: streamed here, or each read whole by a
    worker of the cluster.

    Raises PomonaError when a file is damaged or a row malformed.
    """
    jobs = [replace(piece, records=piece.records.select(*columns)) for piece in pieces]
    if check_engine(engine) == "native" or len(jobs) == 1:
        yield from ((piece, piece.records.stream()) for piece in jobs)
        return
    for piece, table in zip(jobs, spread(_read, jobs, engine), strict=True):
        yield piece, table.to_batches()


def rows_by_file(pieces: Iterable[Piece], rows: Iterable[int]) -> list[tuple[str, int]]:
    """Every file and its rows, from the rows of its pieces."""
    files: list[tuple[str, int]] = []
    for piece, count in zip(pieces, rows, strict=True):
        if piece.first and files:
            count += files.pop()[1]
        files.append((piece.where, count))
    return files


def _read(piece: Piece) -> pa.Table:
    return piece.records.to_table()


def _pieces(records: Records, source: Source) -> list[Piece]:
    if isinstance(source, TextRows | Keyed):
        return [
            replace(piece, records=_again(piece, source))
            for piece in _pieces(records, source.source)
        ]
    cuts: list[tuple[Source, int]] = [(source, 0)]
    whole = not records.filters and type(source) in (ParquetSource, TextSource)
    if whole and (info(source.where).size or 0) > PIECE_BYTES:
        if isinstance(source, ParquetSource):
            cuts = list(_row_groups(source))
        elif isinstance(source, TextSource) and source.kind == "jsonl" and _plain(source.where):
            cuts = list(_runs(source))
    return [
        Piece(replace(records, source=part, engine="native"), source.where, first)
        for part, first in cuts
    ]


def _again(piece: Piece, above: TextRows | Keyed) -> Records:
    """The rows of a piece with the columns that are made of them."""
    source = replace(above, source=piece.records.source)
    if isinstance(source, TextRows):
        source = replace(source, first=source.first + piece.first)
    return replace(piece.records, source=source)


@dataclass(frozen=True)
class _RowGroups(ParquetSource):
    """Some row groups of one Parquet file."""

    groups: tuple[int, ...]

    def parts(self) -> Sequence[_RowGroups]:
        """See `Source`."""
        return [self]

    def fragment(self, file: str) -> ds.Fragment:
        """The row groups of this piece."""
        whole = super().fragment(file)
        try:
            return whole.subset(row_group_ids=list(self.groups))
        except (IndexError, OSError, pa.ArrowException) as error:
            raise unreadable(file, error) from error

    def _count(self, file: str, keep: Filter) -> int:
        # Arrow would count the whole file.
        return sum(batch.num_rows for batch in self.stream(self.schema.names[:1], keep))


def _row_groups(source: ParquetSource) -> Iterator[tuple[_RowGroups, int]]:
    """Runs of row groups, each of about PIECE_BYTES when decompressed, and the row at which each
    begins.
    """
    of = (source.files, source.schema, source.first)
    held: list[int] = []
    size = rows = first = 0
    for group in source.fragment(source.where).row_groups:
        held.append(group.id)
        size, rows = size + group.total_byte_size, rows + group.num_rows
        if size >= PIECE_BYTES:
            yield _RowGroups(*of, tuple(held), before=first), first
            held, size, first = [], 0, rows
    if held or not rows:
        yield _RowGroups(*of, tuple(held), before=first), first


@dataclass(frozen=True)
class _LineRange(TextSource):
    """The bytes `start` … `stop` of one JSONL file, whole lines, of which `before` come before
    them.
    """

    start: int
    stop: int
    before: int

    def parts(self) -> Sequence[_LineRange]:
        """See `Source`."""
        return [self]

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """Batches of these lines. Raises PomonaError for a malformed row, naming its line in the
        file.
        """
        file = self.files[0]
        for rows in packs(self.parsed(file), lambda bad: self.on_bad(file, bad)):
            yield kept(self._batch(file, rows), keep)

    def parsed(self, file: str) -> Iterator[ParsedRow | Bad]:
        """See `TextSource`."""
        lines = (line.removesuffix(b"\n") for _, line in _lines(file, self.start, self.stop))
        return (row._replace(line=row.line + self.before) for row in jsonl_rows(lines))


def _runs(source: TextSource) -> Iterator[tuple[_LineRange, int]]:
    """Runs of lines of about PIECE_BYTES, and the row at which each begins: lines with nothing on
    them are no rows.
    """
    start = stop = lines = rows = before = first = 0
    of = (source.files, source.schema, source.first, source.kind, source.chosen, source.on_bad)
    own: dict[str, Any] = {"spelt": source.spelt, "parted": source.parted}
    for stop, line in _lines(source.where, 0, None):
        lines, rows = lines + 1, rows + bool(line.strip())
        if stop - start >= PIECE_BYTES:
            yield _LineRange(*of, start, stop, before, **own), first
            start, before, first = stop, lines, rows
    if stop > start or not stop:
        yield _LineRange(*of, start, stop, before, **own), first


def _lines(file: str, at: int, stop: int | None) -> Iterator[tuple[int, bytes]]:
    """Lines from byte `at` on, each with the byte at which the next begins; a byte-order mark is
    left out.
    """
    with readable(file), Path(file).open("rb") as handle:
        handle.seek(at)
        while line := handle.readline(LONGEST + len(MARK) + 2):
            if stop is not None and at >= stop:
                return
            text, at = line if at else line.removeprefix(MARK), at + len(line)
            while not line.endswith(b"\n") and (line := handle.readline(LONGEST)):
                at += len(line)  # the rest of a line that is too long to be kept
            yield at, text


def _plain(file: str) -> bool:
    return not is_remote(file) and format_of(file)[1] is None and not is_array(file)
