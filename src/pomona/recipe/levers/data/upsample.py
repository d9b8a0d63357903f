"""Upsampling at the end of training: groups of the tail get a larger share of the last part
(Blakeney et al. 2024, arXiv 2406.03476).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona.data.mixing import Mixture, plan_mixture, upsample_end
from pomona.recipe.graph import Cost, Desk, Step
from pomona.recipe.plan import Plan
from pomona.recipe.work import train_and_save, trainable
from pomona.tasks.items import Items

if TYPE_CHECKING:
    from pomona.train.examples import Examples
    from pomona.train.fit import Order, Settings


def finetune(desk: Desk) -> Cost:
    """Continue a model with the raised groups at their natural share first, and at a larger one at
    the end.
    """
    p = desk.params

    def scheduled(items: Items) -> Order:
        raised = np.isin(items.groups, p["groups"] or rarest(items.groups, p["tail"]))

        def order(examples: Examples, tokens: int, settings: Settings) -> list[np.ndarray]:
            names = np.where(raised[examples.rows], "raised", "rest")
            total = examples.lengths.sum(1)
            natural = Mixture(
                {name: float(total[names == name].sum()) for name in ("raised", "rest")}
            )
            final = Mixture({"raised": p["raised"], "rest": 1 - p["raised"]})
            schedule = upsample_end(natural, final, p["last"])
            return plan_mixture(
                examples.lengths,
                names,
                schedule,
                batch_tokens=settings.batch_tokens,
                tokens=tokens,
                seed=settings.seed,
            )

        return order

    return train_and_save(desk, *trainable(desk), scheduled=scheduled)


def rarest(groups: list[str], number: int) -> list[str]:
    """The `number` groups with the fewest rows."""
    counts = Counter(groups)
    return sorted(counts, key=lambda group: (counts[group], group))[:number]


def add(plan: Plan) -> None:
    """Measure every length of the last part, against the base and against all data as they come."""
    spec = plan.recipe.levers.data and plan.recipe.levers.data.upsample
    items, base = plan.training, plan.recipe.base
    if not spec or items is None:
        return
    for last in spec.last:
        variant = f"upsample/last {last:.0%}".replace("%", " %")
        params = {
            "groups": spec.groups,
            "tail": plan.recipe.task.tail,
            "raised": spec.share,
            "last": last,
        }

        def make(seed: int, variant: str = variant, params: dict[str, Any] = params) -> Step:
            return plan.finetune(variant, items, seed, work=finetune, room="data/mixing", **params)

        plan.measure_trained("data", variant, make, (base, "all data"))
