"""Merging: experts on parts of the data, merged, beside one model trained on the mixed data with
the same total tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pomona.files import write_json
from pomona.ledger.flops import Meter
from pomona.merge import merge as merge_checkpoints
from pomona.recipe.graph import Cost, Desk, Step
from pomona.recipe.lever_schema import Merge, MergeSearch, MergingLever
from pomona.recipe.plan import Node, Plan
from pomona.recipe.work import checkpoint, read_items, write_items
from pomona.tasks.items import limit

BASE = "base"
FROM_EXPERTS = ("linear", "multislerp", "nuslerp")  # these need no base


def subset(desk: Desk) -> Cost:
    """The training items of some groups."""
    write_items(desk.out, limit(read_items(desk.inputs["items"]), None, desk.params["groups"]))
    return Cost()


def together(desk: Desk) -> Cost:
    """The training items of all experts, each once."""
    parts = [read_items(desk.inputs[name]) for name in sorted(desk.inputs)]
    rows = {id_: (part, row) for part in parts for row, id_ in enumerate(part.ids)}
    ordered = sorted(rows)
    columns = [
        [getattr(rows[id_][0], field)[rows[id_][1]] for id_ in ordered]
        for field in ("ids", "prompts", "completions", "groups")
    ]
    write_items(desk.out, type(parts[0])(*columns))
    return Cost()


def merge(desk: Desk) -> Cost:
    """One checkpoint out of the experts, all treated alike."""
    p, models = desk.params, _models(desk)
    recipe = merge_recipe(p["method"], [name for name in models if name != BASE], p["parameters"])
    merge_checkpoints(
        recipe,
        desk.out / "model",
        models=models,
        seed=p["seed"],
        threads=desk.runtime.threads,
        report=False,
    )
    return Cost()


def search(desk: Desk) -> Cost:
    """One checkpoint out of the experts, with the weights that do best on other items than the test
    ones; `search.json` has all trials.
    """
    from pomona.merge.planning.plan import plan_merge
    from pomona.merge.search import Judge, OnItems, Space, search as search_space

    p, models = desk.params, _models(desk)
    experts = [name for name in models if name != BASE]

    def recipe_of(weights: Mapping[str, Any]) -> dict[str, Any]:
        return merge_recipe(p["merge"], experts, {}, weights)

    judge = Judge(
        p["metric"],
        max_new_tokens=p["max_new_tokens"],
        chat=p["chat"],
        dtype=p["dtype"],
        device=desk.runtime.device,
        threads=desk.runtime.threads,
    )
    with Meter() as meter:
        found = search_space(
            lambda weights: plan_merge(recipe_of(weights), models=models, seed=p["seed"]),
            Space.of(dict.fromkeys(experts, (0.0, 1.0))),
            OnItems(judge, read_items(desk.inputs["items"])),
            method=p["method"],
            trials=p["trials"],
            seed=p["seed"],
            log=desk.bench / "trials.jsonl",
            progress=desk.advance,
        )
        best = dict(found.best.values)
        merge_checkpoints(
            recipe_of(best),
            desk.out / "model",
            models=models,
            seed=p["seed"],
            threads=desk.runtime.threads,
            report=False,
        )
    trials = [{"weights": dict(trial.values), p["metric"]: trial.value} for trial in found.trials]
    write_json(desk.out / "search.json", {"best": best, "trials": trials})
    return Cost(found.flops, found.tokens, meter.cpu_seconds, meter.wall_seconds)


def _models(desk: Desk) -> dict[str, Path]:
    """Folders by the names that merges know them by, so that nothing depends on where the run
    lies.
    """
    return {
        name.removeprefix("model-"): checkpoint(path)
        for name, path in sorted(desk.inputs.items())
        if name != "items"
    }


def merge_recipe(
    method: str,
    experts: Sequence[str],
    parameters: Mapping[str, Any],
    weights: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What mergekit calls a configuration: the experts by one method, with the same parameters for
    each but for `weights`.
    """
    alike = (
        {"t": 0.5}
        if method == "slerp"
        else {}
        if method == "model_stock" or weights
        else {"weight": 1.0}
    )
    recipe: dict[str, Any] = {
        "merge_method": method,
        "models": [
            {"model": name} | ({"parameters": {"weight": weights[name]}} if weights else {})
            for name in experts
        ],
        "parameters": {**alike, **parameters},
    }
    if method not in FROM_EXPERTS:
        recipe["base_model"] = experts[0] if method == "slerp" else BASE
    return recipe


def add(plan: Plan) -> None:
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


def _merged(plan: Plan, spec: MergingLever, how: Merge, seed: int, without: str = "") -> Step:
    inputs = {
        name: model
        for name, model in _experts(plan, spec, seed).items()
        if name != f"model-{without}"
    }
    variant = _label(how).removeprefix("merge/") + (f" without {without}" if without else "")
    params = {"method": how.method, "parameters": how.parameters, "seed": seed}
    return plan.add(
        Step(
            plan.named(f"merge {variant}", seed),
            "merge",
            merge,
            params,
            {**inputs, BASE: plan.model(plan.recipe.base)},
        )
    )


def _searched(search: MergeSearch) -> str:
    return f"merge/{search.merge} by {search.method}"


def _best(plan: Plan, spec: MergingLever, how: MergeSearch, seed: int) -> Step:
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
    return plan.add(
        Step(plan.named(f"search {how.merge}", seed), "merge", search, params, inputs, cost)
    )


def _experts(plan: Plan, spec: MergingLever, seed: int) -> dict[str, Node]:
    share = 1 / len(spec.experts)
    return {
        f"model-{name}": plan.finetune(f"expert {name}", _part(plan, spec, name), seed, share)
        for name in spec.experts
    }


def _mixture(plan: Plan, spec: MergingLever) -> Step:
    assert plan.training is not None
    every = sorted(group for groups in spec.groups.values() for group in groups)
    if len(spec.groups) < len(spec.experts):
        return plan.add(
            Step(
                "items of all",
                "merge",
                together,
                {},
                {name: _part(plan, spec, name) for name in spec.experts},
            )
        )
    return (
        plan.training
        if set(every) == set(plan.recipe.data.groups or [])
        else _subset(plan, "mixed", every)
    )


def _part(plan: Plan, spec: MergingLever, name: str) -> Step:
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


def _subset(plan: Plan, name: str, groups: list[str]) -> Step:
    assert plan.training is not None
    return plan.add(
        Step(
            f"items of {name}",
            "recipe/levers/merging.py",
            subset,
            {"groups": sorted(groups)},
            {"items": plan.training},
        )
    )
