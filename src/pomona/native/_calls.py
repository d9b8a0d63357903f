"""Calling numba's machine code: what it takes in the place of integers, floats and arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

_SCALARS: dict[str, Any] = {"i8": ctypes.c_int64, "f8": ctypes.c_double}


def function_at(address: int, types: Sequence[str]) -> Callable[..., int]:
    """The compiled function at an address, which takes these types and gives back an int64.

    First come places for the result and for an exception. Of an array its owners (there are none),
    how many elements it has and bytes in one, their address, the shape and the strides are
    arguments of their own (numba/_arraystruct.h).
    """
    arrays = [None if kind in _SCALARS else _array(kind) for kind in types]
    slots = [slot for kind in types for slot in _slots(kind)]
    function: Any = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *slots)(
        address
    )

    def call(*arguments: Any) -> int:
        given: list[Any] = []
        for array, argument in zip(arrays, arguments, strict=True):
            given += (argument,) if array is None else _parts(argument, *array)
        result, raised = ctypes.c_int64(), ctypes.c_void_p()
        if function(ctypes.addressof(result), ctypes.addressof(raised), *given):
            raise RuntimeError("a compiled loop failed")
        return result.value

    return call


def _array(kind: str) -> tuple[Any, int]:
    """The element type and the dimensions of numba's name for an array."""
    name, _, layout = kind.partition("[")
    return np.dtype(name), layout.count(",") + 1


def _slots(kind: str) -> Iterator[Any]:
    if kind in _SCALARS:
        yield _SCALARS[kind]
        return
    yield from (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    yield from [ctypes.c_int64] * (2 * _array(kind)[1])


def _parts(array: Any, dtype: Any, dimensions: int) -> tuple[Any, ...]:
    if array.dtype != dtype or array.ndim != dimensions or not array.flags.c_contiguous:
        raise TypeError(
            f"a compiled loop takes {dtype} of {dimensions} dimensions in C order, not "
            f"{array.dtype} {array.shape}"
        )
    return (None, None, array.size, array.itemsize, array.ctypes.data, *array.shape, *array.strides)
