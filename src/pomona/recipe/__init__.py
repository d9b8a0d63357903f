"""The run graph: a YAML recipe becomes content-addressed steps, run once each, and a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.recipe.running import (
        DryRun as DryRun,
        Progress as Progress,
        dry_run as dry_run,
        run as run,
    )
    from pomona.recipe.schema import json_schema as json_schema, load_recipe as load_recipe

__getattr__, __dir__ = lazily(
    __name__,
    {
        "running": "DryRun Progress dry_run run",
        "schema": "json_schema load_recipe",
    },
)
