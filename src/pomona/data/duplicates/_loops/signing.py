"""Signatures: a chunk of documents to shingle sets, band keys, and fingerprints that tell identical
ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.data.duplicates._loops import LANES
from pomona.data.duplicates._loops.text import (
    ZERO,
    K,
    ascii_words,
    distinct,
    feed,
    fold_text,
    mix,
    power_of_two,
    shingles_of,
    tokens_of,
    whole,
)
from pomona.native import part

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
    `table` with `power_of_two(2 · L + 2)`.
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
        kept = distinct(shingles, made, table[: power_of_two(2 * made)])
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
