"""Measure what pruned data, merged weights and chosen samples buy against a bigger language model,
on one ledger.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pomona._version import __version__

if TYPE_CHECKING:
    from pomona import data, ledger, merge, models, recipe, records, sample, tasks, train
    from pomona.errors import GateFailed, PomonaError, ResourceError

_ROOMS = ("data", "ledger", "merge", "models", "recipe", "records", "sample", "tasks", "train")
_ERRORS = ("GateFailed", "PomonaError", "ResourceError")
__all__ = [
    "GateFailed",
    "PomonaError",
    "ResourceError",
    "__version__",
    "data",
    "ledger",
    "merge",
    "models",
    "recipe",
    "records",
    "sample",
    "tasks",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"pomona.{name}")
    if name in _ERRORS:
        return getattr(importlib.import_module("pomona.errors"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
