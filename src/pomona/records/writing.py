"""`write`: Parquet, JSONL or CSV, whole or not at all."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from pomona.errors import PomonaError
from pomona.files import atomic_file
from pomona.places import address
from pomona.records.parsing import ParsedRow, csv_rows, jsonl_rows
from pomona.records.store import BLOCK, COMPRESSIONS, MARK, format_of, is_remote, locate
from pomona.workspace import disk_guard


class WritableRows(Protocol):
    """What is written: records, which import this module."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    def batches(self, rows: int = ...) -> Iterator[pa.RecordBatch]:
        """The rows, so many at a time."""
        ...


def write_rows(rows: WritableRows, path: str | Path, format: str | None) -> Path:
    """See `pomona.records.write`."""
    uri = address(path)
    with disk_guard(_by_way_of(uri)), _destination(uri) as partial:
        write_partial(rows, partial, uri, format)
    return Path(path)


def write_partial(
    rows: WritableRows,
    partial: Path,
    uri: str,
    format: str | None = None,
    lines: str | None = None,
) -> None:
    """Write to `partial` what will be `uri`, in its format and compression. `lines`: a column of
    lines of that format; one that says the same as the rest of its row is taken as it is.
    """
    kind = format or format_of(uri)[0]
    check_writable(uri, kind)
    check_types(rows.schema, kind, uri)
    compression = COMPRESSIONS.get(Path(uri).suffix.lower())
    with disk_guard(_by_way_of(uri)):
        if kind == "jsonl" and lines is not None:
            _write_jsonl(rows, partial, compression, lines)
        elif kind == "csv" and lines is not None:
            _write_csv_lines(rows, partial, compression, lines)
        else:
            _WRITERS[kind](rows, partial, compression)


def check_writable(uri: str, kind: str | None = None) -> None:
    """Raise PomonaError for a format or a compression that is not written."""
    kind = kind or format_of(uri)[0]
    if kind not in _WRITERS:
        remedy = f"choose one of: {', '.join(_WRITERS)}"
        raise PomonaError(f"cannot write {kind}", where=uri, remedy=remedy)
    packed = COMPRESSIONS.get(Path(uri).suffix.lower())
    if packed not in (None, "gzip", "zstd"):
        raise PomonaError(f"cannot write {packed}", where=uri, remedy="choose .gz or .zst")


def _by_way_of(uri: str) -> str:
    return f"{uri} (by way of {tempfile.gettempdir()})" if is_remote(uri) else uri


@contextmanager
def _destination(uri: str) -> Iterator[Path]:
    if not is_remote(uri):
        with atomic_file(uri) as partial:
            yield partial
        return
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        staged = Path(folder) / "staged"
        yield staged
        upload(staged, uri)


def upload(file: Path, uri: str) -> None:
    """Send a local file to an s3:// address, where it appears whole or not at all."""
    store, key = locate(uri)
    with file.open("rb") as whole, store.open_output_stream(key, compression=None) as out:
        while block := whole.read(BLOCK):
            out.write(block)


@contextmanager
def _sink(path: Path, compression: str | None) -> Iterator[pa.NativeFile]:
    """Both ends of a compressed stream are closed, even when the disk is full and the compressor
    cannot flush.
    """
    with pa.OSFile(str(path), "wb") as raw:
        if compression is None:
            yield raw
            return
        with pa.CompressedOutputStream(raw, compression) as packed:
            yield packed


def _write_parquet(rows: WritableRows, path: Path, compression: str | None) -> None:
    with (
        pa.OSFile(str(path), "wb") as sink,
        pq.ParquetWriter(sink, rows.schema, compression="zstd") as writer,
    ):
        for batch in rows.batches(1 << 14):
            writer.write_batch(batch)


def _write_csv(rows: WritableRows, path: Path, compression: str | None) -> None:
    with _sink(path, compression) as sink, pc.CSVWriter(sink, rows.schema) as writer:
        for batch in rows.batches():
            writer.write_batch(batch)


def _write_csv_lines(rows: WritableRows, path: Path, compression: str | None, lines: str) -> None:
    names = [name for name in rows.schema.names if name != lines]
    header = _csv_bytes(rows.schema.empty_table().select(names), header=True)
    ended = True
    with _sink(path, compression) as sink:
        for batch in rows.batches():
            rest = batch.select(names)
            for at, (row, told) in enumerate(
                zip(rest.to_pylist(), batch[lines].to_pylist(), strict=True)
            ):
                head, line = _csv_told(told or "", row)
                if header:
                    sink.write(head if head.strip() else header)
                    header = b""
                elif not head.strip():
                    sink.write(head)
                line = line or _csv_bytes(pa.Table.from_batches([rest.slice(at, 1)]))
                sink.write(line if ended else b"\n" + line)
                ended = line.endswith(b"\n")
        sink.write(header)


def _csv_told(told: str, row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The header and the record of a line, empty where there is none, or it says another row."""
    names, text = list(row), told.encode()
    mark = MARK if text.startswith(MARK) else b""
    text = text.removeprefix(mark)
    parsed = list(csv_rows(text.removesuffix(b"\n").split(b"\n"), names))
    found = [one for one in parsed if isinstance(one, ParsedRow)]
    whole = len(found) == len(parsed) and 0 < len(found) < 3
    if not whole or found[-1].values != row:
        return b"", b""
    if len(found) == 2 and list(found[0].values.values()) != names:
        return b"", b""
    at = text.rindex(found[-1].raw)  # blank lines may be behind it
    return mark + text[:at], text[at:]


def _csv_bytes(table: pa.Table, *, header: bool = False) -> bytes:
    sink = pa.BufferOutputStream()
    pc.write_csv(table, sink, pc.WriteOptions(include_header=header))
    return sink.getvalue().to_pybytes()


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSONL. Raises ValueError for NaN and infinity."""
    return _ENCODER.encode(row).encode() + b"\n"


def _write_jsonl(
    rows: WritableRows, path: Path, compression: str | None, lines: str | None = None
) -> None:
    done, ended = 0, True
    with _sink(path, compression) as sink:
        for batch in rows.batches():
            for row in batch.to_pylist():
                done += 1
                told = None if lines is None else row.pop(lines, None)
                try:
                    line = told.encode() if told and _says(told, row) else json_line(row)
                    line = line if done == 1 else line.removeprefix(MARK)
                except ValueError as error:
                    column = next(name for name, value in row.items() if not _finite(value))
                    message = f'row {done}, column "{column}": NaN and infinity have no JSON form'
                    remedy = "write Parquet, or replace them with null"
                    raise PomonaError(message, remedy=remedy) from error
                sink.write(line if ended else b"\n" + line)
                ended = line.endswith(b"\n")


def _says(line: str, row: Mapping[str, Any]) -> bool:
    """Whether a line says what the row does. Keys that it lacks are null."""
    told = next(jsonl_rows([line.encode().removeprefix(MARK).strip()]), None)
    return isinstance(told, ParsedRow) and _equal(told.values, row)


def _equal(told: Any, value: Any) -> bool:
    if isinstance(value, Mapping):
        if not isinstance(told, Mapping) or not told.keys() <= value.keys():
            return False
        return all(_equal(told.get(key), one) for key, one in value.items())
    if isinstance(value, list):
        several = isinstance(told, list) and len(told) == len(value)
        return several and all(map(_equal, told, value))
    return told == value and isinstance(told, bool) == isinstance(value, bool)


def _finite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(_finite(item) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


_WRITERS = {"parquet": _write_parquet, "jsonl": _write_jsonl, "csv": _write_csv}


def check_types(schema: pa.Schema, kind: str, uri: str) -> None:
    """Raise PomonaError naming the first column whose type has no place in the format `kind`."""
    for field in schema:
        if not _fits(field.type, kind):
            held = f'column "{field.name}" is {field.type}'
            remedy = "write Parquet, or turn the column into strings first"
            message = f"{held}, which {kind} cannot hold and give back"
            raise PomonaError(message, where=uri, remedy=remedy)


_SIMPLE = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
)


def _fits(kind: pa.DataType, form: str) -> bool:
    test = pa.types
    if form == "parquet":
        return not test.is_struct(kind) or kind.num_fields > 0
    simple = any(is_kind(kind) for is_kind in _SIMPLE)
    if form == "csv":
        return simple or test.is_temporal(kind) or test.is_decimal(kind)
    if test.is_struct(kind):
        return all(_fits(field.type, form) for field in kind)
    return simple or (test.is_list(kind) and _fits(kind.value_type, form))
