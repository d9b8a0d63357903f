"""Sampling: a pool of answers from the base and a choice among them, with the pool's hope and risk
as bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pomona.recipe.plan import Plan
from pomona.recipe.steps.sampling import BOUNDS, choose, draw
from pomona.sample.pool import TEMPERATURE
from pomona.sample.strategy import Strategy, parse_strategy


def add(plan: Plan) -> None:
    """Measure every strategy, and what its pool could win or lose. A pool is drawn once: small ones
    are the beginnings of large ones.
    """
    spec, base = plan.recipe.levers.sampling, plan.recipe.base
    strategies = [parse_strategy(name) for name in spec.strategies] if spec else []
    model, sizes = plan.model(base), _sizes(strategies)
    for pool, n in sizes.items():
        drawn = replace(pool, n=n)
        params = {
            **plan.answering(),
            "pool": drawn.name,
            "max_new_tokens": plan.recipe.task.max_new_tokens,
        }
        cost = plan.estimate("generate", model, plan.item_count, n)
        inputs = {"items": plan.items, "model": model}
        step = plan.step(f"sample {_label(drawn)}", draw, params, inputs, cost)
        mine = [strategy for strategy in strategies if _family(strategy) == pool]
        bounds = {_label(strategy): strategy for strategy in mine}
        wanted = [(strategy.name, strategy, "strategy") for strategy in mine]
        wanted += [
            (f"{label}/{bound}", strategy, bound)
            for label, strategy in bounds.items()
            for bound in BOUNDS
        ]
        for name, strategy, how in wanted:
            choice = {
                "strategy": strategy.name,
                "choose": how,
                "metric": plan.recipe.task.metric,
                "seed": plan.recipe.seed,
            }
            chosen = plan.step(
                f"choose {name}", choose, choice, {"items": plan.items, "pools": step}
            )
            plan.measure("sampling", name, chosen, model, (base,), bound=how in BOUNDS)


def _family(strategy: Strategy) -> Strategy:
    """What pools have in common of which the small ones begin the large ones; those of a ladder do
    not.
    """
    temperature = strategy.temperature or TEMPERATURE
    n = strategy.n if strategy.pool == "ladder" else 2
    return Strategy(
        pool=strategy.pool, n=n, temperature=temperature, top_p=strategy.top_p, min_p=strategy.min_p
    )


def _sizes(strategies: Sequence[Strategy]) -> dict[Strategy, int]:
    sizes: dict[Strategy, int] = {}
    for strategy in strategies:
        sizes[_family(strategy)] = max(strategy.n, sizes.get(_family(strategy), 0))
    return sizes


def _label(strategy: Strategy) -> str:
    """The pool's part of a strategy's name: hedged5, sample16-t1-minp0.1."""
    temperature = None if strategy.temperature == TEMPERATURE else strategy.temperature
    pool = Strategy(
        pool=strategy.pool,
        n=strategy.n,
        temperature=temperature,
        top_p=strategy.top_p,
        min_p=strategy.min_p,
    )
    return pool.name.replace("-first", "")
