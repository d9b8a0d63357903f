"""Texts as sets of shingles, their MinHash, and how likely it finds two that are alike."""

from __future__ import annotations

import functools
import unicodedata
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.shingles.loops import LANES, loop
from pomona.text import strings, tables

HASHES, RECALL = 128, 0.94
Shingle = Literal["auto", "word", "character"]
SHINGLES: tuple[Shingle, ...] = ("word", "character", "auto")
Bytes, Ints, Flags = NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]


def s_curve(n_bands: int, rows_per_band: int, similarity: float) -> float:
    """The probability that two documents of this Jaccard similarity become candidates:
    `1 − (1 − s^rows)^bands` (Lee et al. 2022, §A).
    """
    return 1 - (1 - similarity**rows_per_band) ** n_bands


def bands_for(threshold: float, hashes: int = HASHES, recall: float = RECALL) -> tuple[int, int]:
    """Bands and rows from `hashes` hash functions: as many rows as find pairs at the threshold with
    probability `recall` or more.

    More rows mean fewer candidates to compare. 0.8 gives the customary 16 × 8 (0.947 at the
    threshold), 0.7 gives 25 × 5.
    """
    fitting = [
        rows for rows in range(1, hashes + 1) if s_curve(hashes // rows, rows, threshold) >= recall
    ]
    rows = max(fitting, default=1)
    return hashes // rows, rows


@functools.cache
def hash_functions(hashes: int, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The factors and shifts of so many hash functions, uint32, the same for a seed."""
    draw = np.random.default_rng(seed)
    factors = draw.integers(0, 1 << 32, hashes, dtype=np.uint32) | np.uint32(1)
    return factors, draw.integers(0, 1 << 32, hashes, dtype=np.uint32)


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
    flagged = np.empty(len(offsets) - 1, np.bool_)
    loop("ascii_rows")(data, data[: len(data) // 8 * 8].view(np.uint64), offsets, flagged)
    return flagged


def may_decompose(data: Bytes, offsets: Ints, plain: Flags, flags: Bytes) -> Flags:
    """Rows that may not be in NFC, `[n]`; `plain` ones are ASCII. `data` is valid UTF-8."""
    flagged = np.zeros(len(plain), np.bool_)
    loop("may_decompose")(data, offsets, plain, flags, flagged)
    return flagged


def composed(column: pa.StringArray) -> pa.StringArray:
    """The column in NFC. Only rows that may need it are touched, by Python: Arrow 25 decomposes
    where it should compose.
    """
    data, offsets = strings(column)
    rows = may_decompose(data, offsets, ascii_rows(data, offsets), tables()[1])
    if not rows.any():
        return column
    mask = pa.array(rows)
    normal = pa.array(
        [unicodedata.normalize("NFC", text) for text in column.filter(mask).to_pylist()],
        pa.string(),
    )
    return pc.call_function("replace_with_mask", [column, mask, normal])


def power_of_two(least: int) -> int:
    """The smallest power of two that is at least `least`, and at least 8: the size of a hash
    table.
    """
    return max(8, 1 << (least - 1).bit_length())
