"""Compiled units of a stream: bytes, 4-byte tokens, or words; where the next one is, its hash,
whether two are the same.

A word is a run of letters, marks, digits and underscores; any other visible character, and each
character of a script that is written without spaces, is a unit by itself. White space belongs to no
unit.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pomona.data.duplicates._unicode import SPACELESS, tables

WORD, BYTE, TOKEN = 0, 1, 4
_SPACE, _RUN, _ALONE = 0, 1, 2
_JOINERS = (0x5F, 0x200C, 0x200D)
_M1, _M2, _PRIME = (
    np.uint64(0xFF51AFD7ED558CCD),
    np.uint64(0xC4CEB9FE1A85EC53),
    np.uint64(0x9E3779B97F4A7C15),
)
_S33 = np.uint64(33)


@functools.cache
def classes() -> NDArray[np.uint8]:
    """For every code point below 65536: white space, part of a word, or a unit by itself."""
    spaceless = tables()[1] & SPACELESS
    kinds = np.full(65536, _ALONE, np.uint8)
    for point in range(65536):
        char = chr(point)
        if char.isspace() or point < 32:
            kinds[point] = _SPACE
        elif point in _JOINERS or (unicodedata.category(char)[0] in "LMN" and not spaceless[point]):
            kinds[point] = _RUN
    return kinds


@numba.njit(cache=True, nogil=True, inline="always")
def mix(value: Any) -> Any:
    """The 64-bit finaliser of MurmurHash3 (Appleby)."""
    value ^= value >> _S33
    value *= _M1
    value ^= value >> _S33
    value *= _M2
    return value ^ (value >> _S33)


@numba.njit(cache=True, nogil=True)
def _look(stream: Any, at: int, kinds: Any) -> tuple[Any, int]:
    """The class of the character whose UTF-8 bytes begin at `at`, and how many they are."""
    byte = np.int64(stream[at])
    if byte < 0x80:
        return np.int64(kinds[byte]), 1
    if byte < 0xE0:
        return np.int64(kinds[((byte & 0x1F) << 6) | (np.int64(stream[at + 1]) & 0x3F)]), 2
    if byte < 0xF0:
        point = (
            ((byte & 0x0F) << 12)
            | ((np.int64(stream[at + 1]) & 0x3F) << 6)
            | (np.int64(stream[at + 2]) & 0x3F)
        )
        return np.int64(kinds[point]), 3
    return _ALONE, 4


@numba.njit(cache=True, nogil=True)
def _next_word(stream: Any, at: int, end: int, kinds: Any) -> tuple[int, int]:
    kind, width = _SPACE, 0
    while kind == _SPACE:
        at += width
        if at >= end:
            return end, end
        kind, width = _look(stream, at, kinds)
    start = at
    at += width
    while kind == _RUN and at < end:
        kind, width = _look(stream, at, kinds)
        if kind == _RUN:
            at += width
    return start, at


@numba.njit(cache=True, nogil=True, inline="always")
def next_unit(stream: Any, at: int, end: int, kind: int, kinds: Any) -> tuple[int, int]:
    """(start, stop) of the first unit from `at` on within a document that ends at `end`; start ==
    stop when there is none.
    """
    if kind == WORD:
        return _next_word(stream, at, end, kinds)
    return at, min(at + kind, end)


@numba.njit(cache=True, nogil=True, inline="always")
def hash_unit(stream: Any, start: int, stop: int) -> Any:
    """A 64-bit hash of the unit's bytes."""
    state = np.uint64(0)
    for at in range(start, stop):
        state = (state ^ np.uint64(stream[at])) * _PRIME + _M1
    return mix(state)


@numba.njit(cache=True, nogil=True, inline="always")
def same_bytes(stream: Any, start: int, stop: int, other: int, other_stop: int) -> bool:
    """Whether two units are the same."""
    if stop - start != other_stop - other:
        return False
    for step in range(stop - start):  # noqa: SIM110 numba compiles no generators
        if stream[start + step] != stream[other + step]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def same_grams(
    stream: Any, at: int, end: int, other: int, other_end: int, length: int, kind: int, kinds: Any
) -> int:
    """Where the gram of `length` units at `other` stops when it equals the one at `at`; -1 when it
    does not.
    """
    for _ in range(length):
        start, at = next_unit(stream, at, end, kind, kinds)
        other_start, other = next_unit(stream, other, other_end, kind, kinds)
        if start == at or not same_bytes(stream, start, at, other_start, other):
            return -1
    return other


@numba.njit(cache=True, nogil=True)
def count_units(
    stream: Any, offsets: Any, first: int, last: int, length: int, kind: int, kinds: Any
) -> tuple[int, int]:
    """Units of the documents first … last − 1, and positions at which `length` of them follow one
    another.
    """
    units, grams = 0, 0
    for document in range(first, last):
        found = 0
        start, stop = next_unit(stream, offsets[document], offsets[document + 1], kind, kinds)
        while start < stop:
            found += 1
            start, stop = next_unit(stream, stop, offsets[document + 1], kind, kinds)
        units += found
        grams += max(0, found - length + 1)
    return units, grams
