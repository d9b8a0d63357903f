"""Compiling loops. Only this module, and those that loops are written in, import numba."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numba

# 1/0 raises nothing, and no memory is numba's own, which would need its library
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
part: Any = numba.njit(**_OPTIONS)  # the decorator of what loops call


def compiled(module: str, name: str, types: Sequence[str]) -> tuple[bytes, bytes]:
    """The name in machine code of the function `name` of a module, and an object file that holds
    it.
    """
    function = getattr(importlib.import_module(module), name)
    options: dict[str, Any] = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    (result,) = numba.njit(f"i8({', '.join(types)})", **options)(function).overloads.values()
    return result.fndesc.llvm_func_name.encode(), result.library.serialize_using_object_code()[2][0]
