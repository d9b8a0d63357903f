"""Work folders of operations on data, and results that come in pairs: where a run works, what its
inputs were like when it began, and rows written together with the evidence about them.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from pomona.errors import PomonaError
from pomona.files import atomic_file
from pomona.records import Records, info, is_remote, write


def stamps(records: Records) -> list[Any]:
    """Name, size and time of every file; something new each time for tables in memory."""
    files = []
    for part in records.source.parts():
        name = part.where
        what = info(name)
        if what.type != fs.FileType.File:
            return [uuid.uuid4().hex]
        files.append(
            [name if is_remote(name) else str(Path(name).resolve()), what.size, what.mtime_ns]
        )
    return [
        *files,
        [
            [column, values if isinstance(values, str) else values.to_pylist()]
            for column, values in records.filters
        ],
        records.limit,
    ]


@contextmanager
def work_at(out: str | Path, work: str | Path | None, dry_run: bool) -> Iterator[Path]:
    """The work folder: `work`, or a hidden one beside `out`; for a dry run a temporary one."""
    if work is not None or not dry_run:
        name = Path(str(out).rpartition("/")[2] if is_remote(str(out)) else out)
        yield Path(work) if work is not None else name.with_name(f".{name.name}.work")
        return
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        yield Path(folder) / "work"


def write_with(evidence: Records | pa.Table, place: str, rows: Records, out: str | Path) -> None:
    """Write `evidence` to `place` and `rows` to `out`. When either fails, both files are as they
    were (on S3, `out` is).
    """
    if is_remote(place):
        write(evidence, place)
        write(rows, out)
        return
    with atomic_file(place) as partial:
        try:
            write(evidence, partial, format="parquet")
        except PomonaError as error:
            error.where = place
            raise
        write(rows, out)
