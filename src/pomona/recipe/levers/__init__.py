"""One file a lever: how its part of a recipe becomes steps and measurements."""

from __future__ import annotations

from pomona.recipe.levers import data, merging, sampling, scale
from pomona.recipe.plan import Plan

LEVERS = (scale, data, merging, sampling)


def add_all(plan: Plan) -> None:
    """Let every lever that the recipe names add its steps."""
    for lever in LEVERS:
        lever.add(plan)
