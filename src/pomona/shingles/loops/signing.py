"""Signatures: a chunk of documents to shingle sets, band keys, and fingerprints that tell identical
ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.native import part
from pomona.shingles.loops import LANES

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


def ascii_rows(data: Any, words: Any, offsets: Any, flagged: Any) -> int:
    """Which of the rows are ASCII, as are the few bytes beside them. `words` are the whole 64-bit
    words of `data`.
    """
    for row in range(len(flagged)):
        ored = ZERO
        for at in range(offsets[row] >> 3, min((offsets[row + 1] + 7) >> 3, len(words))):
            ored |= words[at]
        for at in range(max(offsets[row], 8 * len(words)), offsets[row + 1]):
            ored |= np.uint64(data[at])
        flagged[row] = ored & _HIGH == ZERO
    return 0


def may_decompose(data: Any, offsets: Any, plain: Any, flags: Any, flagged: Any) -> int:
    """Which of the rows may not be in NFC: sets them in `flagged`, all false. `data` is valid
    UTF-8; `plain` rows are ASCII.
    """
    for row in range(len(flagged)):
        at = offsets[row + 1] if plain[row] else offsets[row]
        while at < offsets[row + 1] and not flagged[row]:
            point, width = _point(data, at)
            flagged[row] = (
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
    letters, written, state = 0, 0, _WORD
    for at in range(start, stop):
        point = np.uint64(fold[data[at]])
        letter = point != np.uint64(32)
        letters += letter
        tokens[written] = state
        written += (not letter) & (state != _WORD)
        state = (state ^ point) * K if letter else _WORD
    tokens[written] = state
    written += state != _WORD
    for at in range(written):
        tokens[at] = mix(tokens[at])
    return letters + max(0, written - 1), written


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
    written, state = 0, _WORD
    for at in range(count):
        if points[at] == _SPACE:
            tokens[written] = mix(state)
            written += 1
            state = _WORD
        else:
            state = (state ^ np.uint64(points[at])) * K
    if count:
        tokens[written] = mix(state)
        written += 1
    return written


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
def table_size(least: int) -> int:
    """The smallest power of two that is at least `least`, and at least 8."""
    size = 8
    while size < least:
        size *= 2
    return size


_OTHER, _BAND = np.uint64(0x452821E638D01377), np.uint64(0xBE5466CF34E90C6C)


@part
def minima(values: Any, padded: int, factors: Any, shifts: Any, out: Any) -> None:
    """MinHash (Broder 1997): the least of `factor·x + shift` mod 2³² over the set, for every hash
    function.
    """
    for function in range(len(factors)):
        factor, shift = factors[function], shifts[function]
        least = np.uint32(0xFFFFFFFF)
        for at in range(padded):
            least = min(least, np.uint32(factor * values[at] + shift))
        out[function] = least


@part
def _halves(shingles: Any, count: int, halves: Any) -> int:
    """The low 32 bits of the shingles, padded with the first to a whole number of vector lanes."""
    padded = (count + LANES - 1) // LANES * LANES
    for at in range(padded):
        halves[at] = np.uint32(shingles[at if at < count else 0])
    return padded


@part
def _bands(signature: Any, rows: int, keys: Any, document: int) -> None:
    for band in range(keys.shape[0]):
        state = _BAND
        for row in range(rows):
            state = feed(state, np.uint64(signature[band * rows + row]))
        keys[band, document] = mix(state)


@part
def _append(values: Any, count: int, all_values: Any, offsets: Any, row: int) -> None:
    """Copy the first values to where the row's begin, and note where they end."""
    for at in range(count):
        all_values[offsets[row] + at] = values[at]
    offsets[row + 1] = offsets[row] + count


def sign(
    data: Any,
    offsets: Any,
    plain: Any,
    fold: Any,
    flags: Any,
    unit: int,
    size: int,
    factors: Any,
    shifts: Any,
    rows: int,
    with_tokens: int,
    wide: Any,
    narrow: Any,
    table: Any,
    keys: Any,
    prints: Any,
    facts: Any,
    set_offsets: Any,
    sets: Any,
    token_offsets: Any,
    all_tokens: Any,
) -> int:
    """Sign documents, valid UTF-8 in NFC; `plain` ones are ASCII. `unit` is 0 for words, 1 for
    characters, 2 for what the script asks for.

    `keys` and what follows are results, both offsets begin with 0. Memory, for the longest document
    of L bytes: `wide` [2, L + 1], `narrow` [3, at least L + 33 and the number of functions],
    `table` with `table_size(2 · L + 2)`.
    """
    tokens, shingles, points, halves, signature = wide[0], wide[1], narrow[0], narrow[1], narrow[2]
    for document in range(len(plain)):
        characters = unit == 1
        if plain[document] and not characters:
            count, number = ascii_words(
                data, offsets[document], offsets[document + 1], fold, tokens
            )
        else:
            count, spaceless = fold_text(
                data, offsets[document], offsets[document + 1], fold, flags, points
            )
            characters = characters or (unit == 2 and 5 * spaceless > count)
            number = tokens_of(points, count, characters, tokens)
        made = shingles_of(tokens, number, size, shingles)
        kept = distinct(shingles, made, table[: table_size(2 * made)])
        minima(halves, _halves(shingles, kept, halves), factors, shifts, signature)
        _bands(signature, rows, keys, document)
        one, other = ZERO, ZERO
        for at in range(kept):
            one += shingles[at]
            other += mix(shingles[at] ^ _OTHER)
        if with_tokens:
            one, other = whole(tokens, number, ZERO), whole(tokens, number, K)
            _append(tokens, number, all_tokens, token_offsets, document)
        prints[document, 0], prints[document, 1] = one, other
        _append(shingles, kept, sets, set_offsets, document)
        facts[document, 0], facts[document, 1] = count, int(characters) + 2 * int(number < size)
    return 0


def fingerprints(data: Any, offsets: Any, prints: Any) -> int:
    """128-bit fingerprints `[n, 2]` of the bytes of every document."""
    for document in range(len(prints)):
        one, other = ZERO, _OTHER
        for at in range(offsets[document], offsets[document + 1]):
            one, other = feed(one, np.uint64(data[at])), feed(other, mix(np.uint64(data[at])))
        length = np.uint64(offsets[document + 1] - offsets[document])
        prints[document, 0], prints[document, 1] = mix(one ^ length), mix(other + length)
    return 0
