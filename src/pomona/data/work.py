"""Work folders of operations on data, and results that come in pairs: where a run works, what its
inputs were like when it began, and its results.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.places import Where, address
from pomona.records import Records, Results, check_writable, format_of, info, is_remote, notes_of


def noted(note: Path, **kinds: type) -> dict[str, Any] | None:
    """What a note of unfinished work says, where each key has a value of its kind and no number is
    below 0. None where there is no such note, or it is damaged: that work is then done again.
    """
    try:
        said = read_json(note)
    except PomonaError:
        return None
    values = [(said.get(name), kind) for name, kind in kinds.items()]
    whole = all(type(value) is kind and (kind is not int or value >= 0) for value, kind in values)
    return said if whole else None


def stamps(records: Records) -> list[Any]:
    """Name, size and time of every file; something new each time for tables in memory."""
    files = _files(records)
    if files is None:
        return [uuid.uuid4().hex]
    return [
        *files,
        [
            [column, values if isinstance(values, str) else values.to_pylist()]
            for column, values in records.filters
        ],
        records.limit,
    ]


def _files(records: Records) -> list[list[Any]] | None:
    """Name, size and time of every file; None for tables in memory."""
    files: list[list[Any]] = []
    for part in records.source.parts():
        name = part.where
        what = info(name)
        if what.type != fs.FileType.File:
            return None
        files.append(
            [name if is_remote(name) else str(Path(name).resolve()), what.size, what.mtime_ns]
        )
    return files


def results_of(
    read: Sequence[Records | None],
    files: Mapping[str, Where | None],
    *,
    inputs: Sequence[Where] = (),
    dry_run: bool,
    **folders: Where | None,
) -> Results:
    """The results of an operation that reads these records (None is left out) and `inputs`, with
    the folders it works in; nothing is published when a file has changed meanwhile.
    """
    for where in files.values():
        if where is not None:
            check_writable(address(where))
    tables = [records for records in read if records is not None]
    read_from = [name for records in tables for name in records.paths]
    rejects = {
        f"the rejects of table {place}": records.rejects for place, records in enumerate(tables, 1)
    }
    return Results(
        files,
        inputs=[*read_from, *inputs],
        stamps=lambda: [_files(records) for records in tables],
        folders={**folders, **rejects},
        notes=[note for records in tables for note in notes_of(records.source)],
        dry_run=dry_run,
    )


_LINE = "line of the input"


def write_kept(
    results: Results, out: Where, records: Records, kept: Callable[[Records], Records]
) -> None:
    """Write the result "out", the rows of `records` that `kept` leaves: lines of JSONL that have
    objects in them as they were, where the result is JSONL too, without keys that others have.
    """
    nested = any(pa.types.is_nested(field.type) for field in records.schema)
    if nested and format_of(address(out))[0] == "jsonl" and _LINE not in records.column_names:
        records = records.with_lines(_LINE)
    lines = _LINE if _LINE in records.column_names else None
    results.write("out", kept(records), lines=lines)


def work_of(out: str | Path, work: str | Path | None) -> Path:
    """The work folder: `work`, or a hidden one beside `out`."""
    if work is not None:
        return Path(work)
    name = Path(str(out).rpartition("/")[2] if is_remote(out) else out)
    return name.with_name(f".{name.name}.work")


@contextmanager
def work_at(out: str | Path, work: str | Path | None, dry_run: bool) -> Iterator[Path]:
    """The work folder: `work`, or a hidden one beside `out`; for a dry run a temporary one."""
    if work is not None or not dry_run:
        yield work_of(out, work)
        return
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        yield Path(folder) / "work"
