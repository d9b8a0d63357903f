"""Checkpoints out of experts: by one method, or with weights that were searched for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pomona.files import write_json
from pomona.ledger import Meter
from pomona.merge import merge as merge_checkpoints
from pomona.recipe.steps import Cost, StepContext, checkpoint
from pomona.recipe.steps.results import made_here
from pomona.recipe.steps.tables import read_items

BASE = "base"
FROM_EXPERTS = ("linear", "multislerp", "nuslerp")  # these need no base


def merge(step: StepContext) -> Cost:
    """One checkpoint out of the experts, all treated alike."""
    p, models = step.params, _models(step)
    experts = [name for name in models if name != BASE]
    with Meter() as meter:
        _write(step, merge_recipe(p["method"], experts, p["parameters"]), models)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _write(step: StepContext, recipe: dict[str, Any], models: dict[str, Path]) -> None:
    with made_here(*step.inputs.values()):
        merge_checkpoints(
            recipe,
            step.out / "model",
            models=models,
            seed=step.params["seed"],
            threads=step.runtime.threads,
            report=False,
        )


def search(step: StepContext) -> Cost:
    """One checkpoint out of the experts, with the weights that do best on other items than the test
    ones; `search.json` has all trials.
    """
    from pomona.merge import plan_merge
    from pomona.merge.search import Judge, OnItems, Space, search as search_space

    p, models = step.params, _models(step)
    experts = [name for name in models if name != BASE]

    def recipe_of(weights: Mapping[str, Any]) -> dict[str, Any]:
        return merge_recipe(p["merge"], experts, {}, weights)

    judge = Judge(
        p["metric"],
        max_new_tokens=p["max_new_tokens"],
        chat=p["chat"],
        dtype=p["dtype"],
        device=step.runtime.device,
        threads=step.runtime.threads,
    )
    with Meter() as meter:
        optimum = search_space(
            lambda weights: plan_merge(recipe_of(weights), models=models, seed=p["seed"]),
            Space.of(dict.fromkeys(experts, (0.0, 1.0))),
            OnItems(judge, read_items(step.inputs["items"])),
            method=p["method"],
            trials=p["trials"],
            seed=p["seed"],
            log=step.scratch / "trials.jsonl",
            progress=step.advance,
        )
        best = dict(optimum.best.values)
        _write(step, recipe_of(best), models)
    trials = [{"weights": dict(trial.values), p["metric"]: trial.value} for trial in optimum.trials]
    write_json(step.out / "search.json", {"best": best, "trials": trials})
    return Cost(optimum.flops, optimum.tokens, meter.cpu_seconds, meter.wall_seconds)


def _models(step: StepContext) -> dict[str, Path]:
    """Folders by the names that merges know them by, so that nothing depends on where the run
    lies.
    """
    inputs = sorted((name, path) for name, path in step.inputs.items() if name != "items")
    return {name.removeprefix("model-"): checkpoint(path) for name, path in inputs}


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
