"""What is kept of task vectors, and the loop that sums up sizes before and after.

A mask is eight int64s: how entries are kept (ALL, NONE, BAND, RANDOM, RANKED), the least and
greatest bits of |τ| (BAND), two key words (RANDOM, RANKED), a threshold of 16 bits (RANDOM), the
address of thresholds of 32 bits, one for each element (RANKED), and whether what is kept of those
is divided by its probability. An entry is drawn by hashing its place in the tensor: neither blocks
nor threads matter. With RANDOM one hash draws two entries, half a tile apart, so that blocks must
begin at tiles.
"""

from __future__ import annotations

from numba import float32, float64, njit, uint32

from pomona.merge.methods._tiles import LOOSE, SPACE, TILE, change, clear, place, widen
from pomona.merge.methods._words import (
    get_f32,
    get_f64,
    get_i64,
    get_u32,
    set_f32,
    set_f64,
    set_u32,
)

ALL, NONE, BAND, RANDOM, RANKED = 0, 1, 2, 3, 4
HALF = TILE // 2


@njit(error_model="numpy")
def draw(index, low, high):
    """32 random bits for an element: a hash of its place under a key of 64 bits (two rounds of
    xorshift and multiplication).
    """
    word = uint32(index + low)
    word = uint32(uint32(word ^ uint32(word >> uint32(16))) * uint32(0x7FEB352D))
    word = uint32(uint32(word ^ uint32(word >> uint32(15))) ^ high)
    word = uint32(word * uint32(0x846CA68B))
    return uint32(word ^ uint32(word >> uint32(16)))


@njit(error_model="numpy")
def _below(word, limit):
    """Whether the lower and the upper half of 32 bits are below a limit."""
    return uint32(word & uint32(0xFFFF)) < limit, uint32(word >> uint32(16)) < limit


@njit(error_model="numpy")
def mask(tile, n, index, masks, start):
    """Zero what the mask drops. `index`: the tile's place in the tensor, `start`: in the block."""
    mode = get_i64(masks, 0)
    if mode == NONE:
        clear(tile, n)
    elif mode == BAND:
        least, size = uint32(get_i64(masks, 1)), uint32(get_i64(masks, 2) - get_i64(masks, 1))
        for j in range(n):
            word = get_u32(tile, j)
            kept = uint32((word & uint32(0x7FFFFFFF)) - least) <= size
            set_u32(tile, j, word if kept else uint32(0))
    elif mode == RANDOM:
        low, high = (
            uint32(get_i64(masks, 3) + (index >> 32) * 0x9E3779B9),
            uint32(get_i64(masks, 4)),
        )
        limit, first = uint32(get_i64(masks, 5)), uint32(index)
        for j in range(min(n, HALF)):
            kept, other = _below(draw(first, low, high), limit)
            first = uint32(first + uint32(1))
            set_u32(tile, j, get_u32(tile, j) if kept else uint32(0))
            set_u32(tile, HALF + j, get_u32(tile, HALF + j) if other else uint32(0))
    elif mode == RANKED:
        low, high = (
            uint32(get_i64(masks, 3) + (index >> 32) * 0x9E3779B9),
            uint32(get_i64(masks, 4)),
        )
        limits, first = get_i64(masks, 6) + 4 * start, uint32(index)
        for j in range(n):
            kept = draw(first, low, high) < get_u32(limits, j)
            first = uint32(first + uint32(1))
            set_u32(tile, j, get_u32(tile, j) if kept else uint32(0))
        if get_i64(masks, 7):
            for j in range(n):
                set_f32(
                    tile,
                    j,
                    get_f32(tile, j) * (float32(4294967296.0) / float32(get_u32(limits, j))),
                )


@njit(error_model="numpy", fastmath=LOOSE)
def _size(tile, n):
    found = float32(0)
    for j in range(n):
        found += abs(get_f32(tile, j))
    return float64(found)


@njit(error_model="numpy", fastmath=LOOSE)
def _sizes(tile, n, index, masks, start):
    """Σ|τ| of a tile and Σ|kept τ|; what is in the tile afterwards is undefined."""
    if get_i64(masks, 0) != RANDOM or n < TILE:
        whole = _size(tile, n)
        mask(tile, n, index, masks, start)
        return whole, _size(tile, n)
    low, high = uint32(get_i64(masks, 3) + (index >> 32) * 0x9E3779B9), uint32(get_i64(masks, 4))
    limit, first = uint32(get_i64(masks, 5)), uint32(index)
    whole = left = float32(0)
    for j in range(HALF):
        stays, joins = _below(draw(first, low, high), limit)
        first = uint32(first + uint32(1))
        one, other = abs(get_f32(tile, j)), abs(get_f32(tile, HALF + j))
        whole += one + other
        left += (one if stays else float32(0)) + (other if joins else float32(0))
    return float64(whole), float64(left)


@njit(error_model="numpy")
def length(index, rest):
    """Elements of the tile at `index`: none crosses a multiple of 2^32."""
    return min(TILE, rest, 0x100000000 - (index & 0xFFFFFFFF))


def sums(sources, kinds, count, n, index, segment, masks, found, scratch):
    """For every `segment` elements and each expert Σ|τ| and Σ|kept τ|: pairs of float64, segment by
    segment. `index`: the block's place.
    """
    base = scratch + SPACE
    for s in range((n + segment - 1) // segment):
        start, stop = s * segment, min(n, (s + 1) * segment)
        while start < stop:
            m = length(index + start, stop - start)
            kind = get_i64(kinds, 0)
            if widen(kind, place(get_i64(sources, 0), kind, start), base, m):
                return 1
            for i in range(count):
                kind = get_i64(kinds, i + 1)
                if change(kind, place(get_i64(sources, i + 1), kind, start), 1, base, scratch, m):
                    return 2 * i + 3
                pair = 2 * (s * count + i)
                whole, left = _sizes(scratch, m, index + start, masks + 64 * i, start)
                set_f64(found, pair, get_f64(found, pair) + whole)
                set_f64(found, pair + 1, get_f64(found, pair + 1) + left)
            start += m
    return 0
