"""The merging lever: experts on parts of the data, merged by fixed methods or by a search."""

from __future__ import annotations

from functools import partial

from pomona.recipe.graph import Node, Step
from pomona.recipe.lever_schema import Merge, MergeSearch, MergingLever
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.merging import BASE, merge, search
from pomona.recipe.steps.tables import subset, together


def add_merging(plan: RunPlan) -> None:
    """Measure the mixed model, and every merge against the base and against mixing."""
    spec, base = plan.recipe.levers.merging, plan.recipe.base
    if spec is None or plan.training is None:
        return
    for name, groups in spec.groups.items():
        plan.require_groups(groups, f"levers.merging.experts.{name}")
    mixture = _mixture(plan, spec)
    # On all training items it is what the data lever calls "all data": one result, under that name.
    mixed = plan.measure_trained(
        "merging", "mixed", partial(plan.finetune, "mixed", mixture), (base,)
    )
    for how in spec.methods:
        merged = partial(_merged, plan, spec, how)
        plan.measure_trained("merging", _label(how), merged, (base, mixed))
    if spec.search is not None:
        variant = f"merge/{spec.search.merge} by {spec.search.method}"
        best = partial(_best, plan, spec, spec.search)
        plan.measure_trained("merging", variant, best, (base, mixed))
    if spec.leave_one_out:
        first = spec.methods[0]
        for name in spec.experts:
            variant = f"{_label(first)} without {name}"
            fewer = partial(_merged, plan, spec, first, without=name)
            plan.measure_trained("merging", variant, fewer, (base, _label(first)))


def _label(how: Merge) -> str:
    said = [f"{name}={value:g}" for name, value in how.parameters.items()]
    return " ".join([f"merge/{how.method}", *said])


def _merged(plan: RunPlan, spec: MergingLever, how: Merge, seed: int, without: str = "") -> Step:
    inputs = _experts(plan, spec, seed)
    inputs.pop(f"model-{without}", None)
    variant = _label(how).removeprefix("merge/") + (f" without {without}" if without else "")
    params = {"method": how.method, "parameters": how.parameters, "seed": seed}
    inputs[BASE] = plan.model(plan.recipe.base)
    return plan.step(plan.named(f"merge {variant}", seed), merge, params, inputs)


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
    count = plan.count("items of the search", judged, how.per_group) * how.trials
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
    whole = set(every) == set(plan.recipe.data.groups or [])
    return plan.training if whole else _subset(plan, "mixed", every)


def _part(plan: RunPlan, spec: MergingLever, name: str) -> Step:
    part = spec.experts[name]
    if isinstance(part, list):
        return _subset(plan, name, part)
    train = plan.recipe.train
    assert train is not None
    narrowed = train.model_copy(update={"where": {**train.where, **part}})
    return plan.table(f"items of {name}", narrowed, train.per_group)


def _subset(plan: RunPlan, name: str, groups: list[str]) -> Step:
    assert plan.training is not None
    chosen = {"groups": sorted(groups)}
    return plan.step(f"items of {name}", subset, chosen, {"items": plan.training})
