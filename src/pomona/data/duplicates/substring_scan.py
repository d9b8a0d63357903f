"""Compiled search for repeated grams: a rolling hash finds candidates, a comparison of the text
itself decides.

A table entry is a position + 1 (40 bits) above a tag (24 bits of the hash). A part of the hash
space is searched at a time, so that its table fits in memory. `repeats` has one bit for each byte
of the stream: the gram that begins there is struck.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.native import jit
from pomona.text import SPACELESS, tables

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


@jit("repeated passages", inline="always")
def mix(value: Any) -> Any:
    """The 64-bit finaliser of MurmurHash3 (Appleby)."""
    value ^= value >> _S33
    value *= _M1
    value ^= value >> _S33
    value *= _M2
    return value ^ (value >> _S33)


@jit("repeated passages")
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


@jit("repeated passages")
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


@jit("repeated passages", inline="always")
def next_unit(stream: Any, at: int, end: int, kind: int, kinds: Any) -> tuple[int, int]:
    """(start, stop) of the first unit from `at` on within a document that ends at `end`; start ==
    stop when there is none.
    """
    if kind == WORD:
        return _next_word(stream, at, end, kinds)
    return at, min(at + kind, end)


@jit("repeated passages", inline="always")
def hash_unit(stream: Any, start: int, stop: int) -> Any:
    """A 64-bit hash of the unit's bytes."""
    state = np.uint64(0)
    for at in range(start, stop):
        state = (state ^ np.uint64(stream[at])) * _PRIME + _M1
    return mix(state)


@jit("repeated passages", inline="always")
def same_bytes(stream: Any, start: int, stop: int, other: int, other_stop: int) -> bool:
    """Whether two units are the same."""
    if stop - start != other_stop - other:
        return False
    for step in range(stop - start):  # noqa: SIM110 numba compiles no generators
        if stream[start + step] != stream[other + step]:
            return False
    return True


@jit("repeated passages")
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


@jit("repeated passages")
def count_units(
    stream: Any, offsets: Any, first: int, last: int, length: int, kind: int, kinds: Any
) -> tuple[int, int]:
    """Units of the documents first … last − 1, and positions at which `length` of them follow one
    another.
    """
    units, grams = 0, 0
    for document in range(first, last):
        in_document = 0
        start, stop = next_unit(stream, offsets[document], offsets[document + 1], kind, kinds)
        while start < stop:
            in_document += 1
            start, stop = next_unit(stream, stop, offsets[document + 1], kind, kinds)
        units += in_document
        grams += max(0, in_document - length + 1)
    return units, grams


_BASE, _ZERO, _ONE = np.uint64(0xD1342543DE82EF95), np.uint64(0), np.uint64(1)
_LOW, _TAG, _HALF, _TAG_BITS = (
    np.uint64(0xFFFFFFFF),
    np.uint64(0xFFFFFF),
    np.uint64(32),
    np.uint64(24),
)


_WINDOW = 256


@jit("repeated passages", inline="always")
def _part(mixed: Any, parts: int) -> Any:
    return np.int64(((mixed & _LOW) * np.uint64(parts)) >> _HALF)


@jit("repeated passages", inline="always")
def _slot(mixed: Any, size: int) -> Any:
    return ((mixed >> _HALF) * np.uint64(size)) >> _HALF


@jit("repeated passages", inline="always")
def _mark(repeats: Any, at: int) -> None:
    repeats[at >> 3] |= np.uint8(1 << (at & 7))


@jit("repeated passages", inline="always")
def _follow(
    stream: Any, twin: int, stop: int, end: int, start: int, now: int, kind: int, kinds: Any
) -> tuple[int, int]:
    """The gram one unit after `twin`, if its last unit is the same as the one at `start`; else (-1,
    0).
    """
    last, last_stop = next_unit(stream, stop, end, kind, kinds)
    if last == last_stop or not same_bytes(stream, last, last_stop, start, now):
        return -1, 0
    _, after = next_unit(stream, twin, end, kind, kinds)
    return next_unit(stream, after, end, kind, kinds)[0], last_stop


@jit("repeated passages")
def _earliest(
    table: Any,
    mixed: Any,
    stream: Any,
    offsets: Any,
    at: int,
    end: int,
    twin: int,
    twin_stop: int,
    length: int,
    kind: int,
    kinds: Any,
) -> tuple[Any, int]:
    """Where the first gram equal to the one at `at` begins and stops; (-1, 0) when this is the
    first, which is then entered.
    """
    tag = mixed & _TAG
    slot = _slot(mixed, table.size)
    while table[slot] != _ZERO:
        entry = table[slot]
        if entry & _TAG == tag:
            other: Any = np.int64(entry >> _TAG_BITS) - 1
            if other == twin:
                return twin, twin_stop
            other_end = offsets[np.searchsorted(offsets, other, side="right")]
            stop = same_grams(stream, at, end, other, other_end, length, kind, kinds)
            if stop >= 0:
                return other, stop
        slot += _ONE
        if slot == np.uint64(table.size):
            slot = _ZERO
    table[slot] = (np.uint64(at + 1) << _TAG_BITS) | tag
    return -1, 0


@jit("repeated passages")
def _hash_on(
    stream: Any,
    start: int,
    stop: int,
    end: int,
    kind: int,
    kinds: Any,
    seen: int,
    rolling: Any,
    ring: Any,
    values: Any,
    leaving: Any,
    ahead: Any,
    hashes: Any,
) -> tuple[int, int, int, int, Any]:
    """Hash up to a window of units from start … stop on. `ahead` gets gram (-1: not whole yet),
    start and stop of each, `hashes` its hash.

    Returns how many, where the next unit starts and stops, units of the document so far, and the
    rolling hash.
    """
    length, count = ring.size, 0
    slot = seen % length
    while start < stop and count < _WINDOW:
        value = hash_unit(stream, start, stop)
        rolling = rolling * _BASE + value
        if seen >= length:
            rolling -= values[slot] * leaving
        ring[slot], values[slot] = start, value
        slot = slot + 1 if slot + 1 < length else 0
        seen += 1
        ahead[count, 0], ahead[count, 1], ahead[count, 2] = (
            ring[slot] if seen >= length else -1,
            start,
            stop,
        )
        hashes[count] = mix(rolling)
        count += 1
        start, stop = next_unit(stream, stop, end, kind, kinds)
    return count, start, stop, seen, rolling


@jit("repeated passages")
def _fetch(table: Any, hashes: Any, count: int, part: int, parts: int) -> Any:
    """Read the slots that will be asked for: many misses of the cache at once take hardly longer
    than one.

    Their sum is for the caller to store, or the compiler would leave the reading out.
    """
    total = _ZERO
    for at in range(count):
        if _part(hashes[at], parts) == part:
            total ^= table[_slot(hashes[at], table.size)]
    return total


@jit("repeated passages")
def scan(
    stream: Any,
    offsets: Any,
    first: int,
    last: int,
    length: int,
    kind: int,
    kinds: Any,
    part: int,
    parts: int,
    table: Any,
    repeats: Any,
    later_only: bool,
    entered: int,
) -> int:
    """Mark the grams of documents first … last − 1 that repeat, of one part of the hash space.
    Returns the entries of the table so far.

    `later_only` marks a gram only when an equal one has ended before it begins; else all
    occurrences are marked. Returns -1 when the table is too full to go on.
    """
    ring, values, leaving = np.empty(length, np.int64), np.empty(length, np.uint64), _ONE
    ahead, hashes = np.empty((_WINDOW, 3), np.int64), np.empty(_WINDOW + 1, np.uint64)
    for _ in range(length):
        leaving *= _BASE
    for document in range(first, last):
        end, seen, rolling = offsets[document + 1], 0, _ZERO
        twin, twin_stop, twin_end = -1, 0, 0
        start, stop = next_unit(stream, offsets[document], end, kind, kinds)
        while start < stop:
            count, start, stop, seen, rolling = _hash_on(
                stream,
                start,
                stop,
                end,
                kind,
                kinds,
                seen,
                rolling,
                ring,
                values,
                leaving,
                ahead,
                hashes,
            )
            hashes[_WINDOW] = _fetch(table, hashes, count, part, parts)
            for unit in range(count):
                at = ahead[unit, 0]
                if twin >= 0:
                    twin, twin_stop = _follow(
                        stream,
                        twin,
                        twin_stop,
                        twin_end,
                        ahead[unit, 1],
                        ahead[unit, 2],
                        kind,
                        kinds,
                    )
                if at < 0 or _part(hashes[unit], parts) != part:
                    continue
                earliest, earliest_stop = _earliest(
                    table,
                    hashes[unit],
                    stream,
                    offsets,
                    at,
                    end,
                    twin,
                    twin_stop,
                    length,
                    kind,
                    kinds,
                )
                if earliest < 0:
                    entered += 1
                    if 4 * entered > 3 * table.size:
                        return -1
                    continue
                if earliest != twin:
                    twin_end = offsets[np.searchsorted(offsets, earliest, side="right")]
                twin, twin_stop = earliest, earliest_stop
                if not later_only:
                    _mark(repeats, at)
                    _mark(repeats, earliest)
                elif earliest_stop <= at:
                    _mark(repeats, at)
    return entered


@jit("repeated passages")
def _whole_characters(
    stream: Any, begin: int, end: int, start: int, stop: int, bounds: Any, kind: int
) -> tuple[int, int]:
    """The span start … stop of a document begin … end as bytes of its text, without characters that
    are not wholly inside.
    """
    if kind == TOKEN:
        start, stop, begin, end = start >> 2, stop >> 2, begin >> 2, end >> 2
        while start < stop and start > begin and bounds[start, 0] < bounds[start - 1, 1]:
            start += 1
        while start < stop < end and bounds[stop, 0] < bounds[stop - 1, 1]:
            stop -= 1
        return (bounds[start, 0], bounds[stop - 1, 1]) if start < stop else (0, 0)
    if kind == BYTE:
        while start < stop and stream[start] & 0xC0 == 0x80:
            start += 1
        while start < stop < end and stream[stop] & 0xC0 == 0x80:
            stop -= 1
    return start - begin, stop - begin


@jit("repeated passages")
def _any_mark(repeats: Any, start: int, stop: int) -> bool:
    for at in range(start, stop):
        if at & 7 == 0 and at + 8 <= stop and repeats[at >> 3] == 0:
            continue
        if repeats[at >> 3] >> (at & 7) & 1:
            return True
    return False


@jit("repeated passages")
def spans(
    stream: Any,
    offsets: Any,
    bounds: Any,
    first: int,
    last: int,
    length: int,
    kind: int,
    kinds: Any,
    repeats: Any,
    rows: Any,
) -> int:
    """Write the struck spans of documents first … last − 1 to `rows` int64 `[n, 3]`: document,
    first byte and end in its text.
    """
    begins = np.empty(length, np.int64)
    count = 0
    for document in range(first, last):
        begin, end = offsets[document], offsets[document + 1]
        if not _any_mark(repeats, begin, end):
            continue
        seen, slot, until, open_start, open_stop = 0, 0, -1, 0, 0
        start, stop = next_unit(stream, begin, end, kind, kinds)
        while True:
            ended = start == stop
            if not ended:
                begins[slot] = start
                slot = slot + 1 if slot + 1 < length else 0
                seen += 1
            at = begins[slot]
            struck = not ended and seen >= length and (repeats[at >> 3] >> (at & 7)) & 1 == 1
            if until >= 0 and (ended or (struck and seen - length > until)):
                low, high = _whole_characters(
                    stream, begin, end, open_start, open_stop, bounds, kind
                )
                if low < high:
                    rows[count, 0], rows[count, 1], rows[count, 2] = document, low, high
                    count += 1
                until = -1
            if ended:
                break
            if struck:
                if until < 0:
                    open_start = at
                open_stop, until = stop, seen
            start, stop = next_unit(stream, stop, end, kind, kinds)
    return count
