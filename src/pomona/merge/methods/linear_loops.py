"""Loops of the methods that weigh whole tensors: linear combinations, and the scalar products that
their coefficients are made of.

Arguments are addresses and counts: `sources` and `kinds` hold an address and a type for each block,
the base's first. The result is 0, or 2·i + 1 when block i holds NaN or infinity, 2·i + 2 when it
holds a number too large for the type computed in, −1 when a result is too large.
"""

from __future__ import annotations

from numba import float32, float64, njit, uint32

from pomona.merge.methods.tile_loops import (
    LOOSE,
    SPACE,
    TILE,
    change,
    clear,
    fma,
    get_f32,
    get_f64,
    get_i64,
    get_u32,
    narrow,
    place,
    round_to,
    set_f32,
    set_f64,
    set_u32,
    widen,
)


@njit(error_model="numpy")
def _add(total, tile, n, factor):
    for j in range(n):
        set_f32(total, j, fma(get_f32(tile, j), factor, get_f32(total, j)))


@njit(error_model="numpy")
def _divide(total, n, divisor):
    for j in range(n):
        set_f32(total, j, get_f32(total, j) / divisor)


@njit(error_model="numpy")
def _fill(tile, n, value):
    for j in range(n):
        set_f32(tile, j, value)


def linear(sources, kinds, count, n, weights, divisor, first, compute, out, stored, scratch):
    """Σ w·x / divisor in the order of the inputs, one rounding at each addition, as mergekit has
    it. weights: float32s; divisor: a float32.

    first: a float32 that the sum begins with. compute: the type inputs and result are rounded to
        before the result is stored.
    """
    total, tile = scratch, scratch + SPACE
    for start in range(0, n, TILE):
        m = min(TILE, n - start)
        _fill(total, m, get_f32(first, 0))
        for i in range(count):
            kind = get_i64(kinds, i)
            if widen(kind, place(get_i64(sources, i), kind, start), tile, m):
                return 2 * i + 1
            if kind != compute and round_to(compute, tile, m):
                return 2 * i + 2
            _add(total, tile, m, get_f32(weights, i))
        if get_f32(divisor, 0) != float32(1):
            _divide(total, m, get_f32(divisor, 0))
        if compute != stored and round_to(compute, total, m):
            return -1
        if narrow(stored, total, place(out, stored, start), m):
            return -1
    return 0


def combine(sources, kinds, count, n, based, row, factors, out, stored, scratch):
    """Σ f·x, or with a base b + Σ f·(x − b). factors: float32s, `count` for every `row` elements,
    none for the base.
    """
    total, tile, base = scratch, scratch + SPACE, scratch + 2 * SPACE
    for r in range((n + row - 1) // row):
        for start in range(r * row, min(n, (r + 1) * row), TILE):
            m = min(TILE, min(n, (r + 1) * row) - start)
            clear(total, m)
            kind = get_i64(kinds, 0)
            if based and widen(kind, place(get_i64(sources, 0), kind, start), base, m):
                return 1
            for i in range(count):
                kind = get_i64(kinds, i + based)
                if change(
                    kind, place(get_i64(sources, i + based), kind, start), based, base, tile, m
                ):
                    return 2 * (i + based) + 1
                _add(total, tile, m, get_f32(factors, r * count + i))
            if based:
                _add(total, base, m, float32(1))
            if narrow(stored, total, place(out, stored, start), m):
                return -1
    return 0


@njit(error_model="numpy", fastmath=LOOSE)
def _product(one, other, n):
    total = float32(0)
    for j in range(n):
        total += get_f32(one, j) * get_f32(other, j)
    return total


@njit(error_model="numpy", fastmath=LOOSE)
def _exact_product(one, other, n):
    total = float64(0)
    for j in range(n):
        total += float64(get_f32(one, j)) * float64(get_f32(other, j))
    return total


@njit(error_model="numpy", fastmath=LOOSE)
def _conflicts(tiles, count, n):
    """Elements of which one tile has a positive and another a negative number."""
    positive, negative = tiles + SPACE * (count + 1), tiles + SPACE * (count + 2)
    clear(positive, n)
    clear(negative, n)
    for i in range(count):
        tile = tiles + SPACE * i
        for j in range(n):
            value = get_f32(tile, j)
            set_u32(positive, j, uint32(get_u32(positive, j) | uint32(value > 0)))
            set_u32(negative, j, uint32(get_u32(negative, j) | uint32(value < 0)))
    unlike = uint32(0)
    for j in range(n):
        unlike = uint32(unlike + uint32(get_u32(positive, j) & get_u32(negative, j)))
    return unlike


def gram(sources, kinds, count, n, based, row, exact, products, signs, scratch):
    """For every `row` elements the scalar products of all pairs of x, or of x − b: a float64 for
    each i ≤ j, row by row.

    Summed in float64, but within 1024 elements in float32 unless `exact`. signs: where not 0, two
    float64s, to which the number of elements whose signs differ and the base's squared norm are
    added.
    """
    base, pairs = scratch + SPACE * count, count * (count + 1) // 2
    for r in range((n + row - 1) // row):
        for start in range(r * row, min(n, (r + 1) * row), TILE):
            m = min(TILE, min(n, (r + 1) * row) - start)
            kind = get_i64(kinds, 0)
            if based and widen(kind, place(get_i64(sources, 0), kind, start), base, m):
                return 1
            for i in range(count):
                kind = get_i64(kinds, i + based)
                if change(
                    kind,
                    place(get_i64(sources, i + based), kind, start),
                    based,
                    base,
                    scratch + SPACE * i,
                    m,
                ):
                    return 2 * (i + based) + 1
            pair = r * pairs
            for i in range(count):
                for k in range(i, count):
                    one, other = scratch + SPACE * i, scratch + SPACE * k
                    product = float64(0) if exact else float64(_product(one, other, m))
                    if exact or not abs(product) < 1e38:  # float32 sums can overflow
                        product = _exact_product(one, other, m)
                    set_f64(products, pair, get_f64(products, pair) + product)
                    pair += 1
            if signs:
                set_f64(signs, 0, get_f64(signs, 0) + _conflicts(scratch, count, m))
                if based:
                    set_f64(signs, 1, get_f64(signs, 1) + _product(base, base, m))
    return 0
