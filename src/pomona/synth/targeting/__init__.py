"""Where data or a model are thin or weak, how many rows to ask for there, and prompts for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.targeting.planning import shares_asked as shares_asked
    from pomona.synth.targeting.recipe import (
        TargetsRecipe as TargetsRecipe,
        load_targets as load_targets,
        targets_schema as targets_schema,
    )
    from pomona.synth.targeting.results import Cell as Cell, Plan as Plan
    from pomona.synth.targeting.run import plan_targets as plan_targets

__getattr__, __dir__ = lazily(
    __name__,
    {
        "planning": "shares_asked",
        "recipe": "TargetsRecipe load_targets targets_schema",
        "results": "Cell Plan",
        "run": "plan_targets",
    },
)
