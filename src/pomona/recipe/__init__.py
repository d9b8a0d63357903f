"""The run graph: a YAML recipe becomes content-addressed steps, run once each, and a ledger."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pomona.recipe._run import DryRun as DryRun
    from pomona.recipe._run import dry_run as dry_run
    from pomona.recipe._run import run as run
    from pomona.recipe.document import json_schema as json_schema
    from pomona.recipe.document import load_recipe as load_recipe
    from pomona.recipe.progress import Progress as Progress

_HOMES = {"DryRun": "_run", "dry_run": "_run", "run": "_run", "json_schema": "document", "load_recipe": "document", "Progress": "progress"}
__all__ = ["DryRun", "Progress", "dry_run", "json_schema", "load_recipe", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
