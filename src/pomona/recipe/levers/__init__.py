"""How each lever's part of a recipe becomes steps and measurements, one file a lever. What the
steps do is in `pomona.recipe.steps`.
"""

from __future__ import annotations

from pomona.errors import PomonaError
from pomona.recipe.graph import RunInput
from pomona.recipe.inputs import trained
from pomona.recipe.levers.controls import add_controls
from pomona.recipe.levers.data import add_data
from pomona.recipe.levers.merging import add_merging
from pomona.recipe.levers.sampling import add_sampling
from pomona.recipe.plan import RunPlan


def add_levers(plan: RunPlan) -> None:
    """Let every lever that the recipe names add its steps."""
    for add in (_add_scale, add_controls, add_data, add_merging, add_sampling):
        add(plan)


def _add_scale(plan: RunPlan) -> None:
    """Measure the base, and every rung against it."""
    base, sizes = plan.recipe.base, dict[object, str]()
    for uri in dict.fromkeys([base, *(rung.model for rung in plan.recipe.ladder or [])]):
        model = plan.model(uri)
        size: object = model.key
        if isinstance(model, RunInput):
            trained(model.path)  # read now, so that a damaged file is told before anything is done
            size = plan.parameters(model)
        if (same := sizes.setdefault(size, uri)) != uri:
            message = f'"{uri}" and "{same}" have the same number of parameters'
            raise PomonaError(message, where="ladder", remedy="name one model of each size")
        plan.measure("scale", uri, plan.evaluate(uri, model), model, (base,))
