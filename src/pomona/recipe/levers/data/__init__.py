"""Data: continue the base on data that was chosen, beside all data as they come."""

from __future__ import annotations

from pomona.recipe.levers.data import dedup, prune, upsample
from pomona.recipe.plan import Plan


def add(plan: Plan) -> None:
    """Measure all data, and every choice of data in the recipe."""
    items = plan.training
    if plan.recipe.levers.data is None or items is None:
        return
    plan.measure_trained(
        "data", "all data", lambda seed: plan.finetune("all data", items, seed), (plan.recipe.base,)
    )
    for part in (prune, dedup, upsample):
        part.add(plan)
