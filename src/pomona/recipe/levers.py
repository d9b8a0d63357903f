"""How each lever's part of a recipe becomes steps and measurements: scale, data, merging,
sampling. What the steps do is in `pomona.recipe.steps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pomona.recipe.graph import Node, Step
from pomona.recipe.lever_schema import Merge, MergeSearch, MergingLever
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.data import deduplicate, finetune_upsampled, score, select
from pomona.recipe.steps.merging import BASE, merge, search
from pomona.recipe.steps.sampling import BOUNDS, choose, draw
from pomona.recipe.steps.tables import subset, together
from pomona.sample import TEMPERATURE, Strategy, parse_strategy

OVER_CHECKPOINTS = ("el2n", "vog", "cat_var", "cat_diff")


def add_levers(plan: RunPlan) -> None:
    """Let every lever that the recipe names add its steps."""
    for add in (_add_scale, _add_data, _add_merging, _add_sampling):
        add(plan)


def _add_scale(plan: RunPlan) -> None:
    """Measure the base, and every rung against it."""
    base = plan.recipe.base
    for uri in dict.fromkeys([base, *(rung.model for rung in plan.recipe.ladder or [])]):
        model = plan.model(uri)
        plan.measure("scale", uri, plan.evaluate(uri, model), model, (base,))


def _add_data(plan: RunPlan) -> None:
    """Measure all data, and every choice of data in the recipe."""
    items = plan.training
    if plan.recipe.levers.data is None or items is None:
        return
    plan.measure_trained(
        "data", "all data", lambda seed: plan.finetune("all data", items, seed), (plan.recipe.base,)
    )
    _add_bands(plan)
    _add_deduplicated(plan)
    _add_upsampled(plan)


def _add_bands(plan: RunPlan) -> None:
    """Measure every band of every score at every share, with a random control of each share."""
    spec, base = plan.recipe.levers.data, plan.recipe.base
    assert spec is not None
    for keep in spec.keep:
        share = f" {keep:.0%}".replace("%", " %") if len(spec.keep) > 1 else ""
        control = f"prune/random{share}"
        _measure_band(plan, control, "", "random", keep, (base,))
        for by, bands in spec.by.items():
            for band in bands:
                name = f"{by} {band}" if len(spec.by) > 1 else band
                _measure_band(plan, f"prune/{name}{share}", by, band, keep, (base, control))


def _measure_band(
    plan: RunPlan, variant: str, by: str, band: str, keep: float, baselines: tuple[str, ...]
) -> None:
    plan.measure_trained(
        "data",
        variant,
        lambda seed: plan.finetune(variant, _selected(plan, variant, by, band, keep, seed), seed),
        baselines,
    )


def _selected(plan: RunPlan, variant: str, by: str, band: str, keep: float, seed: int) -> Step:
    assert plan.training is not None
    name = f"select {variant.removeprefix('prune/')}"
    if band == "random":
        params = {"by": "", "keep": keep, "band": band, "seed": seed}
        return plan.step(plan.named(name, seed), select, params, {"items": plan.training})
    params = {"by": by, "keep": keep, "band": band, "seed": plan.recipe.seed}
    return plan.step(name, select, params, {"items": plan.training, "scores": _scored(plan, by)})


def _scored(plan: RunPlan, by: str) -> Step:
    spec, items = plan.recipe.levers.data, plan.training
    assert spec is not None and items is not None
    over = bool(spec.checkpoints) and by in OVER_CHECKPOINTS
    names = [
        name for name in spec.by if (bool(spec.checkpoints) and name in OVER_CHECKPOINTS) == over
    ]
    models = [
        plan.model(uri)
        for uri in (spec.checkpoints if over and spec.checkpoints else [plan.recipe.base])
    ]
    inputs = {"items": items, **{f"model-{i:04d}": model for i, model in enumerate(models)}}
    params = {**plan.answering(), "scores": names, "memorize": spec.memorize}
    cost = plan.estimate("score", models[0], plan.training_count * len(models))
    name = f"score {'checkpoints' if over else 'training items'}"
    return plan.step(name, score, params, inputs, cost)


def _add_deduplicated(plan: RunPlan) -> None:
    """Measure the deduplicated data against the base, all data, and a random part of the same
    number of rows.
    """
    spec = plan.recipe.levers.data and plan.recipe.levers.data.dedup
    items, base = plan.training, plan.recipe.base
    if not spec or items is None:
        return

    def kept(name: str, seed: int, random: bool) -> Step:
        params = {"threshold": spec.threshold, "seed": seed, "random": random}
        return plan.step(name, deduplicate, params, {"items": items})

    def control(seed: int) -> Step:
        rows = kept(plan.named("random part", seed), seed, True)
        return plan.finetune("dedup/random", rows, seed)

    def deduplicated(seed: int) -> Step:
        return plan.finetune("dedup/minhash", kept("deduplicate", plan.recipe.seed, False), seed)

    plan.measure_trained("data", "dedup/random", control, (base,))
    plan.measure_trained("data", "dedup/minhash", deduplicated, (base, "all data", "dedup/random"))


def _add_upsampled(plan: RunPlan) -> None:
    """Measure every length of the last part, in which groups of the tail get a larger share,
    against the base and against all data as they come (Blakeney et al. 2024, arXiv 2406.03476).
    """
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
            return plan.finetune(variant, items, seed, work=finetune_upsampled, **params)

        plan.measure_trained("data", variant, make, (base, "all data"))


def _add_merging(plan: RunPlan) -> None:
    """Measure the mixed model, and every merge against the base and against mixing."""
    spec, base = plan.recipe.levers.merging, plan.recipe.base
    if spec is None or plan.training is None:
        return
    mixture = _mixture(plan, spec)
    plan.measure_trained(
        "merging", "mixed", lambda seed: plan.finetune("mixed", mixture, seed), (base,)
    )
    for how in spec.methods:
        plan.measure_trained(
            "merging", _label(how), partial(_merged, plan, spec, how), (base, "mixed")
        )
    if spec.search is not None:
        plan.measure_trained(
            "merging",
            _searched(spec.search),
            partial(_best, plan, spec, spec.search),
            (base, "mixed"),
        )
    if spec.leave_one_out:
        first = spec.methods[0]
        for name in spec.experts:
            variant = f"{_label(first)} without {name}"
            plan.measure_trained(
                "merging",
                variant,
                partial(_merged, plan, spec, first, without=name),
                (base, _label(first)),
            )


def _label(how: Merge) -> str:
    return " ".join(
        [f"merge/{how.method}", *(f"{name}={value:g}" for name, value in how.parameters.items())]
    )


def _merged(plan: RunPlan, spec: MergingLever, how: Merge, seed: int, without: str = "") -> Step:
    inputs = {
        name: model
        for name, model in _experts(plan, spec, seed).items()
        if name != f"model-{without}"
    }
    variant = _label(how).removeprefix("merge/") + (f" without {without}" if without else "")
    params = {"method": how.method, "parameters": how.parameters, "seed": seed}
    inputs[BASE] = plan.model(plan.recipe.base)
    return plan.step(plan.named(f"merge {variant}", seed), merge, params, inputs)


def _searched(search: MergeSearch) -> str:
    return f"merge/{search.merge} by {search.method}"


def _best(plan: RunPlan, spec: MergingLever, how: MergeSearch, seed: int) -> Step:
    judged = plan.recipe.task.model_copy(update={"where": how.where})
    items = plan.table("items of the search", judged, how.per_group)
    params = {
        **plan.answering(),
        "merge": how.merge,
        "method": how.method,
        "trials": how.trials,
        "metric": how.metric,
        "max_new_tokens": plan.recipe.task.max_new_tokens,
        "seed": seed,
    }
    count = plan.count(judged, how.per_group) * how.trials
    inputs = {**_experts(plan, spec, seed), BASE: plan.model(plan.recipe.base), "items": items}
    cost = plan.estimate("score" if how.metric == "loss" else "generate", inputs[BASE], count)
    return plan.step(plan.named(f"search {how.merge}", seed), search, params, inputs, cost)


def _experts(plan: RunPlan, spec: MergingLever, seed: int) -> dict[str, Node]:
    share = 1 / len(spec.experts)
    return {
        f"model-{name}": plan.finetune(f"expert {name}", _part(plan, spec, name), seed, share)
        for name in spec.experts
    }


def _mixture(plan: RunPlan, spec: MergingLever) -> Step:
    assert plan.training is not None
    every = sorted(group for groups in spec.groups.values() for group in groups)
    if len(spec.groups) < len(spec.experts):
        parts = {name: _part(plan, spec, name) for name in spec.experts}
        return plan.step("items of all", together, {}, parts)
    return (
        plan.training
        if set(every) == set(plan.recipe.data.groups or [])
        else _subset(plan, "mixed", every)
    )


def _part(plan: RunPlan, spec: MergingLever, name: str) -> Step:
    part = spec.experts[name]
    if isinstance(part, list):
        return _subset(plan, name, part)
    train = plan.recipe.train
    assert train is not None
    return plan.table(
        f"items of {name}",
        train.model_copy(update={"where": {**train.where, **part}}),
        train.per_group,
    )


def _subset(plan: RunPlan, name: str, groups: list[str]) -> Step:
    assert plan.training is not None
    return plan.step(
        f"items of {name}", subset, {"groups": sorted(groups)}, {"items": plan.training}
    )


def _add_sampling(plan: RunPlan) -> None:
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
        step = plan.step(f"sample {_pool_name(drawn)}", draw, params, inputs, cost)
        mine = [strategy for strategy in strategies if _family(strategy) == pool]
        bounds = {_pool_name(strategy): strategy for strategy in mine}
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


def _pool_name(strategy: Strategy) -> str:
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
