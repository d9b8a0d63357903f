"""Compiled signatures: a chunk of documents to shingle sets, band keys, and fingerprints that tell identical ones."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pomona.data.duplicates._text import ZERO, K, ascii_words, distinct, feed, fold_text, mix, power_of_two, shingles_of, tokens_of, whole

_LANES = 32
_OTHER, _BAND = np.uint64(0x452821E638D01377), np.uint64(0xBE5466CF34E90C6C)


@numba.njit(cache=True, nogil=True)
def minima(values: Any, padded: int, factors: Any, shifts: Any, out: Any) -> None:
    """MinHash (Broder 1997): the least of `factor·x + shift` mod 2³² over the set, for every hash function."""
    for function in range(len(factors)):
        factor, shift = factors[function], shifts[function]
        least = np.uint32(0xFFFFFFFF)
        for at in range(padded):
            least = min(least, np.uint32(factor * values[at] + shift))
        out[function] = least


@numba.njit(cache=True, nogil=True)
def _halves(shingles: Any, count: int, halves: Any) -> int:
    """The low 32 bits of the shingles, padded with the first to a whole number of vector lanes."""
    padded = (count + _LANES - 1) // _LANES * _LANES
    for at in range(padded):
        halves[at] = np.uint32(shingles[at if at < count else 0])
    return padded


@numba.njit(cache=True, nogil=True)
def _bands(signature: Any, rows: int, keys: Any, document: int) -> None:
    for band in range(keys.shape[0]):
        state = _BAND
        for row in range(rows):
            state = feed(state, np.uint64(signature[band * rows + row]))
        keys[band, document] = mix(state)


@numba.njit(cache=True, nogil=True)
def _more(values: Any, used: int, wanted: int) -> Any:
    if used + wanted <= len(values):
        return values
    larger = np.empty(max(2 * len(values), used + wanted), values.dtype)
    larger[:used] = values[:used]
    return larger


@numba.njit(cache=True, nogil=True)
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
    with_tokens: bool,
) -> tuple[Any, Any, Any, Any, Any, Any, Any]:
    """Sign documents, valid UTF-8 in NFC; `plain` ones are ASCII. `unit` is 0 for words, 1 for characters, 2 for what the script asks for.

    Returns band keys `[bands, n]`, fingerprints `[n, 2]`, set offsets `[n + 1]`, sets, facts `[n, 2]` (characters, and flags: 1
    character shingles, 2 shorter than a shingle), token offsets `[n + 1]` and tokens (empty unless `with_tokens`).
    """
    documents = len(offsets) - 1
    longest = 0
    for document in range(documents):
        longest = max(longest, offsets[document + 1] - offsets[document])
    points, tokens, shingles = np.empty(longest + 1, np.uint32), np.empty(longest + 1, np.uint64), np.empty(longest + 1, np.uint64)
    halves, signature = np.empty(longest + 1 + _LANES, np.uint32), np.empty(len(factors), np.uint32)
    table = np.empty(power_of_two(2 * longest + 2), np.uint64)
    keys, prints = np.empty((len(factors) // rows, documents), np.uint64), np.empty((documents, 2), np.uint64)
    facts, set_offsets, token_offsets = (
        np.zeros((documents, 2), np.int64),
        np.zeros(documents + 1, np.int64),
        np.zeros(documents + 1, np.int64),
    )
    sets, all_tokens = np.empty(256 * documents + 8, np.uint64), np.empty(8, np.uint64)
    for document in range(documents):
        characters = unit == 1
        if plain[document] and not characters:
            count, number = ascii_words(data, offsets[document], offsets[document + 1], fold, tokens)
        else:
            count, spaceless = fold_text(data, offsets[document], offsets[document + 1], fold, flags, points)
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
            all_tokens = _more(all_tokens, token_offsets[document], number)
            all_tokens[token_offsets[document] : token_offsets[document] + number] = tokens[:number]
        token_offsets[document + 1] = token_offsets[document] + (number if with_tokens else 0)
        prints[document, 0], prints[document, 1] = one, other
        sets = _more(sets, set_offsets[document], kept)
        sets[set_offsets[document] : set_offsets[document] + kept] = shingles[:kept]
        set_offsets[document + 1] = set_offsets[document] + kept
        facts[document, 0], facts[document, 1] = count, int(characters) + 2 * int(number < size)
    return keys, prints, set_offsets, sets[: set_offsets[-1]], facts, token_offsets, all_tokens[: token_offsets[-1]]


@numba.njit(cache=True, nogil=True)
def fingerprints(data: Any, offsets: Any) -> Any:
    """128-bit fingerprints `[n, 2]` of the bytes of every document."""
    prints = np.empty((len(offsets) - 1, 2), np.uint64)
    for document in range(len(prints)):
        one, other = ZERO, _OTHER
        for at in range(offsets[document], offsets[document + 1]):
            one, other = feed(one, np.uint64(data[at])), feed(other, mix(np.uint64(data[at])))
        length = np.uint64(offsets[document + 1] - offsets[document])
        prints[document, 0], prints[document, 1] = mix(one ^ length), mix(other + length)
    return prints
