"""JSON files that this package did not write: opened without waiting, limits on size and depth, no
key twice, no half characters, and the place of every mistake.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError

LARGEST = 1 << 28  # bytes; the tokenizers with the most entries have a tenth of it
DEEPEST = 200  # pydantic, json.dumps and we ourselves recurse over what was read
_WRONG, _AGAIN = "is not JSON", "copy or download it again"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_TOPS = {dict: "an object", list: "a list"}
_PIPES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
_KINDS = {
    stat.S_IFIFO: "it is a pipe, not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


def open_file(path: str | Path, *, pipes: bool = False) -> BufferedReader:
    """A regular file, open for reading bytes. Opening a named pipe would wait until somebody writes
    to it, and reading a device may never end: they are refused.

    pipes: whether the shell's own, such as `<(…)`, are read all the same.
    Raises OSError, whose strerror says what is wrong.
    """
    try:
        # Looked at before it is opened: opening alone makes some devices do something.
        mode = Path(path).stat().st_mode
    except ValueError:
        raise OSError(errno.EINVAL, "its name holds a NUL character") from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    piped = pipes and stat.S_ISFIFO(mode) and str(path).startswith(_PIPES)
    if not stat.S_ISREG(mode) and not piped:
        raise OSError(errno.EINVAL, _KINDS.get(stat.S_IFMT(mode), "it is no file"))
    # Without waiting all the same: a pipe may have taken the file's place by now.
    descriptor = os.open(path, os.O_RDONLY | (0 if piped else getattr(os, "O_NONBLOCK", 0)))
    return os.fdopen(descriptor, "rb")


def read_json(
    path: str | Path,
    *,
    top: type[dict] | type[list] | None = dict,
    finite: bool = True,
    largest: int = LARGEST,
    missing: str = "is missing",
    wrong: str = _WRONG,
    remedy: str = _AGAIN,
) -> Any:
    """The value in a JSON file, which must be a mapping, or a list, or (`top=None`) anything.

    finite: whether NaN, Infinity and numbers as large as that are refused; configurations of models
    hold them. missing, wrong: what errors say of a file that is not there, or no JSON.
    Raises PomonaError with file and line: no such file, no permission, more than `largest` bytes,
    not UTF-8, not JSON, nested too deeply, a key twice, or half a character.
    """
    path = Path(path)
    try:
        with open_file(path) as stream:
            data = stream.read(largest + 1)
    except FileNotFoundError:
        raise PomonaError(missing, where=path, remedy=remedy) from None
    except OSError as error:
        raise PomonaError(f"cannot be read: {error.strerror}", where=path, remedy=remedy) from None
    return parse_json(
        data, path, top=top, finite=finite, largest=largest, wrong=wrong, remedy=remedy
    )


def parse_json(
    data: bytes,
    where: str | Path,
    *,
    top: type[dict] | type[list] | None = dict,
    finite: bool = True,
    largest: int = LARGEST,
    wrong: str = _WRONG,
    remedy: str = _AGAIN,
) -> Any:
    """The value that `data` is; `where` names it in errors. See `read_json`."""
    if len(data) > largest:
        raise PomonaError(f"has more than {largest:,} bytes", where=where, remedy=remedy)
    text = ""
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(
            text,
            object_pairs_hook=_mapping,
            parse_constant=_refused if finite else None,
            parse_float=_finite if finite else None,
        )
        _check_depth(value, text)
        if _HALF.search(text):  # most often with its other half: only the value tells
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"{wrong}: it is not UTF-8 in line {line}"
        raise PomonaError(message, where=where, remedy=remedy) from None
    except json.JSONDecodeError as error:
        raise PomonaError(f"{wrong}: {error}", where=where, remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        # The parser's hooks do not know their place in the text, so it is searched again.
        mistake = next(_mistakes(text, finite), error)
        raise PomonaError(f"{wrong}: {mistake}", where=where, remedy=remedy) from None
    if top is not None and not isinstance(value, top):
        raise PomonaError(f"is not {_TOPS[top]} of JSON", where=where, remedy=remedy)
    return value


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key twice")
    return mapping


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is too large")
    return number


def _check_depth(value: Any, text: str) -> None:
    if text.count("[") + text.count("{") <= DEEPEST:
        return
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RecursionError


def _mistakes(text: str, finite: bool) -> Iterator[str]:
    """What the hooks refuse, with its place as the parser tells its own."""
    opened: list[dict[str, int]] = []  # the keys of each collection that is open, and their places
    words = _TOKEN.finditer(text)
    token = next(words, None)
    while token is not None:
        following = next(words, None)
        word, place = token[0], token.start()
        if word in "[{":
            opened.append({})
            if len(opened) > DEEPEST:
                yield _at(text, place, "it is nested too deeply")
        elif word in "]}":
            opened.pop()
        elif word.startswith('"'):
            string = json.loads(word, strict=False)
            if any("\ud800" <= letter <= "\udfff" for letter in string):
                yield _at(text, place, "it holds half a character")
            if following and following[0] == ":":
                if string in opened[-1]:
                    first = text.count("\n", 0, opened[-1][string]) + 1
                    yield _at(text, place, f"the key {word[:60]} was already given in line {first}")
                opened[-1][string] = place
        elif word not in ",:" and (said := _number(word, finite)):
            yield _at(text, place, said)
        token = following


def _number(word: str, finite: bool) -> str | None:
    try:
        number = json.loads(word)
    except ValueError:  # Python's own limit
        return f"{word[:20]}… has too many digits"
    if finite and isinstance(number, float) and not math.isfinite(number):
        return f"it holds {word}" if word[-1].isalpha() else f"{word[:20]} is too large"
    return None


def _at(text: str, place: int, message: str) -> str:
    return str(json.JSONDecodeError(message, text, place))
