"""Names whose modules are imported when they are first asked for: those of a package, and those
that a user gives.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError


def lazily(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of `package`, from its modules and what each of them gives to
    the public: names with blanks between.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find, lambda: sorted(homes)


@cache
def function_named(name: str, beside: Path | None = None) -> Callable[..., Any]:
    """The function that `module:function` names; modules in the folder `beside`, the working
    directory when left out, are found too.

    A PomonaError when there is no such module or function.
    """
    module, _, attribute = name.partition(":")
    remedy = "name an importable module and a function in it"
    if (place := str((beside or Path()).resolve())) not in sys.path:
        sys.path.append(place)
    try:
        value = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module may fail in any way
        raise PomonaError(f"cannot be imported: {error}", where=name, remedy=remedy) from error
    if not callable(value):
        raise PomonaError("is no function", where=name, remedy=remedy)
    return value
