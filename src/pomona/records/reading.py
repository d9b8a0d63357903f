"""`read`: find the files (in folders too: shards, and Hugging Face datasets as they are saved or
lie on the hub), tell the format, open the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
from pyarrow import fs

from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.records.column_types import plain
from pomona.records.engines import check_engine
from pomona.records.parquet import open_arrow, open_parquet
from pomona.records.records import Records
from pomona.records.source import Recast, Source, TableSource
from pomona.records.store import (
    FORMATS,
    blocks,
    children,
    expand,
    format_of,
    info,
    is_remote,
    missing,
)
from pomona.records.text_source import open_text, set_aside, skip, stop

_OPENERS: dict[str, Callable[[Sequence[str]], Source]] = {
    "parquet": open_parquet,
    "arrow": open_arrow,
}
TABLES = {"ui": Path(__file__).parents[1] / "assets" / "ui" / "ui.parquet"}  # of the package
_SPLIT = re.compile(
    r"(?:^|[-_.])(train|test|validation|valid|val|dev|eval)(?=[-_.])|^([\w.]+)-\d{5}-of-\d{5}"
)
_NOTES = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}
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
    name = check_engine(engine)
    if on_error not in ("stop", "reject"):
        raise PomonaError(f'on_error is "{on_error}"', remedy='use "stop" or "reject"')
    if (on_error == "reject") != (rejects is not None):
        message = 'on_error="reject" and rejects=FILE go together'
        raise PomonaError(message, remedy="give both, or neither")
    if isinstance(source, pa.Table):
        return _typed(TableSource(source), columns, name)
    files = _files(source)
    kind = _one_format(files)
    if opener := _OPENERS.get(kind):
        return _typed(opener(files), columns, name)
    text = open_text(files, columns, stop if rejects is None else skip)
    return Records.of(text, name, 0 if rejects is None else set_aside(text, rejects))


def _typed(source: Source, columns: Any, engine: str) -> Records:
    records = Records.of(source, engine)
    if columns is None:
        return records
    if not isinstance(columns, pa.Schema):
        return records.select(*columns)
    records.require(*columns.names)
    wanted = plain(columns)
    same = records.select(*wanted.names)
    return same if same.schema.equals(wanted) else Records.of(Recast(source, wanted), engine)


def _files(source: Any) -> list[str]:
    if isinstance(source, str | Path):
        return _at(str(source))
    if not isinstance(source, Sequence) or not source:
        remedy = "give a path, a glob, a list of paths, or a pyarrow.Table"
        raise PomonaError(f"cannot read from {source!r}", remedy=remedy)
    return [file for item in source for file in _files(item)]


def _at(uri: str) -> list[str]:
    if "://" in uri and not is_remote(uri):
        remedy = "use a local path or s3://BUCKET/KEY"
        raise PomonaError("unknown kind of address", where=uri, remedy=remedy)
    what = info(uri)
    if what.type == fs.FileType.Directory:
        return _shards(uri.rstrip("/"))
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
            message = f"is {kind} while {files[0]} is {kinds[files[0]]}"
            remedy = "read each format by itself"
            raise PomonaError(message, where=uri, remedy=remedy)
    return kinds[files[0]]


def _shards(folder: str) -> list[str]:
    """The files of the table in `folder`, in order; of several splits, `train`.

    Raises:
        PomonaError: there is no table, no `train` among several splits, or files of several
            formats.
    """
    inside = children(folder)
    names = {PurePosixPath(uri).name: uri for uri in inside}
    if "dataset_dict.json" in names:
        splits = _note(names["dataset_dict.json"])["splits"]
        return _shards(f"{folder}/{_chosen(splits, folder, f'{folder}/SPLIT')}")
    if "state.json" in names:
        entries = _note(names["state.json"])["_data_files"]
        return [f"{folder}/{entry['filename']}" for entry in entries]
    tables = _tables(inside) or _tables(children(f"{folder}/data"))
    if not tables:
        remedy = "expected Parquet, JSONL or CSV files, or a dataset saved to disk"
        raise PomonaError("the folder holds no table", where=folder, remedy=remedy)
    return _one_split(tables, folder)


def _tables(files: list[str]) -> list[str]:
    return [
        uri
        for uri in files
        if PurePosixPath(uri).name not in _NOTES
        and any(s in FORMATS for s in PurePosixPath(uri).suffixes)
    ]


def _one_split(files: list[str], folder: str) -> list[str]:
    kinds = sorted({format_of(uri)[0] for uri in files})
    if len(kinds) > 1:
        message = f"the folder mixes {' and '.join(kinds)} files"
        remedy = f"name one kind: {folder}/*.{kinds[0]}"
        raise PomonaError(message, where=folder, remedy=remedy)
    splits: dict[str, list[str]] = {}
    for uri in files:
        match = _SPLIT.search(PurePosixPath(uri).name)
        splits.setdefault((match[1] or match[2]) if match else "", []).append(uri)
    if len(splits) == 1:
        return files
    example = f"{files[0].rsplit('/', 1)[0]}/*SPLIT*.{kinds[0]}"
    return splits[_chosen(sorted(splits), folder, example)]


def _chosen(splits: list[str], folder: str, example: str) -> str:
    if "train" in splits or len(splits) == 1:
        return "train" if "train" in splits else splits[0]
    listed = ", ".join(split or "(files without a split in their name)" for split in splits)
    message = f"the folder holds several splits and none is train: {listed}"
    remedy = f"name one: {example}"
    raise PomonaError(message, where=folder, remedy=remedy)


def _note(uri: str) -> dict:
    return parse_json(
        b"".join(blocks(uri)),
        uri,
        wrong="the dataset's own notes are not valid JSON",
        remedy="save the dataset again",
    )
