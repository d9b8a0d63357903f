"""Scale: the base and the other rungs of the ladder."""

from __future__ import annotations

from pomona.recipe.plan import Plan


def add(plan: Plan) -> None:
    """Measure the base, and every rung against it."""
    base = plan.recipe.base
    for uri in dict.fromkeys([base, *(rung.model for rung in plan.recipe.ladder or [])]):
        model = plan.model(uri)
        plan.measure("scale", uri, plan.evaluate(uri, model), model, (base,))
