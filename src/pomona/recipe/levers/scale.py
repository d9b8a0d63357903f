"""Scale, which every lever is compared with: the base, and every rung against it."""

from __future__ import annotations

from pomona.errors import PomonaError
from pomona.recipe.graph import RunInput
from pomona.recipe.inputs import trained
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps import Served


def add_scale(plan: RunPlan) -> None:
    """Measure the base and the ladder."""
    sizes = dict[object, str]()
    rungs = [rung.model for rung in plan.recipe.ladder or []]
    for uri in dict.fromkeys([plan.recipe.base, *rungs]):
        model = plan.model(uri)
        size: object = model.key
        if isinstance(model, RunInput):
            trained(model.path)  # read now, so that a damaged file is told before anything is done
            size = plan.parameters(model)
        elif isinstance(model, Served):
            size = plan.parameters(model) or model.key
        if (same := sizes.setdefault(size, uri)) != uri:
            message = f'"{uri}" and "{same}" have the same number of parameters'
            raise PomonaError(message, where="ladder", remedy="name one model of each size")
        plan.measure(plan.rung(uri))
