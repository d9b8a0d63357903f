"""The data lever: bands of scores, near-duplicates, groups that are shown more often."""

from __future__ import annotations

from functools import partial

from pomona.recipe.graph import Node, Step
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.data import deduplicate, finetune_upsampled, score, select

OVER_CHECKPOINTS = ("el2n", "vog", "cat_var", "cat_diff")


def add_data(plan: RunPlan) -> None:
    """Measure all data, and every choice of data in the recipe."""
    items = plan.training
    if plan.recipe.levers.data is None or items is None:
        return
    every = partial(plan.finetune, "all data", items)
    plan.measure_trained("data", "all data", every, (plan.recipe.base,))
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
    name = f"select {variant.removeprefix('prune/')}"

    def selected(seed: int) -> Step:
        assert plan.training is not None
        params = {"by": by, "keep": keep, "band": band, "seed": plan.recipe.seed}
        inputs: dict[str, Node] = {"items": plan.training}
        if band == "random":
            return plan.step(plan.named(name, seed), select, params | {"seed": seed}, inputs)
        return plan.step(name, select, params, inputs | {"scores": _scored(plan, by)})

    plan.measure_trained(
        "data", variant, lambda seed: plan.finetune(variant, selected(seed), seed), baselines
    )


def _scored(plan: RunPlan, by: str) -> Step:
    spec, items = plan.recipe.levers.data, plan.training
    assert spec is not None and items is not None
    over = bool(spec.checkpoints) and by in OVER_CHECKPOINTS
    names = [
        name for name in spec.by if (bool(spec.checkpoints) and name in OVER_CHECKPOINTS) == over
    ]
    uris = spec.checkpoints if over and spec.checkpoints else [plan.recipe.base]
    models = [plan.model(uri) for uri in uris]
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
    plan.require_groups(spec.groups or (), "levers.data.upsample.groups")
    for last in spec.last:
        variant = f"upsample/last {last:.0%}".replace("%", " %")
        params = {"groups": spec.groups, "tail": plan.recipe.task.tail}
        params |= {"raised": spec.share, "last": last}
        make = partial(plan.finetune, variant, items, work=finetune_upsampled, **params)
        plan.measure_trained("data", variant, make, (base, "all data"))
