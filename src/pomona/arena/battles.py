"""Battles as Chatbot Arena publishes them: one JSON list, with conversations and their metadata."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pomona.documents import open_file
from pomona.errors import PomonaError

NESTED = ("conversation_a", "conversation_b", "conv_metadata")  # what `flat` opens
_MEASURES = ("length", "headers", "lists", "bold")
OPENED = (  # and what it may find in them
    "prompt",
    *(f"{name}_{side}" for name in ("completion", *_MEASURES) for side in ("a", "b")),
)
_BLOCK, _ROWS = 1 << 20, 1 << 15  # characters and rows of a list that are read at once
_LONGEST = 1 << 26  # characters of one vote
_BLANK = re.compile(r"\s*")
_AGAIN = "copy or download it again"
_STYLE = {"headers": "header_count", "lists": "list_count", "bold": "bold_count"}


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A vote without nested values: of its conversations prompt, completion_a and completion_b,
    texts, and of its metadata length_a (tokens), headers_a, lists_a and bold_a, and those of b.
    """
    found = {name: value for name, value in row.items() if not isinstance(value, dict | list)}
    for side in ("a", "b"):
        said = row.get(f"conversation_{side}")
        turns = [one for one in said if isinstance(one, Mapping)] if isinstance(said, list) else []
        texts = {"user": [], "assistant": []}
        for one in turns:
            role, content = one.get("role"), one.get("content")
            if isinstance(role, str) and role in texts and isinstance(content, str):
                texts[role].append(content)
        if texts["assistant"]:
            found.setdefault(f"completion_{side}", "\n\n".join(texts["assistant"]))
        if texts["user"]:
            found.setdefault("prompt", "\n\n".join(texts["user"]))
    if isinstance(told := row.get("conv_metadata"), Mapping):
        for side in ("a", "b"):
            found.setdefault(f"length_{side}", _sum(told.get(f"sum_assistant_{side}_tokens")))
            for name, column in _STYLE.items():
                found.setdefault(f"{name}_{side}", _sum(told.get(f"{column}_{side}")))
    return found


def _sum(value: Any) -> float | None:
    """A number, or the sum of the numbers of a mapping."""
    parts = list(value.values()) if isinstance(value, Mapping) else [value]
    known = [one for one in parts if isinstance(one, int | float)]
    return float(sum(known)) if known else None


def is_list(source: str | Path) -> bool:
    """Whether a file is one JSON list, and not one object a line."""
    path = Path(source)
    if not path.name.lower().endswith((".json", ".json.gz")) or not path.is_file():
        return False
    try:
        with _text(path) as stream:
            return stream.read(64).lstrip("\ufeff \t\r\n").startswith("[")
    except (OSError, EOFError, ValueError):
        return False  # whoever reads it as a table says what is wrong


def read_list(path: Path, needed: Callable[[Collection[str]], Collection[str]]) -> pa.Table:
    """The votes of a JSON list as a table, without nested values; `needed` tells from the names of
    a part's columns which to keep. A part is read at a time: whole, the Arena's would not fit.

    Raises:
        PomonaError: the file is no JSON list of objects, named by its row, or is empty.
    """
    tables: list[pa.Table] = []
    rows: list[dict[str, Any]] = []
    try:
        for row in _elements(path):
            rows.append(flat(row))
            if len(rows) == _ROWS:
                tables.append(_part(path, rows, needed))
                rows = []
    except (OSError, EOFError) as error:
        message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise PomonaError(message, where=path, remedy=_AGAIN) from None
    except UnicodeDecodeError:
        raise PomonaError("is not UTF-8", where=path, remedy=_AGAIN) from None
    if rows:
        tables.append(_part(path, rows, needed))
    if not tables:
        raise PomonaError("there are no votes", where=path, remedy="check how it was written")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError:  # texts in one part, numbers in another
        return pa.concat_tables([_texts(one) for one in tables], promote_options="permissive")


def _part(
    path: Path, rows: list[dict[str, Any]], needed: Callable[..., Collection[str]]
) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    wanted = needed(list(names))
    columns = {}
    for name in names:
        if name in wanted:
            values = [row.get(name) for row in rows]
            try:
                columns[name] = pa.array(values)
            except UnicodeEncodeError:
                message = f'"{name}" holds half a character'
                raise PomonaError(message, where=path, remedy=_AGAIN) from None
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                columns[name] = pa.array([None if one is None else str(one) for one in values])
    return pa.table(columns)


def _texts(table: pa.Table) -> pa.Table:
    columns = {
        name: pa.array([None if one is None else str(one) for one in table[name].to_pylist()])
        if not pa.types.is_null(table[name].type)
        else table[name]
        for name in table.column_names
    }
    return pa.table(columns)


@contextmanager
def _text(path: Path) -> Iterator[io.TextIOBase]:
    with ExitStack() as stack:
        stream: Any = stack.enter_context(open_file(path))
        if path.name.lower().endswith(".gz"):
            stream = stack.enter_context(gzip.open(stream))
        yield stack.enter_context(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))


def _elements(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one after another."""
    decoder, number = json.JSONDecoder(), 0
    with _text(path) as stream:
        buffer = stream.read(_BLOCK)
        place = _skip(buffer, buffer.index("[") + 1)
        while True:
            value, end = _decoded(decoder, buffer, place, f"{path}, row {number + 1}")
            # What ends at the end of a block may go on in the next: what follows tells.
            follows = _skip(buffer, end) if end else 0
            if not end or buffer[follows : follows + 1] not in (",", "]"):
                more = stream.read(_BLOCK) if len(buffer) - place < _LONGEST else ""
                if not more and number == 0 and buffer[place:].rstrip() == "]":
                    return
                if not more:
                    message = "is not JSON, or ends in the middle"
                    where = f"{path}, row {number + 1}"
                    raise PomonaError(message, where=where, remedy=_AGAIN)
                buffer = buffer[place:] + more
                place = _skip(buffer, 0)
                continue
            number += 1
            if not isinstance(value, dict):
                message, where = "is no object of JSON", f"{path}, row {number}"
                raise PomonaError(message, where=where, remedy=_AGAIN)
            yield value
            if buffer[follows] == "]":
                if (buffer[follows + 1 :] + stream.read(_BLOCK)).strip():
                    message = "is not JSON: there is more after the list"
                    raise PomonaError(message, where=path, remedy=_AGAIN)
                return
            place = _skip(buffer, follows + 1)


def _skip(text: str, place: int) -> int:
    """The place of the next character from `place` on that is no blank."""
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _decoded(decoder: json.JSONDecoder, text: str, place: int, where: str) -> tuple[Any, int]:
    """The value at `place` and where it ends, which is 0 where no whole value is."""
    try:
        return decoder.raw_decode(text, place)
    except ValueError:
        return None, 0
    except RecursionError:
        message = "is not JSON: it is nested too deeply"
        raise PomonaError(message, where=where, remedy=_AGAIN) from None
