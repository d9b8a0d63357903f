"""What compiled loops are written with: numbers at addresses, half precision, fused multiply-add.
Only compiling imports it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types


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


@intrinsic
def from_half(typing: Any, bits: Any) -> Any:
    """The float32 of a float16's bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], _HALF), ir.FloatType())

    return types.float32(types.uint16), code


@intrinsic
def to_half(typing: Any, value: Any) -> Any:
    """The bits of the float16 nearest to a float32, ties to even."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], _HALF), _SHORT)

    return types.uint16(types.float32), code


@intrinsic
def bits_of(typing: Any, value: Any) -> Any:
    """The bits of a float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), code


@intrinsic
def float_of(typing: Any, bits: Any) -> Any:
    """The float32 of its bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), code


@intrinsic
def fma(typing: Any, one: Any, other: Any, added: Any) -> Any:
    """one · other + added, rounded once."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), code
