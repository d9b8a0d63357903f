"""What compiled loops are written with: numbers at addresses, and loops over one tile, a few
kilobytes that stay in the first cache. Only compiling imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, float32, float64, int64, njit, types, uint16, uint32


def intrinsic(function: Any) -> Any:
    """numba's decorator, without the types that would hide the typing context from callers."""
    return extending.intrinsic(function)


def _load(kind: Any, stored: ir.Type) -> Any:
    @intrinsic
    def load(typing: Any, address: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], stored.as_pointer())
            return builder.load(builder.gep(pointer, [arguments[1]]))

        return kind(types.int64, types.int64), code

    return load


def _store(kind: Any, stored: ir.Type) -> Any:
    @intrinsic
    def store(typing: Any, address: Any, index: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], stored.as_pointer())
            builder.store(arguments[2], builder.gep(pointer, [arguments[1]]))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, kind), code

    return store


_HALF, _SHORT = ir.HalfType(), ir.IntType(16)
get_u16, set_u16 = _load(types.uint16, _SHORT), _store(types.uint16, _SHORT)
get_u32, set_u32 = _load(types.uint32, ir.IntType(32)), _store(types.uint32, ir.IntType(32))
get_i64, set_i64 = _load(types.int64, ir.IntType(64)), _store(types.int64, ir.IntType(64))
get_f32, set_f32 = _load(types.float32, ir.FloatType()), _store(types.float32, ir.FloatType())
get_f64, set_f64 = _load(types.float64, ir.DoubleType()), _store(types.float64, ir.DoubleType())


def _instruction(result: Any, kinds: tuple[Any, ...], emit: Callable[..., Any]) -> Any:
    """A function of machine code: `emit` writes it, from a builder and the arguments."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit(builder, *arguments)

    signature = result(*kinds)
    # numba counts the arguments that these name
    if len(kinds) == 1:
        return intrinsic(lambda typing, value: (signature, code))  # noqa: ARG005
    return intrinsic(lambda typing, one, other, added: (signature, code))  # noqa: ARG005


_FLOAT, _WORD = types.float32, types.uint32
# The float32 of a float16's bits, and the bits of the float16 nearest to it, ties to even.
from_half = _instruction(
    _FLOAT, (types.uint16,), lambda to, bits: to.fpext(to.bitcast(bits, _HALF), ir.FloatType())
)
to_half = _instruction(
    types.uint16, (_FLOAT,), lambda to, value: to.bitcast(to.fptrunc(value, _HALF), _SHORT)
)
# The bits of a float32, and the float32 of its bits.
bits_of = _instruction(_WORD, (_FLOAT,), lambda to, value: to.bitcast(value, ir.IntType(32)))
float_of = _instruction(_FLOAT, (_WORD,), lambda to, bits: to.bitcast(bits, ir.FloatType()))
# one · other + added, rounded once
fma = _instruction(_FLOAT, (_FLOAT, _FLOAT, _FLOAT), lambda to, *values: to.fma(*values))

TILE = 1024
# Bytes from one tile to the next: not a page, or loads seem to wait for stores to other tiles.
SPACE = 4 * TILE + 192
BF16, F16, F32, F64 = 0, 1, 2, 3
# Sums may be reordered; NaN and infinity stay what they are.
LOOSE = {"contract", "reassoc", "nsz", "arcp"}
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
