"""`read`: find the files (in folders too: shards, and Hugging Face datasets as they are saved or
lie on the hub), tell the format, open the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.files import write_text
from pomona.places import Found, check_outputs
from pomona.records.column_types import plain
from pomona.records.engines import check_engine
from pomona.records.parquet import open_arrow, open_parquet
from pomona.records.records import Records, as_records
from pomona.records.source import (
    Keyed,
    Recast,
    RowPolicy,
    Source,
    TableSource,
    looks_at_all_rows,
    row_policy,
)
from pomona.records.store import (
    COMPRESSIONS,
    FORMATS,
    blocks,
    check_regular,
    children,
    expand,
    format_of,
    info,
    is_remote,
    missing,
)
from pomona.records.text_source import (
    TextSource,
    check_rejects,
    open_text,
    set_aside,
    skip,
    stop,
    with_all_types,
)
from pomona.workspace import disk_guard

_OPENERS: dict[str, Callable[[Sequence[str]], Source]] = {
    "parquet": open_parquet,
    "arrow": open_arrow,
}
TABLES = {"ui": Path(__file__).parents[1] / "assets" / "ui" / "ui.parquet"}  # of the package
_SPLIT = re.compile(
    r"(?:^|[-_.])(train|test|validation|valid|val|dev|eval)(?=[-_.])|^([\w.]+)-\d{5}-of-\d{5}"
)
_SPLIT_FOLDER = re.compile(r"train|test|validation|valid|val|dev|eval")
_DICT, _STATE = "dataset_dict.json", "state.json"
_NOTES = {"dataset_info.json", "dataset_infos.json", _STATE, _DICT}
_CARD = ".card.json"  # of a result, beside it
_KEYED = re.compile(r"([^=]+)=(.*)", re.DOTALL)  # `lang=en`: folders by the values of a column
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
_TABLES = {"_delta_log": "Delta", "_spark_metadata": "Spark stream"}
# Data by their name that is not read here: passing over them would lose rows without a word.
_FOREIGN = (
    ".feather .orc .avro .xlsx .xls .ods .lz4 .zip .tar .tgz .7z .sqlite "
    ".pkl .pickle .npy .npz .h5 .hdf5 .parq .jsonlines .tfrecord"
)
Where = str | Path | Sequence[str | Path] | pa.Table


def read(
    source: Where,
    *,
    columns: Sequence[str] | pa.Schema | None = None,
    on_error: Literal["stop", "drop", "reject"] = "stop",
    rejects: str | Path | None = None,
    engine: str | None = None,
) -> Records:
    """Describe a table; rows are read when they are asked for.

    `source` is a path, a glob, a list of them, "ui" (the embedded table; a file of that name goes
    before it), a folder (a Hugging Face dataset or shards of one format; of several splits
    `train`; folders `KEY=VALUE` in it are columns), an `s3://` address of any of these, or a table.
    JSON takes its columns and types from the first 10,000 rows and the first of every file, columns
    of CSV and TSV are strings, and text has the column `text`; `columns` names the ones to read,
    and as a `pyarrow.Schema` also sets their types. A column that a row or a file does not have is
    null, and types are widened to those of all files, which `notes_of` tells.
    A malformed JSONL or CSV row stops the reading when it is met. With `on_error="drop"` or
    "reject" the source is read through once, at this call; such rows are left out and counted, and
    with "reject" go to the JSONL file `rejects` (file, line, reason, text, and base64 of bytes that
    are not UTF-8). What works on the records leaves out rows without a value that it needs, too
    (`Records.complete`).

    Args:
        on_error: What becomes of malformed rows, and of rows without a value that is needed:
            stop at the first, drop them, or reject them to a file.
        rejects: File of the rejected rows, JSON lines with their file, line and reason.

    Raises:
        PomonaError: a file is missing, empty, damaged or of an unknown format, a column is missing,
            or a row is malformed.
        ResourceError: the disk filled up while the rejects were written.
    """
    policy = None if isinstance(source, pa.Table) or on_error != "stop" else row_policy()
    if policy is not None:
        return _by_policy(policy, source, columns, engine)
    name = check_engine(engine)
    if on_error not in ("stop", "drop", "reject"):
        remedy = 'use "stop", "drop" or "reject"'
        raise PomonaError(f'"{on_error}" is unknown', where="on_error", remedy=remedy)
    if (on_error == "reject") != (rejects is not None):
        message = "--on-error reject and a file of rejects go together"
        remedy = "give both, or neither"
        raise PomonaError(message, where="rejects", remedy=remedy)
    if rejects is not None:
        check_rejects(rejects)
    records = _described(source, columns, name, on_error != "stop", rejects)
    if on_error == "stop":
        return records
    return replace(records, drops=True, rejects=None if rejects is None else str(rejects))


def read_named(source: Where, name: str) -> Records:
    """What `read` reads; errors call it `name` where it is a table in memory."""
    records = read(source)
    own = records.source
    given = isinstance(own, TableSource)
    return replace(records, source=replace(own, where=name)) if given else records


def files_at(source: Where) -> Sequence[str]:
    """The files that `read` would read, by which outputs are checked before anything is opened. Of
    what is not there or is no table, which `read` refuses, the name.
    """
    if isinstance(source, pa.Table):
        return ()
    try:
        return _files(source, {})
    except PomonaError:
        return [str(source)] if isinstance(source, str | Path) else [str(one) for one in source]


def _by_policy(policy: RowPolicy, source: Where, columns: Any, engine: str | None) -> Records:
    """What `read` gives in a block of `malformed_rows`: of one table the same at every call, so
    that its rejects are written once.
    """
    key = f"{source}|{columns}|{engine}"
    if key not in policy.opened:
        file = policy.file_of(str(source))
        records = read(
            source, columns=columns, on_error=policy.on_error, rejects=file, engine=engine
        )
        policy.count(str(records.source.where), records.rejected)
        policy.opened[key] = records
    return policy.opened[key]


def _described(
    source: Where, columns: Any, engine: str, drops: bool, rejects: str | Path | None
) -> Records:
    """The records of `source`, and the malformed rows of text in `rejects`."""
    if isinstance(source, pa.Table):
        described = _typed(as_records(source).source, columns, engine)
    else:
        keys: dict[str, dict[str, str]] = {}
        files = _files(source, keys)
        if rejects is not None:
            check_outputs({"the file of rejects": rejects}, files)
        opener = _OPENERS.get(_one_format(files))
        if opener is None and not any(keys.values()):
            text = _text(files, columns, drops)
            return Records.of(text, engine, set_aside(text, rejects) if drops else 0)
        if opener is None:
            text = _text(files, None, drops)
            malformed = set_aside(text, rejects) if drops else 0
            described = _typed(_keyed(text, files, keys), columns, engine)
            return replace(described, rejected=malformed)
        described = _typed(_keyed(opener(files), files, keys), columns, engine)
    if rejects is not None:
        with disk_guard(str(rejects)):
            write_text(rejects, "")
    return described


def _text(files: Sequence[str], columns: Any, drops: bool) -> TextSource:
    """The files as rows. Where bad ones are left out, all are looked at for their types, lest one
    be left out that is only the first of its kind.
    """
    text = open_text(files, columns, skip if drops else stop)
    return with_all_types(text) if drops or looks_at_all_rows() else text


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


def _keyed(source: Source, files: Sequence[str], keys: Mapping[str, Mapping[str, str]]) -> Source:
    """The rows with the columns that folders are named by, but for those that the files have:
    whole numbers where all values are, else texts.
    """
    names = dict.fromkeys(name for file in files for name in keys.get(file, ()))
    said = {file: {key: _value(one) for key, one in keys.get(file, {}).items()} for file in files}
    fields = list[pa.Field]()
    for name in names:
        if name in source.schema.names:
            continue
        values = [one for row in said.values() if (one := row.get(name)) is not None]
        whole = all(_WHOLE.fullmatch(one) for one in values) and bool(values)
        fields.append(pa.field(name, pa.int64() if whole else pa.string()))
        for row in said.values() if whole else ():
            row[name] = int(row[name]) if row.get(name) is not None else None
    return Keyed(source, pa.schema(fields), said) if fields else source


def _value(written: str) -> Any:
    return None if written == _NO_VALUE else unquote(written)


def _files(source: Any, keys: dict[str, dict[str, str]]) -> Sequence[str]:
    """The files that are meant, and in `keys` the columns that their folders are named by."""
    if isinstance(source, str | Path):
        return _at(str(source), keys)
    if not isinstance(source, Sequence) or not source:
        remedy = "give a path, a glob, a list of paths, or a pyarrow.Table"
        raise PomonaError(f"cannot read from {source!r}", remedy=remedy)
    return [file for item in source for file in _files(item, keys)]


def _at(uri: str, keys: dict[str, dict[str, str]]) -> Sequence[str]:
    if "://" in uri and not is_remote(uri):
        remedy = "use a local path or s3://BUCKET/KEY"
        raise PomonaError("unknown kind of address", where=uri, remedy=remedy)
    what = info(uri)
    if what.type == fs.FileType.Directory:
        folder = uri.rstrip("/") or "/"
        files = [Found(file, [folder]) for file in _table_in(folder)]
        keys |= {file: _keys(_parts(file, folder)[:-1]) for file in files}
        return files
    if what.type == fs.FileType.File:
        if what.size == 0:
            raise PomonaError("the file is empty", where=uri, remedy="check how it was written")
        return [uri]
    if what.type == fs.FileType.Unknown:
        check_regular(uri)
    if any(sign in uri for sign in "*?["):
        fixed = set(PurePosixPath(uri).parts)
        met = (file for match in expand(uri) for file in _at(match, keys))
        files = [Found(file, [uri, *getattr(file, "among", ())]) for file in met]
        for file in files:
            between = [part for part in PurePosixPath(file).parts[:-1] if part not in fixed]
            keys[file] = _keys(between)
        return files
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


def _table_in(folder: str) -> list[str]:
    """The files of the table in `folder`, in order; of several splits, `train`.

    Raises:
        PomonaError: there is no table, no `train` among several splits, files of several formats,
            notes that are damaged, or something whose rows would be left out.
    """
    names = {_name(uri): uri for uri in children(folder)}
    if _DICT in names:
        splits = _listed(names[_DICT], "splits", lambda split: split)
        return _table_in(f"{folder}/{_chosen(splits, folder, f'{folder}/SPLIT')}")
    if _STATE in names:
        return _saved(folder, names)
    if "config.json" in names and any(name.endswith(".safetensors") for name in names):
        remedy = "name a table: models have options of their own"
        raise PomonaError("is a model, not a table", where=folder, remedy=remedy)
    below = children(folder, recursive=True)
    tables = [uri for uri in below if _is_table(uri, folder)]
    # Texts beside tables are about them: licences, lists of words.
    tables = [uri for uri in tables if format_of(uri)[0] != "txt"] or tables
    _refuse_left_out(folder, below, tables)
    if not tables:
        remedy = "expected Parquet, JSONL, CSV, TSV or text files, or a dataset saved to disk"
        raise PomonaError("the folder holds no table", where=folder, remedy=remedy)
    for uri in tables:
        check_regular(uri)
    return _one_split(tables, folder)


def _name(uri: str) -> str:
    return PurePosixPath(uri).name


def _parts(uri: str, folder: str) -> tuple[str, ...]:
    """The folders between `folder` and a file, and the file's name."""
    return PurePosixPath(uri if folder == "." else uri[len(folder.rstrip("/")) + 1 :]).parts


def _is_table(uri: str, folder: str) -> bool:
    if any(part.startswith("_") for part in _parts(uri, folder)):
        return False
    name = _name(uri).lower()
    *others, last = PurePosixPath(name).suffixes or [""]
    known = last in FORMATS or (last in COMPRESSIONS and others and others[-1] in FORMATS)
    return bool(known) and not name.endswith(_CARD) and name not in _NOTES


def _refuse_left_out(folder: str, below: Sequence[str], tables: Sequence[str]) -> None:
    """Raise PomonaError when the folder holds rows that reading its tables would not give."""
    apart, foreign, hidden = set[str](), list[str](), list[str]()
    for uri in below:
        *inner, name = _parts(uri, folder)
        for part in inner:
            if part in _TABLES:
                message = f"is a {_TABLES[part]} table, whose log says which files are in it"
                raise PomonaError(message, where=folder, remedy="write it as plain Parquet first")
        if name in (_DICT, _STATE):
            apart.add("/".join(inner))
        *_, kind, last = ["", "", *PurePosixPath(name.lower()).suffixes]
        if last in _FOREIGN.split() or (
            last in COMPRESSIONS
            and (kind in _FOREIGN.split() or last in (".bz2", ".xz"))
            and not _is_table(uri, folder)
        ):
            foreign.append("/".join([*inner, name]))
        if name.startswith("_") and PurePosixPath(name.lower()).suffix in FORMATS:
            hidden.append("/".join([*inner, name]))
    for found, message in (
        (apart, "the folder holds datasets of their own"),
        (foreign, "the folder holds files that are not read"),
        (hidden, "the folder holds tables whose names say that they are no part of it"),
    ):
        if found:
            listed = f"{message}: {_some(found)}"
            example = f"name what to read, for example {tables[0]}" if tables else ""
            remedy = example or "turn them into Parquet, JSONL or CSV"
            raise PomonaError(listed, where=folder, remedy=remedy)


def _some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = sorted(names)
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")


def _one_split(files: list[str], folder: str) -> list[str]:
    kinds = sorted({format_of(uri)[0] for uri in files})
    if len(kinds) > 1:
        message = f"the folder mixes {' and '.join(kinds)} files"
        remedy = f"name one kind: {folder}/*.{kinds[0]}"
        raise PomonaError(message, where=folder, remedy=remedy)
    splits: dict[str, list[str]] = {}
    for uri in files:
        splits.setdefault(_split_of(_parts(uri, folder)), []).append(uri)
    if len(splits) == 1:
        return files
    if others := splits.get(""):
        named = _some("/".join(_parts(uri, folder)) for uri in others)
        known = " and ".join(sorted(split for split in splits if split))
        message = f"beside the files of {known} there are others of no split: {named}"
        remedy = "name the files to read, or put those aside"
        raise PomonaError(message, where=folder, remedy=remedy)
    example = f"{files[0].rsplit('/', 1)[0]}/*SPLIT*.{kinds[0]}"
    return splits[_chosen(sorted(splits), folder, example)]


def _split_of(parts: Sequence[str]) -> str:
    """The split that a file's own name, or else a folder on the way to it, says."""
    if match := _SPLIT.search(parts[-1]):
        return match[1] or match[2]
    return next((part for part in reversed(parts[:-1]) if _SPLIT_FOLDER.fullmatch(part)), "")


def _chosen(splits: Sequence[str], folder: str, example: str) -> str:
    if "train" in splits or len(splits) == 1:
        return "train" if "train" in splits else splits[0]
    message = f"the folder holds several splits and none is train: {', '.join(splits)}"
    raise PomonaError(message, where=folder, remedy=f"name one: {example}")


def _saved(folder: str, names: dict[str, str]) -> list[str]:
    """The files that the notes of a saved dataset list."""
    files = _listed(names[_STATE], "_data_files", lambda entry: entry["filename"])
    for file in files:
        if file not in names:
            message, remedy = f"{file} is not there", "copy or save the dataset again"
            raise PomonaError(message, where=folder, remedy=remedy)
    return [names[file] for file in files]


def _listed(uri: str, key: str, name_of: Any) -> list[str]:
    """The names that a dataset's own notes list under `key`. Raises PomonaError unless each is the
    name of something beside the notes.
    """
    notes = parse_json(
        b"".join(blocks(uri)),
        uri,
        wrong="the dataset's own notes are not valid JSON",
        remedy="save the dataset again",
    )
    try:
        names = [name_of(entry) for entry in notes[key]] if isinstance(notes[key], list) else []
    except (KeyError, TypeError):
        names = []
    if not names or not all(isinstance(n, str) and n.strip(".") and _is_plain(n) for n in names):
        message = f'the dataset\'s own notes list no files or folders as "{key}"'
        raise PomonaError(message, where=uri, remedy="save the dataset again")
    return names


def _is_plain(name: str) -> bool:
    return not any(sign in name for sign in "/\\\0")


def _keys(parts: Iterable[str]) -> dict[str, str]:
    """The columns and values that folders are named by, as Hive and Spark write them."""
    found = (match for part in parts if (match := _KEYED.fullmatch(part)))
    return {unquote(match[1]): match[2] for match in found}
