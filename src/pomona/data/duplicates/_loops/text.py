"""Text to shingles: UTF-8 bytes to folded code points, to 64-bit token hashes, to hashes of runs of
tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.native import part

K = np.uint64(0x9E3779B97F4A7C15)
ONE, ZERO = np.uint64(1), np.uint64(0)
_M1, _M2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_S33, _S23, _S41 = np.uint64(33), np.uint64(23), np.uint64(41)
_WORD, _CHARACTER, _WHOLE, _SHORT = (
    np.uint64(0x243F6A8885A308D3),
    np.uint64(0x13198A2E03707344),
    np.uint64(0xA4093822299F31D0),
    np.uint64(7),
)
_SPACE, _HIGH = np.uint32(32), np.uint64(0x8080808080808080)


@part
def mix(value: Any) -> Any:
    """The 64-bit finaliser of MurmurHash3 (Appleby): a bijection in which every bit depends on
    every bit.
    """
    value ^= value >> _S33
    value *= _M1
    value ^= value >> _S33
    value *= _M2
    return value ^ (value >> _S33)


@part
def feed(state: Any, value: Any) -> Any:
    """Take one more value into a running hash."""
    return (((state << _S23) | (state >> _S41)) ^ value) * K


@part
def _point(data: Any, at: int) -> tuple[Any, int]:
    """The code point whose UTF-8 bytes begin at `at`, and how many they are."""
    byte = np.int64(data[at])
    if byte < 0x80:
        return byte, 1
    if byte < 0xE0:
        return ((byte & 0x1F) << 6) | (np.int64(data[at + 1]) & 0x3F), 2
    if byte < 0xF0:
        return ((byte & 0x0F) << 12) | ((np.int64(data[at + 1]) & 0x3F) << 6) | (
            np.int64(data[at + 2]) & 0x3F
        ), 3
    high = ((byte & 0x07) << 18) | ((np.int64(data[at + 1]) & 0x3F) << 12)
    return high | ((np.int64(data[at + 2]) & 0x3F) << 6) | (np.int64(data[at + 3]) & 0x3F), 4


def ascii_rows(data: Any, words: Any, offsets: Any, found: Any) -> int:
    """Which of the rows are ASCII, as are the few bytes beside them. `words` are the whole 64-bit
    words of `data`.
    """
    for row in range(len(found)):
        ored = ZERO
        for at in range(offsets[row] >> 3, min((offsets[row + 1] + 7) >> 3, len(words))):
            ored |= words[at]
        for at in range(max(offsets[row], 8 * len(words)), offsets[row + 1]):
            ored |= np.uint64(data[at])
        found[row] = ored & _HIGH == ZERO
    return 0


def may_decompose(data: Any, offsets: Any, plain: Any, flags: Any, found: Any) -> int:
    """Which of the rows may not be in NFC: sets them in `found`, all false. `data` is valid UTF-8;
    `plain` rows are ASCII.
    """
    for row in range(len(found)):
        at = offsets[row + 1] if plain[row] else offsets[row]
        while at < offsets[row + 1] and not found[row]:
            point, width = _point(data, at)
            found[row] = (
                flags[point] & 2 != 0
                if point < 65536
                else not (0x1F000 <= point < 0x1FB00 or 0x20000 <= point < 0x2F800)
            )
            at += width
    return 0


@part
def ascii_words(data: Any, start: int, stop: int, fold: Any, tokens: Any) -> tuple[int, int]:
    """`fold_text` and `tokens_of` at once for the words of a document in ASCII. Returns how many
    characters and words.
    """
    letters, found, state = 0, 0, _WORD
    for at in range(start, stop):
        point = np.uint64(fold[data[at]])
        letter = point != np.uint64(32)
        letters += letter
        tokens[found] = state
        found += (not letter) & (state != _WORD)
        state = (state ^ point) * K if letter else _WORD
    tokens[found] = state
    found += state != _WORD
    for at in range(found):
        tokens[at] = mix(tokens[at])
    return letters + max(0, found - 1), found


@part
def fold_text(
    data: Any, start: int, stop: int, fold: Any, flags: Any, points: Any
) -> tuple[int, int]:
    """Write the folded code points of one document to `points`. Returns how many, and how many are
    of scripts without spaces.
    """
    count, spaceless, at = 0, 0, start
    gap = True
    while at < stop:
        point, width = _point(data, at)
        at += width
        if point < 65536:
            spaceless += flags[point] & 1
            folded = np.uint32(fold[point])
        else:
            spaceless += 0x20000 <= point < 0x40000
            folded = np.uint32(point)
        if folded != _SPACE:
            points[count] = folded
            count += 1
            gap = False
        elif not gap:
            points[count] = _SPACE
            count += 1
            gap = True
    if count and gap:
        count -= 1
    return count, spaceless


@part
def tokens_of(points: Any, count: int, characters: bool, tokens: Any) -> int:
    """Write one hash a word, or one a character, to `tokens`. Returns how many."""
    if characters:
        for at in range(count):
            tokens[at] = mix(np.uint64(points[at]) ^ _CHARACTER)
        return count
    found, state = 0, _WORD
    for at in range(count):
        if points[at] == _SPACE:
            tokens[found] = mix(state)
            found += 1
            state = _WORD
        else:
            state = (state ^ np.uint64(points[at])) * K
    if count:
        tokens[found] = mix(state)
        found += 1
    return found


@part
def whole(tokens: Any, count: int, salt: Any) -> Any:
    """One hash of a sequence of tokens."""
    state = _WHOLE ^ salt
    for at in range(count):
        state = feed(state, tokens[at])
    return mix(state ^ np.uint64(count))


@part
def shingles_of(tokens: Any, count: int, size: int, shingles: Any) -> int:
    """Write a hash of every run of `size` tokens to `shingles`; a shorter document is one shingle
    of its own kind. Returns how many.
    """
    if count < size:
        shingles[0] = whole(tokens, count, _SHORT)
        return 1
    leaving = ONE
    for _ in range(size):
        leaving *= K
    state = ZERO
    for at in range(size):
        state = state * K + tokens[at]
    shingles[0] = mix(state)
    for at in range(size, count):
        state = state * K + tokens[at] - leaving * tokens[at - size]
        shingles[at - size + 1] = mix(state)
    return count - size + 1


@part
def distinct(values: Any, count: int, table: Any) -> int:
    """Move the distinct values to the front, in order of first occurrence. `table` has a
    power-of-two size of at least twice `count`.
    """
    table[:] = ZERO
    mask = np.int64(len(table) - 1)
    kept = 0
    for at in range(count):
        value = values[at] if values[at] != ZERO else ONE
        slot = np.int64(value) & mask
        while table[slot] != ZERO and table[slot] != value:
            slot = (slot + 1) & mask
        if table[slot] == ZERO:
            table[slot] = value
            values[kept] = value
            kept += 1
    return kept


@part
def power_of_two(least: int) -> int:
    """The smallest power of two that is at least `least`, and at least 8."""
    size = 8
    while size < least:
        size *= 2
    return size
