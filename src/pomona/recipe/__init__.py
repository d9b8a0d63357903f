"""The run graph: a YAML recipe becomes content-addressed steps, run once each, and a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.recipe.answered import (
        answers_at as answers_at,
        answers_of as answers_of,
        measured_at as measured_at,
        measured_of as measured_of,
        sizes_at as sizes_at,
        systems_of as systems_of,
    )
    from pomona.recipe.graph import Step as Step
    from pomona.recipe.lever import Lever as Lever
    from pomona.recipe.levers import json_schema as json_schema, load_recipe as load_recipe
    from pomona.recipe.plan import RunPlan as RunPlan
    from pomona.recipe.running import (
        DryRun as DryRun,
        Progress as Progress,
        dry_run as dry_run,
        planned_sizes as planned_sizes,
        run as run,
    )
    from pomona.recipe.steps import Cost as Cost, StepContext as StepContext
    from pomona.recipe.steps.tables import read_items as read_items, write_items as write_items
    from pomona.recipe.system import System as System

__getattr__, __dir__ = lazily(
    __name__,
    {
        "answered": "answers_at answers_of measured_at measured_of sizes_at systems_of",
        "graph": "Step",
        "lever": "Lever",
        "levers": "json_schema load_recipe",
        "plan": "RunPlan",
        "running": "DryRun Progress dry_run planned_sizes run",
        "steps": "Cost StepContext",
        "steps.tables": "read_items write_items",
        "system": "System",
    },
)
