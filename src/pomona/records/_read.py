"""`read`: find the files, tell the format, open the source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pyarrow import fs

from pomona.errors import PomonaError
from pomona.records._engine import check
from pomona.records._folder import shards
from pomona.records._parquet import open_arrow, open_parquet
from pomona.records._records import Records
from pomona.records._source import Recast, Source, TableSource
from pomona.records._store import expand, format_of, info, is_remote, missing
from pomona.records._tables import TABLES
from pomona.records._text import open_text, set_aside, skip, stop
from pomona.records._types import plain
from pomona.workspace import disk_guard

_OPENERS: dict[str, Callable[[Sequence[str]], Source]] = {
    "parquet": open_parquet,
    "arrow": open_arrow,
}
Where = str | Path | Sequence[str | Path] | pa.Table


def read(
    source: Where,
    *,
    columns: Sequence[str] | pa.Schema | None = None,
    on_error: Literal["stop", "reject"] = "stop",
    rejects: str | Path | None = None,
    engine: str | None = None,
) -> Records:
    """Describe a table; rows are read when they are asked for.

    `source` is a path, a glob, a list of them, "ui" (the embedded table; a file of that name goes
    before it), a folder (a Hugging Face dataset or shards of one format; of several splits
    `train`), an `s3://` address of any of these, or a table. JSONL takes its columns and types from
    the first 10,000 rows, CSV columns are strings; `columns` names the ones to read, and as a
    `pyarrow.Schema` also sets their types. A key that a JSONL row does not have is null.
    A malformed JSONL or CSV row stops the reading when it is met. With `on_error="reject"` the
    source is read through once, at this call, and such rows go to the JSONL file `rejects` (file,
    line, reason, text, and base64 of bytes that are not UTF-8).

    Raises:
        PomonaError: a file is missing, empty, damaged or of an unknown format, a column is missing,
            or a row is malformed.
        ResourceError: the disk filled up while the rejects were written.
    """
    name = check(engine)
    if on_error not in ("stop", "reject"):
        raise PomonaError(f'on_error is "{on_error}"', remedy='use "stop" or "reject"')
    if (on_error == "reject") != (rejects is not None):
        raise PomonaError(
            'on_error="reject" and rejects=FILE go together', remedy="give both, or neither"
        )
    if isinstance(source, pa.Table):
        return _typed(TableSource(source), columns, name)
    files = _files(source)
    kind = _one_format(files)
    if opener := _OPENERS.get(kind):
        return _typed(opener(files), columns, name)
    text = open_text(files, columns, stop if rejects is None else skip)
    if rejects is None:
        return Records._of(text, name)
    with disk_guard(str(rejects)):
        return Records._of(text, name, set_aside(text, rejects))


def _typed(source: Source, columns: Any, engine: str) -> Records:
    records = Records._of(source, engine)
    if columns is None:
        return records
    if not isinstance(columns, pa.Schema):
        return records.select(*columns)
    records.require(*columns.names)
    wanted = plain(columns)
    same = records.select(*wanted.names)
    return same if same.schema.equals(wanted) else Records._of(Recast(source, wanted), engine)


def _files(source: Any) -> list[str]:
    if isinstance(source, str | Path):
        return _found(str(source))
    if not isinstance(source, Sequence) or not source:
        raise PomonaError(
            f"cannot read from {source!r}",
            remedy="give a path, a glob, a list of paths, or a pyarrow.Table",
        )
    return [file for item in source for file in _files(item)]


def _found(uri: str) -> list[str]:
    if "://" in uri and not is_remote(uri):
        raise PomonaError(
            "unknown kind of address", where=uri, remedy="use a local path or s3://BUCKET/KEY"
        )
    what = info(uri)
    if what.type == fs.FileType.Directory:
        return shards(uri.rstrip("/"))
    if what.type == fs.FileType.File:
        if what.size == 0:
            raise PomonaError("the file is empty", where=uri, remedy="check how it was written")
        return [uri]
    if any(sign in uri for sign in "*?["):
        return expand(uri)
    if uri in TABLES:
        return [str(TABLES[uri])]
    raise missing(uri)


def _one_format(files: Sequence[str]) -> str:
    kinds = {uri: format_of(uri)[0] for uri in files}
    for uri, kind in kinds.items():
        if kind != kinds[files[0]]:
            raise PomonaError(
                f"is {kind} while {files[0]} is {kinds[files[0]]}",
                where=uri,
                remedy="read each format by itself",
            )
    return kinds[files[0]]
