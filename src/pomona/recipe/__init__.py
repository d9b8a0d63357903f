"""The run graph: a YAML recipe becomes content-addressed steps, run once each, and a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.recipe.document import json_schema as json_schema, load_recipe as load_recipe
    from pomona.recipe.execute import Progress as Progress
    from pomona.recipe.running import DryRun as DryRun, dry_run as dry_run, run as run

__getattr__, __dir__ = lazily(
    __name__,
    {
        "running": "DryRun dry_run run",
        "document": "json_schema load_recipe",
        "execute": "Progress",
    },
)
