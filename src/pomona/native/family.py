"""Families of compiled loops: made once by numba, kept in the user's cache, loaded and called
without it.

Importing numba and its own cache costs from a third of a second to a whole one at every start,
llvmlite a twentieth. The code's name in the cache holds a hash of the loops' source, llvmlite's
version and the processor, so other code is never taken for it.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pomona.files import atomic_file, cache_folder

_SCALARS: dict[str, Any] = {"i8": ctypes.c_int64, "f8": ctypes.c_double}
# 1/0 raises nothing, and no memory is numba's own, which would need its library
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
_lock = threading.Lock()
_kept: list[Any] = []  # engines own the code
_modules: dict[str, str] = {}  # what the loops of a module are for
_announced: set[str] = set()


class Family:
    """The compiled loops of one package.

    about: what they are for, in the words of whoever waits for them.
    package: an imported package.
    sources: the modules in it that the loops are written in, and by their whole names those of
        other packages that these call; when their text changes, so does the code.
    loops: for each loop the module that defines it and the types of its arguments, as numba writes
        them, with blanks between: "i8" an integer, "f8" a float, "u1[::1]" an array of bytes,
        "u8[:,::1]" a matrix of uint64, row by row.

    A loop is a plain function that gives back an integer. It and all it calls
    (`part`) make no arrays, raise nothing, and trust what they are given:
    callers bring the memory for results, and see to it that no place lies outside of it.
    """

    def __init__(
        self,
        about: str,
        package: str,
        sources: Sequence[str],
        loops: Mapping[str, tuple[str, str]],
    ) -> None:
        self.about, self.package, self.sources, self.loops = about, package, sources, loops
        self._loaded: dict[str, Callable[..., int]] = {}

    def loop(self, name: str) -> Callable[..., int]:
        """The compiled loop `name`. It runs without the interpreter's lock; TypeError for an array
        of another type than it takes.
        """
        if name not in self._loaded:
            with _lock:
                if name not in self._loaded:  # another thread may have been faster
                    self._loaded[name] = self._load(name)
        return self._loaded[name]

    def file(self, name: str) -> Path:
        """Where the code of a loop is kept: in POMONA_CACHE, or the user's cache."""
        return cache_folder() / "loops" / f"{self._key}-{name}.o"

    @cached_property
    def _key(self) -> str:
        import llvmlite
        import llvmlite.binding as llvm

        machine = [
            llvmlite.__version__,
            llvm.get_default_triple(),
            llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten(),
        ]
        digest = hashlib.sha256("\n".join([*machine, self.package, str(self.loops)]).encode())
        own = Path(str(sys.modules[self.package].__file__)).parent
        for source in (
            *(_source(own, name) for name in self.sources),
            *sorted(Path(__file__).parent.glob("*.py")),
        ):
            digest.update(source.read_bytes())
        return digest.hexdigest()[:24]

    def _load(self, name: str) -> Callable[..., int]:
        file = self.file(name)
        try:
            content = file.read_bytes()
        except OSError:
            content = b""
        # Machine code is run as it is, so a file that is not whole must never be taken for it.
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() != digest:
            announce(self.about, f"kept in {file.parent}")
            body = b"\n".join(self._compile(name))
            try:
                with atomic_file(file) as partial:
                    partial.write_bytes(hashlib.sha256(body).digest() + body)
            except OSError:
                pass  # a home that cannot be written to: compile again next time
        symbol, _, code = body.partition(b"\n")
        return _function_at(_link(code, symbol.decode()), self.loops[name][1].split())

    def _compile(self, name: str) -> tuple[bytes, bytes]:
        """The name of a loop's machine code, and an object file that holds it."""
        import numba

        module, types = self.loops[name]
        function = getattr(importlib.import_module(f"{self.package}.{module}"), name)
        options: dict[str, Any] = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        signature = f"i8({', '.join(types.split())})"
        (made,) = numba.njit(signature, **options)(function).overloads.values()
        code = made.library.serialize_using_object_code()[2][0]
        return made.fndesc.llvm_func_name.encode(), code


def _source(own: Path, name: str) -> Path:
    """The file of a module of the package in `own`, or of one that is named wholly."""
    if "." not in name:
        return own / f"{name}.py"
    found = importlib.util.find_spec(name)
    assert found is not None and found.origin is not None
    return Path(found.origin)


def jit(about: str, **options: Any) -> Callable[[Any], Any]:
    """numba's decorator for loops that numba itself calls and keeps beside their source: where one
    is compiled, this is announced first. `about` as in `Family`, `options` as numba has them.
    """
    import numba
    from numba.core import event

    class Compiling(event.Listener):
        def on_start(self, event: Any) -> None:
            function = getattr(event.data.get("dispatcher"), "py_func", None)
            if module := _modules.get(getattr(function, "__module__", "")):
                announce(module, "kept beside the program")

        def on_end(self, event: Any) -> None:
            pass

    if not _modules:
        event.register("numba:compile", Compiling())

    def decorate(function: Any) -> Any:
        _modules[function.__module__] = about
        return numba.njit(cache=True, nogil=True, **options)(function)

    return decorate


def announce(about: str, kept: str) -> None:
    """Say on stderr that loops are compiled, once for what they are for: it takes some seconds to
    a minute, in which nothing else would be said.
    """
    if about not in _announced:
        _announced.add(about)
        sys.stderr.write(f"compiling the loops of {about} for this processor (once; {kept})\n")
        sys.stderr.flush()


def part(function: Any) -> Any:
    """The decorator of what loops call. Only modules that loops are written in use it: it imports
    numba.
    """
    import numba

    return numba.njit(**_OPTIONS)(function)


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


def _function_at(address: int, types: Sequence[str]) -> Callable[..., int]:
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
