"""The loop that thresholds come from: how many entries of a task vector have which magnitude."""

from __future__ import annotations

from numba import int64, njit, uint32

from pomona.merge.methods._tiles import SPACE, TILE, change, place, widen
from pomona.merge.methods._words import get_i64, get_u32, set_i64, set_u32

CHUNK = 64  # elements looked at together, and one by one only if one of them asks for it


@njit(error_model="numpy")
def magnitudes(tile, n):
    """The bits of |x| in place of x: integers in the order of the magnitudes."""
    for j in range(n):
        set_u32(tile, j, get_u32(tile, j) & uint32(0x7FFFFFFF))


@njit(error_model="numpy")
def _below(tile, n, low):
    found = uint32(0)
    for j in range(n):
        found = uint32(found + uint32(get_u32(tile, j) < low))
    return int64(found)


@njit(error_model="numpy")
def _any_inside(tile, first, low, size):
    inside = uint32(0)
    for j in range(CHUNK):
        inside = uint32(inside + uint32(uint32(get_u32(tile, first + j) - low) < size))
    return inside != 0


@njit(error_model="numpy")
def _count(tile, first, last, low, size, shift, counts):
    for j in range(first, last):
        place = uint32(get_u32(tile, j) - low)
        if place < size:
            bin = int64(place >> shift)
            set_u32(counts, bin, uint32(get_u32(counts, bin) + uint32(1)))


def tally(base, base_kind, source, kind, n, low, size, shift, counts, below, scratch):
    """Count the |τ| whose bits are below `low` (added to the int64 `below`), and those in the
    `size` values from there, 2^shift to a bin.

    counts: 2^16 uint32s, which are added to.
    """
    tile, other = scratch, scratch + SPACE
    smallest, span, by = uint32(low), uint32(size), uint32(shift)
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        if widen(base_kind, place(base, base_kind, start), other, m):
            return 1
        if change(kind, place(source, kind, start), 1, other, tile, m):
            return 3
        magnitudes(tile, m)
        if low == 0 and shift > 12:
            _count(tile, 0, m, smallest, span, by, counts)
            continue
        set_i64(below, 0, get_i64(below, 0) + _below(tile, m, smallest))
        whole = m // CHUNK * CHUNK
        for first in range(0, whole, CHUNK):
            if _any_inside(tile, first, smallest, span):
                _count(tile, first, first + CHUNK, smallest, span, by, counts)
        _count(tile, whole, m, smallest, span, by, counts)
    return 0
