"""The controls of every run: copying the source, and what the nearest training items were answered
with; where options are chosen by how probable they are, one of them by chance.
"""

from __future__ import annotations

from functools import partial

from pomona.recipe.graph import Step
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.controls import look_up
from pomona.recipe.system import System

CONTROL = "control"


def add_controls(plan: RunPlan) -> None:
    """Measure them against the base. Without training rows there is nothing to look up."""
    if not plan.reads_texts:
        if plan.chooses:
            plan.measure(System("chance", CONTROL, answers=plan.by_chance))
        return
    plan.measure(System("copy", CONTROL, answers=plan.copies))
    if plan.memory is None:
        return
    for name, vote in (("lookup", False), (f"consensus{plan.recipe.controls.neighbours}", True)):
        plan.measure(System(name, CONTROL, answers=partial(_looked_up, plan, name, vote)))


def _looked_up(plan: RunPlan, name: str, vote: bool, items: Step, _: int) -> Step:
    asked = plan.recipe.controls
    params = {
        **plan.compared,
        "vote": vote,
        "neighbours": asked.neighbours,
        "far": asked.far,
    }
    inputs = {"items": items, "neighbours": plan.neighbours(items)}
    return plan.step(plan.on(f"answer by {name}", items), look_up, params, inputs)
