"""The files of an audit: `labels.csv`, which people fill in, and `key.json`, which they do not look
at.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pomona.documents import open_file, read_json
from pomona.errors import PomonaError, nearest, quantity
from pomona.files import write_text

CODES = ("CC", "CB", "CS", "X", "WL", "NL")
CORRECT = ("CC", "CB", "CS")
LABELS, KEY = "labels.csv", "key.json"
FLAGS = ("offensive", "porn")
_YES, _NO = {"1", "x", "y", "yes", "true"}, {"", "0", "n", "no", "false"}
_CUT = 2000
_FORMULA = ("=", "+", "-", "@", "\t")


@dataclass(frozen=True)
class Label:
    """One row of `labels.csv`. `label` is a code or "" where nobody has labelled it yet; `source`
    is None unless the data is parallel.
    """

    number: int
    group: str
    source: str | None
    text: str
    label: str = ""
    offensive: bool = False
    porn: bool = False


@dataclass(frozen=True)
class Key:
    """What `key.json` knows of a row: its group, where it came from, a digest of what people are
    shown, and the automatic pre-label.
    """

    number: int
    group: str
    id: str | None
    where: str
    digest: str
    prelabel: str
    reason: str


def shown(text: str) -> str:
    """`text` as people see it: without control characters, cut to 2,000 characters, and never a
    formula to a spreadsheet.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(
        letter if letter in "\n\t" or letter.isprintable() or letter.isspace() else "\ufffd"
        for letter in text
    )
    text = text if len(text) <= _CUT else text[:_CUT] + " […]"
    return f"'{text}" if text.startswith(_FORMULA) else text


def digest(group: str, source: str | None, text: str) -> str:
    """A short digest of what a row shows, the same however a spreadsheet writes line ends, quotes
    the cell or trims it.
    """
    parts = [" ".join(part.removeprefix("'").split()) for part in (group, source or "", text)]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def labels_text(rows: Sequence[Label], by: str) -> str:
    """The text of `labels.csv`; `by` is the name of the group's column."""
    parallel = any(row.source is not None for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_header(by, parallel))
    for row in rows:
        source = [row.source or ""] if parallel else []
        writer.writerow(
            [
                row.number,
                row.group,
                *source,
                row.text,
                row.label,
                *("1" if flag else "" for flag in (row.offensive, row.porn)),
            ]
        )
    return text.getvalue()


def read_key(folder: str | Path) -> tuple[dict[str, Any], dict[int, Key]]:
    """What the audit is about, and its rows by number. Raises PomonaError when the folder holds no
    audit.
    """
    path = Path(folder) / KEY
    if not path.is_file():
        raise PomonaError(
            "there is no audit here",
            where=path,
            remedy="make one with `pomona data audit sample`, or name its folder",
        )
    try:
        about = read_json(path)
        rows = [Key(**row) for row in about.pop("rows")]
        if not all(map(_is_key, rows)) or not _is_about(about, {row.group for row in rows}):
            raise TypeError("a value of another type")
    except (PomonaError, KeyError, TypeError) as error:
        raise PomonaError(
            "the key of the audit is damaged",
            where=path,
            remedy="take it from a backup; without it, draw a new sample",
        ) from error
    return about, {row.number: row for row in rows}


def _is_key(row: Key) -> bool:
    texts = (row.group, row.where, row.digest, row.prelabel, row.reason)
    named = row.id is None or isinstance(row.id, str)
    return type(row.number) is int and named and all(isinstance(text, str) for text in texts)


def _is_about(about: dict[str, Any], groups: set[str]) -> bool:
    sizes = about["sizes"]
    counted = isinstance(sizes, dict) and all(type(size) is int for size in sizes.values())
    texts = isinstance(about["by"], str) and isinstance(about["signature"], str)
    return counted and texts and isinstance(about["parallel"], bool) and groups <= sizes.keys()


def read_labels(folder: str | Path) -> list[Label]:
    """The rows of `labels.csv` in order of their numbers, checked against the key.

    Raises PomonaError naming file and row: no such file, not UTF-8, a wrong header, an unknown
    code, X without a source, a flag that is neither yes nor no, a number that is missing, unknown
    or there twice, and a text that was edited.
    """
    about, key = read_key(folder)
    path = Path(folder) / LABELS
    parallel = bool(about["parallel"])
    rows: dict[int, Label] = {}
    for line, fields in _records(path, _header(about["by"], parallel)):
        where = f"{path}, line {line}"
        row = _label(fields, parallel, where)
        if row.number in rows:
            raise PomonaError(
                f"number {row.number} is there twice",
                where=where,
                remedy="delete one of the two rows",
            )
        known = key.get(row.number)
        if known is None:
            raise PomonaError(
                f"number {row.number} is not in the sample",
                where=where,
                remedy="delete the row, or restore its number",
            )
        if digest(row.group, row.source, row.text) != known.digest:
            remedy = (
                "undo the change (the file may have been saved in another encoding); only "
                "label, offensive and porn may change"
            )
            raise PomonaError(
                f"row number {row.number} is not the text that was sampled",
                where=where,
                remedy=remedy,
            )
        rows[row.number] = row
    missing = sorted(set(key) - set(rows))
    if missing:
        numbers = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        remedy = "put the rows back, with an empty label if nobody has labelled them"
        raise PomonaError(
            f"{quantity(len(missing), 'number of the sample is', 'numbers of the sample are')}"
            f" missing: {numbers}",
            where=path,
            remedy=remedy,
        )
    return [rows[number] for number in sorted(rows)]


def set_label(folder: str | Path, number: int, label: str, offensive: bool, porn: bool) -> Label:
    """Label one row and save the file, whole or not at all. Raises PomonaError as `read_labels`
    does, and for an unknown number or code.
    """
    about, _ = read_key(folder)
    rows = read_labels(folder)
    place = next((place for place, row in enumerate(rows) if row.number == number), None)
    if place is None:
        raise PomonaError(
            f"number {number} is not in the sample",
            where=Path(folder) / LABELS,
            remedy=f"use 1 to {len(rows)}",
        )
    code = _code(label, bool(about["parallel"]), f"number {number}")
    rows[place] = replace(rows[place], label=code, offensive=offensive, porn=porn)
    write_text(Path(folder) / LABELS, labels_text(rows, about["by"]))
    return rows[place]


def _header(by: str, parallel: bool) -> list[str]:
    return ["number", by, *(["source"] if parallel else []), "text", "label", *FLAGS]


def _records(path: Path, header: list[str]) -> list[tuple[int, list[str]]]:
    try:
        with open_file(path) as file:
            text = file.read().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise PomonaError(
            "there is no such file", where=path, remedy="put it back, or draw the sample again"
        ) from error
    except OSError as error:
        remedy = "put the file back, or draw the sample again"
        raise PomonaError(
            f"cannot be read: {error.strerror or error}", where=path, remedy=remedy
        ) from error
    except UnicodeDecodeError as error:
        raise PomonaError(
            "the file is not UTF-8", where=path, remedy="save it as CSV with the encoding UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        first = 1  # of the lines of a row
        while (fields := next(reader, None)) is not None:
            lines += [(first, fields)] if fields else []
            first = reader.line_num + 1
    except csv.Error as error:
        raise PomonaError(
            f"not valid CSV: {error}",
            where=f"{path}, line {reader.line_num}",
            remedy="repair the quotes",
        ) from error
    if not lines or [name.strip() for name in lines[0][1]] != header:
        remedy = f"restore the header, separated by commas: {','.join(header)}"
        raise PomonaError(
            "the header is not the one of the audit", where=f"{path}, line 1", remedy=remedy
        )
    for line, fields in lines[1:]:
        if len(fields) != len(header):
            remedy = "put text with commas or line ends between double quotes"
            raise PomonaError(
                f"{len(fields)} fields where the header has {len(header)}",
                where=f"{path}, line {line}",
                remedy=remedy,
            )
    return lines[1:]


def _label(fields: list[str], parallel: bool, where: str) -> Label:
    number, group, *source, text, label, offensive, porn = fields
    if not re.fullmatch(r"\s*[0-9]{1,18}\s*", number):
        raise PomonaError(
            f'"{number[:20]}" is not a number of the sample',
            where=where,
            remedy="restore the number",
        )
    flags = [
        _flag(name, value, where) for name, value in zip(FLAGS, (offensive, porn), strict=True)
    ]
    return Label(
        int(number),
        group,
        source[0] if source else None,
        text,
        _code(label, parallel, where),
        *flags,
    )


def _code(label: str, parallel: bool, where: str) -> str:
    code = label.strip().upper()
    if code and code not in CODES:
        raise PomonaError(f'"{label}" is not a code', where=where, remedy=nearest(code, CODES))
    if code == "X" and not parallel:
        raise PomonaError(
            "X is for translations, and this audit has no source text",
            where=where,
            remedy="use CC, CB, CS, WL or NL",
        )
    return code


def _flag(name: str, value: str, where: str) -> bool:
    flag = value.strip().lower()
    if flag not in _YES | _NO:
        raise PomonaError(
            f'{name} is "{value}"', where=where, remedy="write 1 for yes, nothing for no"
        )
    return flag in _YES
