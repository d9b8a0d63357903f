"""Normal form: NFC, lower case, runs of white space as one space; and which scripts write no spaces between words."""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SPACELESS, UNSAFE = 1, 2
_SPACELESS = ((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF))
_SPACELESS += ((0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F))
_JAMO = ((0x1161, 0x1175), (0x11A8, 0x11C2))


@functools.cache
def tables() -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """For every code point below 65536: its lower case (a space for white space), and flags SPACELESS and UNSAFE.

    Text without UNSAFE code points is in NFC already: none of them has a combining class, decomposes or composes with what stands before.
    SPACELESS are Thai, Lao, Tibetan, Myanmar, Khmer, Hiragana, Katakana and Han.
    """
    fold, flags = np.arange(65536, dtype=np.uint16), np.zeros(65536, np.uint8)
    for point in range(65536):
        char = chr(point)
        lower = char.lower()
        if char.isspace():
            fold[point] = 32
        elif len(lower) == 1 and ord(lower) < 65536:
            fold[point] = ord(lower)
        parts = unicodedata.decomposition(char)
        if unicodedata.combining(char):
            flags[point] |= UNSAFE
        if parts and parts[0] != "<":
            second = parts.split()
            if len(second) == 2 and len(second[1]) == 4:
                flags[int(second[1], 16)] |= UNSAFE
            if not unicodedata.is_normalized("NFC", char):
                flags[point] |= UNSAFE
    for first, last in _JAMO:
        flags[first : last + 1] |= UNSAFE
    for first, last in _SPACELESS:
        flags[first : last + 1] |= SPACELESS
    return fold, flags


def strings(column: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of a string column end to end, and the `[n + 1]` offsets of its rows."""
    _, bounds, data = column.buffers()
    if len(column) == 0 or bounds is None:
        return np.zeros(1, np.uint8), np.zeros(len(column) + 1, np.int64)
    offsets = np.frombuffer(bounds, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    return (np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)), offsets


def plain(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows that are ASCII, `[n]`; a few that are may be left out."""
    from pomona.data.duplicates._text import ascii_rows

    return ascii_rows(data, data[: len(data) // 8 * 8].view(np.uint64), offsets)


def composed(column: pa.StringArray) -> pa.StringArray:
    """The column in NFC. Only rows that may need it are touched, by Python: Arrow 25 decomposes where it should compose."""
    from pomona.data.duplicates._text import may_decompose

    data, offsets = strings(column)
    rows = may_decompose(data, offsets, plain(data, offsets), tables()[1])
    if not rows.any():
        return column
    mask = pa.array(rows)
    normal = pa.array([unicodedata.normalize("NFC", text) for text in column.filter(mask).to_pylist()], pa.string())
    return pc.call_function("replace_with_mask", [column, mask, normal])
