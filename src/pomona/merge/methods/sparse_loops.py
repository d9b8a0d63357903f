"""Loops of the sparse methods: magnitudes are counted and ranked, task vectors thinned out, and
what is left is added up.

A mask is eight int64s: how entries are kept (ALL, NONE, BAND, RANDOM, RANKED), the least and
greatest bits of |τ| (BAND), two key words (RANDOM, RANKED), a threshold of 16 bits (RANDOM), the
address of thresholds of 32 bits, one for each element (RANKED), and whether what is kept of those
is divided by its probability. An entry is drawn by hashing its place in the tensor: neither blocks
nor threads matter. With RANDOM one hash draws two entries, half a tile apart, so that blocks must
begin at tiles.
"""

from __future__ import annotations

from numba import float32, float64, int64, njit, uint32

from pomona.merge.methods.tile_loops import (
    LOOSE,
    SPACE,
    TILE,
    bits_of,
    change,
    clear,
    get_f32,
    get_f64,
    get_i64,
    get_u32,
    narrow,
    place,
    set_f32,
    set_f64,
    set_i64,
    set_u32,
    widen,
)

CHUNK = 64  # elements looked at together, and one by one only if one of them asks for it


@njit(error_model="numpy")
def magnitudes(tile, n):
    """The bits of |x| in place of x: integers in the order of the magnitudes."""
    for j in range(n):
        set_u32(tile, j, get_u32(tile, j) & uint32(0x7FFFFFFF))


@njit(error_model="numpy")
def _count_below(tile, n, low):
    below = uint32(0)
    for j in range(n):
        below = uint32(below + uint32(get_u32(tile, j) < low))
    return int64(below)


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
        # In the first pass every entry is in the range; in the second almost none is, so that a
        # look at 64 of them at once pays.
        if low == 0 and shift > 12:
            _count(tile, 0, m, smallest, span, by, counts)
            continue
        set_i64(below, 0, get_i64(below, 0) + _count_below(tile, m, smallest))
        whole = m // CHUNK * CHUNK
        for first in range(0, whole, CHUNK):
            if _any_inside(tile, first, smallest, span):
                _count(tile, first, first + CHUNK, smallest, span, by, counts)
        _count(tile, whole, m, smallest, span, by, counts)
    return 0


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
    total = float32(0)
    for j in range(n):
        total += abs(get_f32(tile, j))
    return float64(total)


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


def sums(sources, kinds, count, n, index, segment, masks, totals, scratch):
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
                set_f64(totals, pair, get_f64(totals, pair) + whole)
                set_f64(totals, pair + 1, get_f64(totals, pair + 1) + left)
            start += m
    return 0


@njit(error_model="numpy")
def _weigh(tile, n, factor, total, size):
    """Add tile · factor to `total`, its magnitude to `size`."""
    for j in range(n):
        value = get_f32(tile, j) * factor
        set_f32(total, j, get_f32(total, j) + value)
        set_f32(size, j, get_f32(size, j) + abs(value))


@njit(error_model="numpy")
def _weigh_two(one, other, n, first, second, total, size):
    """As `_weigh` for two tiles, into a total and a size that were not begun."""
    for j in range(n):
        value, more = get_f32(one, j) * first, get_f32(other, j) * second
        set_f32(total, j, value + more)
        set_f32(size, j, abs(value) + abs(more))


@njit(error_model="numpy")
def _doubtful(total, size, first, last):
    """Whether rounding may have decided the sign of a sum."""
    doubts = uint32(0)
    for j in range(first, last):
        doubts = uint32(doubts + uint32(abs(get_f32(total, j)) < get_f32(size, j) * float32(1e-6)))
    return doubts != 0


@njit(error_model="numpy")
def _elect(tiles, count, n, factors, total, size):
    """Where a sign is doubtful, take the sum in float64; what rounding there may have left of a sum
    of zero is zero.
    """
    for first in range(0, n, CHUNK):
        if not _doubtful(total, size, first, min(n, first + CHUNK)):
            continue
        for j in range(first, min(n, first + CHUNK)):
            if abs(get_f32(total, j)) < get_f32(size, j) * float32(1e-6):
                exact = terms = float64(0)
                for i in range(count):
                    value = float64(get_f32(tiles + SPACE * i, j)) * get_f64(factors, i)
                    exact, terms = exact + value, terms + abs(value)
                set_f32(total, j, float32(1) if exact >= -1e-12 * terms else float32(-1))


@njit(error_model="numpy")
def _like(value, sign):
    """Whether a value is not zero and has the sign of a float32's bits."""
    return (uint32(uint32(bits_of(value) ^ sign) & uint32(0x80000000)) == uint32(0)) & (
        value != float32(0)
    )


@njit(error_model="numpy")
def _agree(tile, n, factor, weight, total, mixed, divisor):
    """Add the entries of tile · factor whose sign is that of the sum, and their weight."""
    for j in range(n):
        value = get_f32(tile, j) * factor
        agrees = _like(value, get_u32(total, j))
        set_f32(mixed, j, get_f32(mixed, j) + (value if agrees else float32(0)))
        set_f32(divisor, j, get_f32(divisor, j) + (weight if agrees else float32(0)))


@njit(error_model="numpy")
def _agree_two(tiles, n, factors, weights, total, mixed, divisor):
    """As `_agree` for the first two tiles, into sums that were not begun."""
    one, other = tiles, tiles + SPACE
    first, second = float32(get_f64(factors, 0)), float32(get_f64(factors, 1))
    weight, heft = float32(get_f64(weights, 0)), float32(get_f64(weights, 1))
    for j in range(n):
        value, more, sign = get_f32(one, j) * first, get_f32(other, j) * second, get_u32(total, j)
        agrees, joins = _like(value, sign), _like(more, sign)
        set_f32(mixed, j, (value if agrees else float32(0)) + (more if joins else float32(0)))
        set_f32(divisor, j, (weight if agrees else float32(0)) + (heft if joins else float32(0)))


@njit(error_model="numpy")
def _vote(tiles, count, n, factors, weights, total, size, mixed, divisor):
    """Elect signs, and sum up the entries that agree, and their weights."""
    _elect(tiles, count, n, factors, total, size)
    if count > 1:
        _agree_two(tiles, n, factors, weights, total, mixed, divisor)
    else:
        clear(mixed, n)
        clear(divisor, n)
    for i in range(2 if count > 1 else 0, count):
        _agree(
            tiles + SPACE * i,
            n,
            float32(get_f64(factors, i)),
            float32(get_f64(weights, i)),
            total,
            mixed,
            divisor,
        )


@njit(error_model="numpy")
def _zero(weights, count):
    """What a sum of some of the weights is at least, unless it is zero but for rounding."""
    sizes = float64(0)
    for i in range(count):
        sizes += abs(get_f64(weights, i))
    return float32(3e-7 * sizes)


@njit(error_model="numpy")
def _finish(mixed, divisor, normalize, least, scale, base, n):
    if normalize:
        for j in range(n):
            by = get_f32(divisor, j)
            by = by if abs(by) > least else float32(1)
            set_f32(mixed, j, get_f32(base, j) + get_f32(mixed, j) / by * scale)
    else:
        for j in range(n):
            set_f32(mixed, j, get_f32(base, j) + get_f32(mixed, j) * scale)


def blend(
    sources,
    kinds,
    count,
    n,
    index,
    masks,
    factors,
    weights,
    elect,
    normalize,
    scale,
    out,
    stored,
    scratch,
):
    """base + scale · the sum of the kept, weighed task vectors: all of it, or with `elect` the
    entries that agree with its sign.

    factors: float64s, weight times rescaling; weights: float64s, of which `normalize` (only with
        `elect`) divides by those that
    agree, unless their sum is zero. scale: a float64.
    """
    base, total, size = scratch, scratch + SPACE, scratch + 2 * SPACE
    mixed, divisor, tiles = scratch + 3 * SPACE, scratch + 4 * SPACE, scratch + 5 * SPACE
    by, least, start = float32(get_f64(scale, 0)), _zero(weights, count), 0
    while start < n:
        m = length(index + start, n - start)
        kind = get_i64(kinds, 0)
        if widen(kind, place(get_i64(sources, 0), kind, start), base, m):
            return 1
        if count == 1:
            clear(total, m)
            clear(size, m)
        for i in range(count):
            tile, kind = tiles + SPACE * i, get_i64(kinds, i + 1)
            if change(kind, place(get_i64(sources, i + 1), kind, start), 1, base, tile, m):
                return 2 * i + 3
            mask(tile, m, index + start, masks + 64 * i, start)
            if i == 1:
                _weigh_two(
                    tiles,
                    tile,
                    m,
                    float32(get_f64(factors, 0)),
                    float32(get_f64(factors, 1)),
                    total,
                    size,
                )
            elif i > 1 or count == 1:
                _weigh(tile, m, float32(get_f64(factors, i)), total, size)
        if elect:
            _vote(tiles, count, m, factors, weights, total, size, mixed, divisor)
        _finish(mixed if elect else total, divisor, normalize, least, by, base, m)
        if narrow(stored, mixed if elect else total, place(out, stored, start), m):
            return -1
        start += m
    return 0


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
        filled = get_i64(counts, digit)
        set_i64(counts, digit, before)
        before += filled
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
