"""Merging: experts per set of groups, merged, beside one model trained on the mixed data with the same total tokens."""

from __future__ import annotations

from functools import partial

from pomona.merge.checkpoint import merge_checkpoints
from pomona.merge.weights import linear, normalised, slerp_all
from pomona.recipe.graph import Cost, Desk, Step
from pomona.recipe.plan import Plan
from pomona.recipe.work import checkpoint, read_items, write_items
from pomona.tasks.items import limit

METHODS = {"linear": linear, "slerp": slerp_all}


def subset(desk: Desk) -> Cost:
    """The training items of some groups."""
    write_items(desk.out, limit(read_items(desk.inputs["items"]), None, desk.params["groups"]))
    return Cost()


def merge(desk: Desk) -> Cost:
    """One checkpoint out of the experts, all with the same weight."""
    folders = [checkpoint(desk.inputs[name]) for name in sorted(desk.inputs)]
    weights = normalised([1.0] * len(folders))
    rule = METHODS[desk.params["method"]]
    merge_checkpoints(folders, desk.out / "model", lambda tensors: rule(tensors, weights))
    return Cost()


def add(plan: Plan) -> None:
    """Measure the mixed model, and every merge against the base and against mixing."""
    spec, base = plan.recipe.levers.merging, plan.recipe.base
    if spec is None or plan.training is None:
        return
    everything = {group for groups in spec.experts.values() for group in groups}
    all_of_them = everything == set(plan.recipe.data.groups or [])
    mixture = plan.training if all_of_them else _subset(plan, "mixed", sorted(everything))
    plan.measure_trained("merging", "mixed", lambda seed: plan.finetune("mixed", mixture, seed), (base,))

    def merged(seed: int, method: str) -> Step:
        experts = {
            f"model-{name}": plan.finetune(f"expert {name}", _subset(plan, name, groups), seed, 1 / len(spec.experts))
            for name, groups in spec.experts.items()
        }
        return plan.add(Step(plan.named(f"merge {method}", seed), "merge", merge, {"method": method}, experts))

    for method in spec.methods:
        plan.measure_trained("merging", f"merge/{method}", partial(merged, method=method), (base, "mixed"))


def _subset(plan: Plan, name: str, groups: list[str]) -> Step:
    assert plan.training is not None
    return plan.add(Step(f"items of {name}", "recipe/levers/merging.py", subset, {"groups": sorted(groups)}, {"items": plan.training}))
