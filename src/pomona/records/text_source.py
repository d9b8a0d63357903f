"""JSON, CSV, TSV and text files as a source: types from the first rows, every row checked against
them, bad ones named by file and line.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import fs

from pomona.errors import LateTypesError, PomonaError
from pomona.files import atomic_file
from pomona.places import address
from pomona.records.column_types import (
    BATCH_ROWS,
    MisfitError,
    all_types,
    csv_column,
    in_parts,
    is_id,
    json_column,
    key_sign,
    natural_type,
    plain,
    unseen,
    widen,
)
from pomona.records.parsing import (
    REJECTED,
    Bad,
    Blank,
    ParsedRow,
    csv_head,
    csv_header,
    csv_lines,
    csv_rows,
    is_array,
    jsonl_lines,
    jsonl_rows,
    packs,
    plain_fields,
    rejected,
    rows_of,
)
from pomona.records.source import (
    Batches,
    Files,
    Filter,
    Ints,
    kept,
    no_column,
    notes_between,
    one_schema,
    parted_in,
    sample_notes,
    spelt_notes,
)
from pomona.records.store import (
    MARK,
    check_regular,
    format_of,
    info,
    is_marked,
    is_remote,
    line_blocks,
    lines,
    unfinished,
)
from pomona.records.writing import json_line
from pomona.workspace import disk_guard

SAMPLE_ROWS, SAMPLE_BYTES = 10_000, 16 << 20
_PARTED = "contents that are texts, read as lists of one part, as others are"
FILE_ROWS = 100
COMMAS = {"csv": ",", "tsv": "\t"}
OnBad = Callable[[str, Bad], None]


@dataclass(frozen=True)
class TextSource(Files):
    """Files of one text format. `chosen` says that the caller named the columns, so that other keys
    are passed over. `lines` is a column with the line that a row was, with its newline: of JSONL
    null where it is as we would write the row, of CSV with the header before the first.
    """

    kind: str
    chosen: bool
    on_bad: OnBad
    lines: str | None = field(default=None, kw_only=True)
    spelt: frozenset[str] = field(default=frozenset(), kw_only=True)  # ids with numbers as texts
    parted: frozenset[str] = field(default=frozenset(), kw_only=True)  # texts as parts: `in_parts`
    sampled: bool = field(default=False, kw_only=True)  # types are those of the first rows alone

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`."""
        for file in self.files:
            if self.kind in COMMAS:
                names = [name for name in self.schema.names if name != self.lines]
                _check_header(file, self.kind, names, self.chosen)
                told = self._csv(file, keep) if self.lines is None else self._csv_lines(file, keep)
                yield from told
            else:
                rows = self.parsed(file)
                if self.lines is not None:
                    rows = self._whole(file, jsonl_lines(lines(file)))
                yield from self._rows(file, rows, keep)

    def places(self, rows: Ints) -> Ints:
        """See `Files`. Also where malformed rows are left out."""
        if self.on_bad is not skip or not len(rows):
            return rows
        bad = set[int]()
        for _ in replace(self, on_bad=lambda _, row: bad.add(row.line)).stream([], None):
            pass
        every = enumerate(self.parsed(self.where))
        own = (place for place, row in every if row.line not in bad)
        return np.fromiter(itertools.islice(own, int(rows.max()) + 1), np.int64)[rows]

    def parsed(self, file: str) -> Iterator[ParsedRow | Bad]:
        """The rows of a file by themselves, malformed ones among them."""
        return (
            csv_rows(lines(file), comma=COMMAS[self.kind])
            if self.kind in COMMAS
            else rows_of(file, self.kind)
        )

    def _rows(self, file: str, rows: Iterator[ParsedRow | Bad], keep: Filter) -> Batches:
        for pack in packs(rows, partial(self.on_bad, file)):
            yield kept(self._batch(file, pack), keep)

    def _csv(self, file: str, keep: Filter) -> Batches:
        """Blocks of lines at once as long as nothing is quoted or wrong; from there row by row,
        which tells every mistake with its line.
        """
        comma, number, source = COMMAS[self.kind], 1, line_blocks(file)
        names = csv_header(lines(file), file, comma)
        for block in source:
            head, _, body = block.partition(b"\n") if number == 1 else (b"", b"", block)
            table = None if b'"' in head or b"\r" in head else self._plain(body, names)
            if table is None:
                rest = (
                    line for each in itertools.chain([block], source) for line in each.split(b"\n")
                )
                rows = csv_rows(rest, names if number > 1 else None, number, comma)
                yield from self._rows(file, rows, keep)
                return
            for batch in table.to_batches(BATCH_ROWS):
                yield kept(batch, keep)
            number += block.count(b"\n") + 1

    def _csv_lines(self, file: str, keep: Filter) -> Batches:
        """Row by row, the header with the first."""
        head = csv_head(lines(file)) + b"\n"
        yield from self._rows(file, self._whole(file, csv_lines(lines(file)), head), keep)

    def _whole(
        self, file: str, rows: Iterator[ParsedRow | Bad | Blank], head: bytes = b""
    ) -> Iterator[ParsedRow | Bad]:
        """Rows with all that stands between them: a mark of the byte order, of the first file
        alone, a header and blank lines before the row that follows, blank lines at the end behind
        the last, which lacks its newline where the file does.
        """
        passed = (MARK if file == self.files[0] and is_marked(file) else b"") + head
        held: ParsedRow | Bad | None = None
        for row in rows:
            if isinstance(row, Blank):
                passed += row.raw + b"\n"
                continue
            if held is not None:
                yield held
            held = row
            if isinstance(row, ParsedRow):
                held, passed = row._replace(raw=passed + row.raw), b""
        if isinstance(held, ParsedRow):
            end = b"\n" + passed
            held = held._replace(end=end[:-1] if unfinished(file) else end)
        if held is not None:
            yield held

    def _plain(self, block: bytes, names: Sequence[str]) -> pa.Table | None:
        if (fields := plain_fields(block, names, COMMAS[self.kind])) is None:
            return None
        for name in self.schema.names:
            if name not in names:
                fields = fields.append_column(name, pa.nulls(fields.num_rows, pa.string()))
        try:
            return fields.select(self.schema.names).cast(self.schema)
        except pa.ArrowException:  # which row it is, is told row by row
            return None

    def _batch(self, file: str, rows: list[ParsedRow]) -> pa.RecordBatch:
        try:
            return self._columns(rows)
        except MisfitError:
            # Row by row only now: a batch without mistakes is converted as a whole, much faster.
            good: list[ParsedRow] = []
            for row in rows:
                try:
                    self._columns([row])
                    good.append(row)
                except MisfitError as error:
                    self.on_bad(file, Bad(row.line, row.raw, str(error), error.late))
            return self._columns(good)

    def _columns(self, rows: list[ParsedRow]) -> pa.RecordBatch:
        names = self.schema.names
        if not self.chosen:
            known = set(names)
            for row in rows:
                if not row.values.keys() <= known:
                    unknown, first = min(row.values.keys() - known), f"first {SAMPLE_ROWS:,} rows"
                    told = MisfitError(f'column "{unknown}" is not among those of the {first}')
                    told.late = self.sampled
                    raise told
        build = csv_column if self.kind in COMMAS else json_column
        arrays: list[pa.Array] = []
        for column in self.schema:
            if column.name == self.lines:
                continue
            values = [row.values.get(column.name) for row in rows]
            if column.name in self.spelt:
                values = [str(one) if _is_whole(one) else one for one in values]
            if column.name in self.parted:
                values = [in_parts(one) for one in values]
            try:
                arrays.append(build(values, column.type))
            except MisfitError as error:
                told = MisfitError(f'column "{column.name}" {error}')
                wider = widen(column.type, natural_type(values))
                names = is_id(column.name) and {*map(type, values)} <= {int, str, type(None)}
                told.late = self.sampled and (names or wider not in (None, column.type))
                raise told from error
        if self.lines is not None:
            own = [name for name in names if name != self.lines]
            written = [{}] * len(rows)  # of CSV each line is kept
            if self.kind == "jsonl":
                written = pa.record_batch(arrays, own).to_pylist()
            odd = [
                None
                if one and json_line(one) == row.raw + row.end
                else (row.raw + row.end).decode()
                for one, row in zip(written, rows, strict=True)
            ]
            arrays.insert(names.index(self.lines), pa.array(odd, pa.string()))
        return pa.record_batch(arrays, schema=self.schema)


def open_text(files: Sequence[str], columns: Any, on_bad: OnBad) -> TextSource:
    """A source over JSONL or CSV files. Reads only the first rows, to learn columns and types.

    Raises:
        PomonaError: a file is empty, a named column is not there, or a CSV header is unusable.
    """
    kind, notes = format_of(files[0])[0], ()
    names = columns.names if isinstance(columns, pa.Schema) else columns
    spelt, parted, sampled = frozenset[str](), frozenset[str](), False
    if isinstance(columns, pa.Schema):
        schema = plain(columns)
    elif kind in COMMAS and names:
        schema = pa.schema([(name, pa.string()) for name in names])
    elif kind in COMMAS:
        heads = {file: csv_header(lines(file), file, COMMAS[kind]) for file in files}
        fields = {file: [(name, pa.string()) for name in head] for file, head in heads.items()}
        schema, notes = one_schema({file: pa.schema(own) for file, own in fields.items()})
    else:
        values, rows, sampled = _sampled(files, kind, on_bad)
        parted = parted_in(values)
        schema, spelt = _inferred(values, rows, names, files[0])
        notes = sample_notes(values, schema)
        notes += spelt_notes(spelt, notes)
        notes += tuple(f'column "{name}" has {_PARTED}' for name in sorted(parted))
    if kind in COMMAS:
        _check_header(files[0], kind, schema.names, names is not None)
    chosen = names is not None
    return TextSource(
        tuple(files),
        schema,
        files[0],
        kind,
        chosen,
        on_bad,
        spelt=spelt,
        parted=parted,
        sampled=sampled and kind == "jsonl",
        notes=notes,
    )


def with_all_types(source: TextSource) -> TextSource:
    """A source of JSONL with the columns and types that all rows need, where only the first were
    looked at, and what files have otherwise by all rows too. All are parsed once; those that are
    malformed stay so.
    """
    if not source.sampled:
        return source
    found, ids = {one.name: one.type for one in source.schema}, dict[str, set[type]]()
    schemas = dict[str, pa.Schema]()
    for file in source.files:
        own = dict[str, pa.DataType]()
        for pack in packs(rows_of(file, source.kind), lambda _: None):
            rows = [row.values for row in pack]
            for name in source.parted:
                rows = [{**row, name: in_parts(row[name])} if name in row else row for row in rows]
            if source.chosen:
                rows = [{name: row[name] for name in found if name in row} for row in rows]
            own = all_types(own, rows)
            for name in filter(is_id, own):
                ids.setdefault(name, set()).update(type(row.get(name)) for row in rows)
        schemas[file] = pa.schema(list(own.items()))
        for name, kind in own.items():
            found[name] = widen(found.get(name, pa.null()), kind) or found[name]
    spelt = frozenset(name for name, kinds in ids.items() if {int, str} <= kinds)
    found |= dict.fromkeys(spelt, pa.string())
    schema = pa.schema(list(found.items()))
    notes = notes_between(schemas, schema) if len(schemas) > 1 else ()
    notes += spelt_notes(spelt, notes)
    notes += tuple(note for note in source.notes if note.endswith(_PARTED))
    return replace(source, schema=schema, spelt=spelt, sampled=False, notes=notes)


def with_late_types(source: TextSource) -> TextSource:
    """A source of JSONL whose columns that were null in all of the first rows, or have fields or
    lists of which nothing else was seen, have the type of the values that come later.
    """
    found = {one.name: one.type for one in source.schema if unseen(one.name, one.type)}
    if source.kind != "jsonl" or any(map(is_array, source.files)):
        return source
    whole = {name for name, kind in found.items() if pa.types.is_null(kind)}
    for file in source.files if found else ():
        for block in line_blocks(file):
            signs = [sign for name, kind in found.items() for sign in unseen(name, kind)]
            # Whole numbers may be followed by others.
            signs += [key_sign(name, False) for name in whole if found[name] == pa.int64()]
            if not signs or not re.search(b"|".join(signs), block):
                continue
            parsed = jsonl_rows(block.split(b"\n"))
            rows = [one.values for one in parsed if isinstance(one, ParsedRow)]
            for name, kind in [*found.items()]:
                values = [row.get(name) for row in rows]
                values = [in_parts(one) for one in values] if name in source.parted else values
                found[name] = widen(kind, natural_type(values)) or kind
    fields = [pa.field(one.name, found.get(one.name, one.type)) for one in source.schema]
    return replace(source, schema=pa.schema(fields))


def stop(file: str, bad: Bad) -> None:
    """Refuse a malformed row. Raises PomonaError with file and line."""
    unit = "element" if is_array(file) else "line"
    where = f"{file}, {unit} {bad.line}"
    if bad.late:
        remedy = (
            "in Python, read in a block `with pomona.records.types_of_all_rows():`, or give "
            "columns=pyarrow.schema(...)"
        )
        raise LateTypesError(bad.reason, where=where, remedy=remedy)
    remedy = "fix the line, or have such rows left out: --on-error drop, or reject to a file"
    if bad.reason.startswith("column "):
        remedy += "; in Python, columns=pyarrow.schema(...) says what is read, and as which types"
    if unit == "element":
        remedy = remedy.replace("fix the line", "fix it")
    raise PomonaError(bad.reason, where=where, remedy=remedy)


def skip(file: str, bad: Bad) -> None:
    """Pass over a row that is left out, counted and perhaps in the file of rejects."""


def set_aside(source: TextSource, rejects: str | Path | None) -> int:
    """Read `source` once and write its malformed rows to the JSONL file `rejects`, whole or not at
    all. Returns how many there are.
    """
    bad: Counter[str] = Counter()
    if rejects is None:
        for _ in replace(source, on_bad=lambda file, _: bad.update([file])).stream([], None):
            pass
        return bad.total()
    with (
        disk_guard(str(rejects)),
        atomic_file(rejects) as partial,
        partial.open("w", encoding="utf-8") as out,
    ):

        def note(file: str, row: Bad) -> None:
            bad[file] += 1
            out.write(rejected(file, row) + "\n")

        for _ in replace(source, on_bad=note).stream([], None):
            pass
    return bad.total()


def check_rejects(rejects: str | Path) -> None:
    """Raise PomonaError when `rejects` is on S3, or a file that is there and holds no rejects."""
    uri = address(rejects)
    if is_remote(uri):
        remedy = "name a file on this machine, then copy it"
        raise PomonaError("rejects are written to local files", where=uri, remedy=remedy)
    if info(uri).type == fs.FileType.NotFound:
        return
    check_regular(uri)
    first = next(jsonl_rows(lines(uri)), None) if Path(uri).is_file() else Bad(1, b"", "")
    if first is not None and (isinstance(first, Bad) or list(first.values) != REJECTED):
        remedy = "name a new file"
        raise PomonaError("is no file of rejects, and would be replaced", where=uri, remedy=remedy)


def _sampled(
    files: Sequence[str], kind: str, on_bad: OnBad
) -> tuple[dict[str, dict[str, list[Any]]], int, bool]:
    """What the first rows say by file and column: of all files together SAMPLE_ROWS, or what makes
    SAMPLE_BYTES, and of each of those that are left FILE_ROWS, or its share of as many bytes. And
    how many rows these are, and whether there may be more.
    """
    more = False
    found: dict[str, dict[str, list[Any]]] = {}
    rows_left, bytes_left, rows = SAMPLE_ROWS, SAMPLE_BYTES, 0
    for file in files:
        few = rows_left <= 0 or bytes_left <= 0
        most, size = (FILE_ROWS, SAMPLE_BYTES // len(files)) if few else (rows_left, bytes_left)
        values = found.setdefault(file, {})
        for number, row in enumerate(rows_of(file, kind)):
            if number == most or size <= 0:
                more = True
                break
            rows_left -= 1
            if isinstance(row, Bad):
                on_bad(file, row)
                continue
            for name, value in row.values.items():
                values.setdefault(name, []).append(value)
            size, bytes_left, rows = size - len(row.raw), bytes_left - len(row.raw), rows + 1
    return found, rows, more


def _inferred(
    sample: Mapping[str, Mapping[str, list[Any]]],
    rows: int,
    names: Sequence[str] | None,
    first: str,
) -> tuple[pa.Schema, frozenset[str]]:
    """The columns of the first rows, and those of ids that are numbers in some rows and texts in
    others.
    """
    values: dict[str, list[Any]] = {}
    for found in sample.values():
        for name, some in found.items():
            values.setdefault(name, []).extend(some)
    if not values:
        message = "the records have no keys" if rows else "the file holds no records"
        raise PomonaError(message, where=first, remedy="check how it was written")
    for name in names or ():
        if name not in values:
            raise no_column(name, values, first)
    spelt = frozenset(
        name
        for name, some in values.items()
        if is_id(name) and any(map(_is_whole, some)) and any(isinstance(one, str) for one in some)
    )
    types = {
        name: pa.string() if name in spelt else natural_type(values[name])
        for name in names or values
    }
    return pa.schema(list(types.items())), spelt


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_header(file: str, kind: str, names: Sequence[str], chosen: bool) -> None:
    head = csv_header(lines(file), file, COMMAS[kind])
    for name in names:
        if chosen and name not in head:
            raise no_column(name, head, file)
    extra = [name for name in head if name not in names]
    if extra and not chosen:
        message = f'column "{extra[0]}" was not there when the files were opened'
        remedy = "run again once nothing writes to it"
        raise PomonaError(message, where=file, remedy=remedy)
