"""Loops over one tile, a few kilobytes that stay in the first cache: stored numbers to float32 and
back, with the search for NaN.
"""

from __future__ import annotations

from numba import float32, float64, int64, njit, uint16, uint32

from pomona.merge.methods._words import (
    float_of,
    from_half,
    get_f32,
    get_f64,
    get_u16,
    get_u32,
    set_f32,
    set_f64,
    set_u16,
    set_u32,
    to_half,
)

TILE = 1024
SPACE = (
    4 * TILE + 192
)  # bytes from one tile to the next: not a page, or loads seem to wait for stores to other tiles
BF16, F16, F32, F64 = 0, 1, 2, 3
LOOSE = {
    "contract",
    "reassoc",
    "nsz",
    "arcp",
}  # sums may be reordered; NaN and infinity stay what they are
_INF = uint32(0x7F800000)


@njit(error_model="numpy")
def width(kind):
    """Bytes of a stored number."""
    return 2 if kind <= F16 else (4 if kind == F32 else 8)


@njit(error_model="numpy")
def worst(tile, n):
    """Whether a float32 tile holds NaN or infinity."""
    most = uint32(0)
    for j in range(n):
        most = max(most, get_u32(tile, j) & uint32(0x7FFFFFFF))
    return most >= _INF


@njit(error_model="numpy")
def widen(kind, source, tile, n):
    """Stored numbers to a float32 tile. True when there is a NaN or an infinity among them."""
    if kind == BF16:
        low = uint16(0)
        for j in range(n):
            bits = get_u16(source, j)
            set_u32(tile, j, uint32(bits) << uint32(16))
            low = max(low, uint16(bits & uint16(0x7FFF)))
        return low >= uint16(0x7F80)
    if kind == F16:
        low = uint16(0)
        for j in range(n):
            bits = get_u16(source, j)
            set_f32(tile, j, from_half(bits))
            low = max(low, uint16(bits & uint16(0x7FFF)))
        return low >= uint16(0x7C00)
    if kind == F32:
        most = uint32(0)
        for j in range(n):
            word = get_u32(source, j)
            set_u32(tile, j, word)
            most = max(most, word & uint32(0x7FFFFFFF))
        return most >= _INF
    for j in range(n):
        set_f32(tile, j, float32(get_f64(source, j)))
    return worst(tile, n)


@njit(error_model="numpy")
def _upper(word):
    """The upper half of a float32's bits, rounded to nearest, ties to even: bfloat16."""
    return (word + uint32(0x7FFF) + ((word >> uint32(16)) & uint32(1))) >> uint32(16)


@njit(error_model="numpy")
def narrow(kind, tile, out, n):
    """A float32 tile to stored numbers, rounded to nearest, ties to even. True when a number is too
    large, or is none.
    """
    if kind == BF16:
        low = uint16(0)
        for j in range(n):
            bits = uint16(_upper(get_u32(tile, j)))
            set_u16(out, j, bits)
            low = max(low, uint16(bits & uint16(0x7FFF)))
        return low >= uint16(0x7F80)
    if kind == F16:
        low = uint16(0)
        for j in range(n):
            bits = to_half(get_f32(tile, j))
            set_u16(out, j, bits)
            low = max(low, uint16(bits & uint16(0x7FFF)))
        return low >= uint16(0x7C00)
    if kind == F32:
        for j in range(n):
            set_u32(out, j, get_u32(tile, j))
    else:
        for j in range(n):
            set_f64(out, j, float64(get_f32(tile, j)))
    return worst(tile, n)


@njit(error_model="numpy")
def round_to(kind, tile, n):
    """A float32 tile rounded to what `kind` can hold. True when a number is too large for it."""
    if kind == BF16:
        for j in range(n):
            set_u32(tile, j, _upper(get_u32(tile, j)) << uint32(16))
        return worst(tile, n)
    if kind == F16:
        for j in range(n):
            set_f32(tile, j, from_half(to_half(get_f32(tile, j))))
        return worst(tile, n)
    return False


@njit(error_model="numpy")
def change(kind, source, based, base, tile, n):
    """Stored numbers to a float32 tile, if `based` minus the tile of the base. True when there is a
    NaN or an infinity among them.
    """
    if not based:
        return widen(kind, source, tile, n)
    if kind == BF16:
        low = uint16(0)
        for j in range(n):
            bits = get_u16(source, j)
            set_f32(tile, j, float_of(uint32(uint32(bits) << uint32(16))) - get_f32(base, j))
            low = max(low, uint16(bits & uint16(0x7FFF)))
        return low >= uint16(0x7F80)
    if widen(kind, source, tile, n):
        return True
    for j in range(n):
        set_f32(tile, j, get_f32(tile, j) - get_f32(base, j))
    return False


@njit(error_model="numpy")
def clear(tile, n):
    """Zero a tile."""
    for j in range(n):
        set_u32(tile, j, uint32(0))


@njit(error_model="numpy")
def place(address, kind, index):
    """The address of element `index`."""
    return address + int64(width(kind)) * index
