"""The sampling lever: pools that strategies share, and the choice of each strategy."""

from __future__ import annotations

from dataclasses import replace

from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.sampling import BOUNDS, RANDOM, choose, draw
from pomona.sample import TEMPERATURE, Strategy, parse_strategy


def add_sampling(plan: RunPlan) -> None:
    """Measure every strategy against the base and a random choice from its pool, and what the pool
    could win or lose. A pool is drawn once: small ones are the beginnings of large ones.
    """
    spec, base = plan.recipe.levers.sampling, plan.recipe.base
    strategies = [parse_strategy(name) for name in spec.strategies] if spec else []
    model = plan.model(base)
    sizes: dict[Strategy, int] = {}
    for strategy in strategies:
        sizes[_family(strategy)] = max(strategy.n, sizes.get(_family(strategy), 0))
    for pool, n in sizes.items():
        drawn = replace(pool, n=n)
        longest = plan.recipe.task.max_new_tokens
        params = {**plan.answering(), "pool": drawn.name, "max_new_tokens": longest}
        cost = plan.estimate("generate", model, plan.item_count, n)
        inputs = {"items": plan.items, "model": model}
        step = plan.step(f"sample {_pool_name(drawn)}", draw, params, inputs, cost)
        mine = [strategy for strategy in strategies if _family(strategy) == pool]
        wanted = [(strategy.name, strategy, "strategy") for strategy in mine]
        for label, strategy in {_pool_name(strategy): strategy for strategy in mine}.items():
            wanted += [(f"{label}/{other}", strategy, other) for other in (RANDOM, *BOUNDS)]
        for name, strategy, how in wanted:
            chance = (f"{_pool_name(strategy)}/{RANDOM}",) if how == "strategy" else ()
            choice = {"strategy": strategy.name, "choose": how}
            choice |= {"metric": plan.recipe.task.metric, "seed": plan.recipe.seed}
            inputs = {"items": plan.items, "pools": step}
            chosen = plan.step(f"choose {name}", choose, choice, inputs)
            baselines = (base, *chance)
            plan.measure("sampling", name, chosen, model, baselines, bound=how in BOUNDS)


def _family(strategy: Strategy) -> Strategy:
    """What pools have in common of which the small ones begin the large ones; those of a ladder do
    not.
    """
    temperature = strategy.temperature or TEMPERATURE
    n = strategy.n if strategy.pool == "ladder" else 2
    return Strategy(
        pool=strategy.pool, n=n, temperature=temperature, top_p=strategy.top_p, min_p=strategy.min_p
    )


def _pool_name(strategy: Strategy) -> str:
    """The pool's part of a strategy's name: hedged5, sample16-t1-minp0.1."""
    temperature = None if strategy.temperature == TEMPERATURE else strategy.temperature
    pool = replace(_family(strategy), n=strategy.n, temperature=temperature)
    return pool.name.replace("-first", "")
