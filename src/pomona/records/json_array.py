"""A JSON file that is one array, element by element in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from pomona.errors import PomonaError
from pomona.records.store import COMPRESSIONS, LONGEST, blocks

_SIGN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},"]', re.DOTALL)
_END = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # of a text that began before
_ESCAPED = re.compile(rb"[^\\]*+(?:\\.[^\\]*+)*+", re.DOTALL)
_DEEPER = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


def is_array(file: str) -> bool:
    """Whether a file by the name of JSON is one array, and not an object a line."""
    suffixes = [one for one in PurePosixPath(file.lower()).suffixes if one not in COMPRESSIONS]
    if suffixes[-1:] != [".json"]:
        return False
    for block in blocks(file):
        if begun := block.removeprefix(b"\xef\xbb\xbf").lstrip():
            return begun.startswith(b"[")
    return False


def elements(file: str) -> Iterator[bytes]:
    """The elements of the array in a file, an empty one behind a last comma. Raises PomonaError
    where the array does not end, something follows it, or an element is too long.
    """
    for count, (element, last) in enumerate(_between(file)):
        if not last or element.strip() or count:
            yield element


def _between(file: str) -> Iterator[tuple[bytes, bool]]:
    """What stands between the brackets and commas, and whether it is the last."""
    held, at, begin, depth, inside = b"", 0, 0, 0, False
    source = blocks(file)
    for block in source:
        held, at, begin = held[begin:] + block, at - begin, 0
        while sign := (_END.match if inside else _SIGN.search)(held, at):
            at, mark, inside = sign.end(), sign[0], sign[0] == b'"' and not inside
            depth += _DEEPER.get(mark, 0)
            if mark == b"[" and depth == 1:
                begin = at
            elif mark == b"," and depth == 1:
                yield held[begin : sign.start()], False
                begin = at
            elif depth == 0:
                yield held[begin : sign.start()], True
                if mark != b"]" or held[at:].strip() or any(more.strip() for more in source):
                    raise _damaged(file, "the array ends before the file does")
                return
        whole = _ESCAPED.match(held, at) if inside else None
        at = whole.end() if whole else len(held)  # a backslash waits for what it escapes
        if len(held) - begin > LONGEST:
            raise _damaged(file, f"an element is longer than {LONGEST >> 20} MiB")
    raise _damaged(file, "the array does not end")


def _damaged(file: str, wrong: str) -> PomonaError:
    remedy = "the file may be damaged or cut short; fetch or write it again"
    return PomonaError(wrong, where=file, remedy=remedy)
