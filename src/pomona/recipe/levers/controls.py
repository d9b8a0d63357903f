"""The controls of every run: copying the source, and what the nearest training items were answered
with.
"""

from __future__ import annotations

from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.controls import look_up

CONTROL = "control"


def add_controls(plan: RunPlan) -> None:
    """Measure them against the base. Without training rows there is nothing to look up."""
    recipe = plan.recipe
    plan.measure(CONTROL, "copy", plan.copies, None, (recipe.base,))
    if plan.neighbours is None:
        return
    for name, vote in (("lookup", False), (f"consensus{recipe.controls.neighbours}", True)):
        params = {"metric": recipe.task.metric, "vote": vote, "far": recipe.controls.far}
        inputs = {"items": plan.items, "neighbours": plan.neighbours}
        step = plan.step(f"answer by {name}", look_up, params, inputs)
        plan.measure(CONTROL, name, step, None, (recipe.base,))
