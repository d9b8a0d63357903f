"""Compiled loops without the compiler: numba makes the machine code once, the user's cache keeps it, llvmlite alone loads it.

Importing numba and its own cache costs a third of a second at every start, llvmlite a twentieth: a whole merge of a small model takes less.
The code's name in the cache holds a hash of the loops' source, llvmlite's version and the processor, so other code is never taken for it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pomona.files import atomic_file

LOOPS = {  # name of the loop: its module and the number of its arguments, all of them addresses and counts of 64 bits
    "linear": ("_plain", 11),
    "combine": ("_plain", 10),
    "gram": ("_plain", 10),
    "tally": ("_tally", 11),
    "sums": ("_masks", 9),
    "blend": ("_blend", 14),
    "ranks": ("_ranks", 10),
}
_SOURCES = ("_native", "_words", "_tiles", "_plain", "_tally", "_masks", "_blend", "_ranks")
_lock = threading.Lock()
_loaded: dict[str, Callable[..., int]] = {}
_kept: list[Any] = []  # engines own the code


def loop(name: str) -> Callable[..., int]:
    """The compiled loop `name`: takes integers, gives its status. It runs without the interpreter's lock."""
    found = _loaded.get(name)
    if found is None:
        with _lock:
            found = _loaded.get(name) or _loaded.setdefault(name, _load(name))
    return found


def _load(name: str) -> Callable[..., int]:
    file = _folder() / f"{_key()}-{name}.o"
    try:
        content = file.read_bytes()
    except OSError:
        content = b""
    digest, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != digest:
        body = b"\n".join(_compile(name))
        try:
            with atomic_file(file) as partial:
                partial.write_bytes(hashlib.sha256(body).digest() + body)
        except OSError:
            pass  # a home that cannot be written to: compile again next time
    symbol, _, code = body.partition(b"\n")
    address = _link(code, symbol.decode())
    count = LOOPS[name][1]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * count)(address)
    return lambda *arguments: _call(function, arguments)


def _call(function: Any, arguments: tuple[int, ...]) -> int:
    """numba's calling convention: places for the result and for an exception come first."""
    result, raised = ctypes.c_int64(), ctypes.c_void_p()
    if function(ctypes.addressof(result), ctypes.addressof(raised), *arguments):
        raise RuntimeError("a compiled loop failed")
    return result.value


def _folder() -> Path:
    given = os.environ.get("POMONA_CACHE")
    if given:
        return Path(given) / "loops"
    import platformdirs

    return Path(platformdirs.user_cache_dir("pomona")) / "loops"


@cache
def _key() -> str:
    import llvmlite
    import llvmlite.binding as llvm

    digest = hashlib.sha256()
    for source in _SOURCES:
        digest.update(Path(__file__).with_name(f"{source}.py").read_bytes())
    machine = [llvmlite.__version__, llvm.get_default_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    digest.update("\n".join(machine).encode())
    return digest.hexdigest()[:24]


def _compile(name: str) -> tuple[bytes, bytes]:
    """The name of a loop's machine code, and an object file that holds it."""
    import importlib

    import numba

    module, count = LOOPS[name]
    function = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    signature = numba.int64(*[numba.int64] * count)
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled = numba.njit(signature, error_model="numpy", **options)(function)
    (result,) = compiled.overloads.values()
    return result.fndesc.llvm_func_name.encode(), result.library.serialize_using_object_code()[2][0]


def _link(code: bytes, symbol: str) -> int:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _kept.append(engine)
    return engine.get_function_address(symbol)
