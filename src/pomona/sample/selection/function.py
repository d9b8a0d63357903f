"""Functions named by `module:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError


@cache
def function(name: str) -> Callable[..., Any]:
    """The function that `module:function` names; modules in the working directory are found too.

    A PomonaError when there is no such module or function.
    """
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        value = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module may fail in any way
        raise PomonaError(
            f"cannot be imported: {error}",
            where=name,
            remedy="name an importable module and a function in it",
        ) from error
    if not callable(value):
        raise PomonaError(
            "is no function", where=name, remedy="name an importable module and a function in it"
        )
    return value
