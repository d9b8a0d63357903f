"""The loop that adds thinned task vectors up, with or without electing a sign for every element."""

from __future__ import annotations

from numba import float32, float64, njit, uint32

from pomona.merge.methods._masks import length, mask
from pomona.merge.methods._tiles import SPACE, change, clear, narrow, place, widen
from pomona.merge.methods._words import bits_of, get_f32, get_f64, get_i64, get_u32, set_f32

CHUNK = 64  # elements looked at together, and one by one only if one of them asks for it


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
    found = uint32(0)
    for j in range(first, last):
        found = uint32(found + uint32(abs(get_f32(total, j)) < get_f32(size, j) * float32(1e-6)))
    return found != 0


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
                found = terms = float64(0)
                for i in range(count):
                    value = float64(get_f32(tiles + SPACE * i, j)) * get_f64(factors, i)
                    found, terms = found + value, terms + abs(value)
                set_f32(total, j, float32(1) if found >= -1e-12 * terms else float32(-1))


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
    found = float64(0)
    for i in range(count):
        found += abs(get_f64(weights, i))
    return float32(3e-7 * found)


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
