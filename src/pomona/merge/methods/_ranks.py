"""The loop of DELLA: the rank of every entry of a row by magnitude, and from it the probability
that the entry is kept.
"""

from __future__ import annotations

from numba import float64, int64, njit, uint32

from pomona.merge.methods._tally import magnitudes
from pomona.merge.methods._tiles import TILE, change, place, widen
from pomona.merge.methods._words import get_f64, get_i64, get_u32, set_i64, set_u32

MOST = 11  # bits sorted by at a time, at most


@njit(error_model="numpy")
def _scatter(keys, order, to, n, shift, digits, counts):
    """One round of a radix sort: `order` by a digit of its keys, stable."""
    last = uint32(digits - 1)
    for digit in range(digits):
        set_i64(counts, digit, 0)
    for j in range(n):
        digit = int64((get_u32(keys, j) >> shift) & last)
        set_i64(counts, digit, get_i64(counts, digit) + 1)
    before = 0
    for digit in range(digits):
        found = get_i64(counts, digit)
        set_i64(counts, digit, before)
        before += found
    for j in range(n):
        which = get_u32(order, j)
        digit = int64((get_u32(keys, int64(which)) >> shift) & last)
        slot = get_i64(counts, digit)
        set_u32(to, slot, which)
        set_i64(counts, digit, slot + 1)


def ranks(base, base_kind, source, kind, n, row, bounds, limits, rows, scratch):
    """Thresholds of 32 bits for every entry of whole rows: from bounds[0] for the smallest |τ| of a
    row to bounds[1] for the largest.

    bounds: two float64s, probabilities. Equal magnitudes rank in the order of their places; the
        entry of a row of one lies half-way.
    rows: memory for 3 · row uint32s and 2048 int64s.
    """
    keys, order, other, counts = rows, rows + 4 * row, rows + 8 * row, rows + 12 * row
    low, high = get_f64(bounds, 0), get_f64(bounds, 1)
    bits = MOST if row >= 8192 else 8
    for first in range(0, n, row):
        for start in range(first, first + row, TILE):
            m = min(TILE, first + row - start)
            tile = keys + 4 * (start - first)
            if widen(base_kind, place(base, base_kind, start), scratch, m):
                return 1
            if change(kind, place(source, kind, start), 1, scratch, tile, m):
                return 3
            magnitudes(tile, m)
        for j in range(row):
            set_u32(order, j, uint32(j))
        for shift in range(0, 31, bits):
            _scatter(keys, order, other, row, uint32(shift), 1 << bits, counts)
            order, other = other, order
        for rank in range(row):
            share = low + (high - low) * (float64(rank) / float64(row - 1) if row > 1 else 0.5)
            set_u32(limits, first + int64(get_u32(order, rank)), uint32(share * 4294967296.0))
    return 0
