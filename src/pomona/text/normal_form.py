"""Normal form: NFC, lower case, runs of white space as one space; and which scripts write no spaces
between words.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SPACELESS, UNSAFE = 1, 2
_BLOCK = 128  # code points
_SPACELESS = (
    (0x0E00, 0x0EFF),
    (0x0F00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
)
_SPACELESS += (
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
)
_JAMO = ((0x1161, 0x1175), (0x11A8, 0x11C2))


@functools.cache
def tables() -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """For every code point below 65536: its lower case (a space for white space), and flags
    SPACELESS and UNSAFE.

    Text without UNSAFE code points is in NFC already: none of them has a combining class,
    decomposes or composes with what stands before. SPACELESS are Thai, Lao, Tibetan, Myanmar,
    Khmer, Hiragana, Katakana and Han.
    """
    fold, flags = np.arange(65536, dtype=np.uint16), np.zeros(65536, np.uint8)
    every = np.arange(65536, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    for start in range(0, 65536, _BLOCK):
        block = every[start : start + _BLOCK]
        if not _dull(block):
            for point, char in enumerate(block, start):
                _enter(point, char, fold, flags)
    for first, last in _JAMO:
        flags[first : last + 1] |= UNSAFE
    for first, last in _SPACELESS:
        flags[first : last + 1] |= SPACELESS
    return fold, flags


def _dull(block: str) -> bool:
    """Whether its characters are lower case, no white space, of no combining class, and decompose
    into nothing.
    """
    plain = (
        block.lower() == block
        and block.split() == [block]
        and unicodedata.is_normalized("NFKD", block)
    )
    return plain and not any(map(unicodedata.combining, block))


def _enter(point: int, char: str, fold: NDArray[np.uint16], flags: NDArray[np.uint8]) -> None:
    lower, parts = char.lower(), unicodedata.decomposition(char)
    if char.isspace():
        fold[point] = 32
    elif len(lower) == 1:
        fold[point] = ord(lower)
    if unicodedata.combining(char):
        flags[point] |= UNSAFE
    if parts and parts[0] != "<":
        second = parts.split()
        if len(second) == 2 and len(second[1]) == 4:
            flags[int(second[1], 16)] |= UNSAFE
        if not unicodedata.is_normalized("NFC", char):
            flags[point] |= UNSAFE


def strings(column: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of a string column end to end, and the `[n + 1]` offsets of its rows."""
    _, bounds, data = column.buffers()
    if len(column) == 0 or bounds is None:
        return np.zeros(1, np.uint8), np.zeros(len(column) + 1, np.int64)
    offsets = np.frombuffer(bounds, np.int32)[
        column.offset : column.offset + len(column) + 1
    ].astype(np.int64)
    return (
        np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    ), offsets
