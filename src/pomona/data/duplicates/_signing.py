"""Signatures: a chunk of documents to shingle sets, band keys, and fingerprints that tell identical
ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.data.duplicates._loops import LANES, loop, power_of_two

Bytes, Ints, Flags = NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]


def sign(
    data: Bytes,
    offsets: Ints,
    plain: Flags,
    fold: NDArray[np.uint16],
    flags: Bytes,
    unit: int,
    size: int,
    factors: NDArray[np.uint32],
    shifts: NDArray[np.uint32],
    rows: int,
    with_tokens: bool,
) -> tuple[NDArray[Any], ...]:
    """Sign documents, valid UTF-8 in NFC; `plain` ones are ASCII. `unit` is 0 for words, 1 for
    characters, 2 for what the script asks for.

    Returns band keys `[bands, n]`, fingerprints `[n, 2]`, set offsets `[n + 1]`, sets, facts
    `[n, 2]` (characters, and flags: 1 character shingles, 2 shorter than a shingle), token offsets
    `[n + 1]` and tokens (empty unless `with_tokens`).
    """
    documents, longest = len(offsets) - 1, int(np.diff(offsets).max(initial=0))
    most = (
        int(offsets[-1] - offsets[0]) + documents
    )  # a token has a byte or more; pages that are not written to take no memory
    keys, prints = (
        np.empty((len(factors) // rows, documents), np.uint64),
        np.empty((documents, 2), np.uint64),
    )
    facts, set_offsets, token_offsets = (
        np.zeros((documents, 2), np.int64),
        np.zeros_like(offsets),
        np.zeros_like(offsets),
    )
    sets, tokens = np.empty(most, np.uint64), np.empty(most if with_tokens else 0, np.uint64)
    wide = np.empty((2, longest + 1), np.uint64)
    narrow = np.empty((3, max(longest + 1 + LANES, len(factors))), np.uint32)
    table = np.empty(power_of_two(2 * longest + 2), np.uint64)
    loop("sign")(
        data,
        offsets,
        plain,
        fold,
        flags,
        unit,
        size,
        factors,
        shifts,
        rows,
        with_tokens,
        wide,
        narrow,
        table,
        keys,
        prints,
        facts,
        set_offsets,
        sets,
        token_offsets,
        tokens,
    )
    return (
        keys,
        prints,
        set_offsets,
        sets[: set_offsets[-1]],
        facts,
        token_offsets,
        tokens[: token_offsets[-1]],
    )


def fingerprints(data: Bytes, offsets: Ints) -> NDArray[np.uint64]:
    """128-bit fingerprints `[n, 2]` of the bytes of every document."""
    prints = np.empty((len(offsets) - 1, 2), np.uint64)
    loop("fingerprints")(data, offsets, prints)
    return prints


def ascii_rows(data: Bytes, offsets: Ints) -> Flags:
    """Rows that are ASCII, `[n]`; a few that are may be left out."""
    found = np.empty(len(offsets) - 1, np.bool_)
    loop("ascii_rows")(data, data[: len(data) // 8 * 8].view(np.uint64), offsets, found)
    return found


def may_decompose(data: Bytes, offsets: Ints, plain: Flags, flags: Bytes) -> Flags:
    """Rows that may not be in NFC, `[n]`; `plain` ones are ASCII. `data` is valid UTF-8."""
    found = np.zeros(len(plain), np.bool_)
    loop("may_decompose")(data, offsets, plain, flags, found)
    return found
