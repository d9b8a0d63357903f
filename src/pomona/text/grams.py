"""The character n-grams of texts, as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def character_grams(
    texts: Sequence[str], orders: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The text and the key of every n-gram of these lengths that occurs, both `[g]`, by length and
    then by place. A key is a polynomial of the code points modulo 2⁶⁴: equal n-grams have equal
    keys, and others hardly ever (once in 10⁹ tables of 10⁵ n-grams).
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    codes = _codes("".join(texts))
    owner = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(codes))  # to the text's end
    owners, keys = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for order, key in _polynomials(codes, orders):
        whole = left[: len(key)] >= order
        owners.append(owner[: len(key)][whole])
        keys.append(key[whole])
    return np.concatenate(owners), np.concatenate(keys)


def grams_of(text: str, orders: Sequence[int]) -> NDArray[np.uint64]:
    """The keys that `character_grams` gives for a text alone."""
    return np.concatenate([key for _, key in _polynomials(_codes(text), orders)])


def _codes(text: str) -> NDArray[np.uint64]:
    data = text.encode("utf-32-le", "surrogatepass")
    return np.frombuffer(data, dtype="<u4").astype(np.uint64) + np.uint64(1)


def _polynomials(
    codes: NDArray[np.uint64], orders: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Each of the orders, ascending, with the keys of the n-grams of that length at all places."""
    key = codes + _MULTIPLIER  # of one code point
    for order in range(1, max(orders) + 1):
        if order > 1:
            size = max(0, len(codes) - order + 1)
            key = key[:size] * _MULTIPLIER + codes[order - 1 : order - 1 + size]
        if order in orders:
            yield order, key


def hashed_columns(keys: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    """The column of `2 ** bits` of each key of an n-gram."""
    # An odd number: the high bits of its products are the hash.
    mixed = (keys ^ (keys >> np.uint64(29))) * _MULTIPLIER
    return (mixed >> np.uint64(64 - bits)).astype(np.int64)
