"""The run graph: a YAML recipe becomes content-addressed steps, run once each, and a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.recipe._run import DryRun as DryRun
    from pomona.recipe._run import dry_run as dry_run
    from pomona.recipe._run import run as run
    from pomona.recipe.document import json_schema as json_schema
    from pomona.recipe.document import load_recipe as load_recipe
    from pomona.recipe.progress import Progress as Progress

_HOMES = {"DryRun": "_run", "dry_run": "_run", "run": "_run", "json_schema": "document", "load_recipe": "document", "Progress": "progress"}
__all__ = ["DryRun", "Progress", "dry_run", "json_schema", "load_recipe", "run"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
