"""Data: continue the base on bands of the training data by scores, beside a random control of the
same size and all data.
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from pomona.data.bands import select_band
from pomona.data.scores import score as score_rows
from pomona.ledger.flops import Meter
from pomona.recipe.graph import Cost, Desk, Step
from pomona.recipe.plan import Plan
from pomona.recipe.work import checkpoint, read_items, write_items

OVER_CHECKPOINTS = ("el2n", "vog", "cat_var", "cat_diff")


def score(desk: Desk) -> Cost:
    """Scores of every training example under one model or several checkpoints."""
    p = desk.params
    models = [
        str(checkpoint(desk.inputs[name]))
        for name in sorted(desk.inputs)
        if name.startswith("model")
    ]
    with Meter() as meter:
        card = score_rows(
            desk.inputs["items"] / "items.parquet",
            desk.bench / "scores.parquet",
            scores=p["scores"],
            models=models,
            prompt="prompt",
            completion="completion",
            group="group" if "vog" in p["scores"] else None,
            memorize=(1, p["memorize"]),
            chat=p["chat"],
            device=desk.runtime.device,
            dtype=p["dtype"] or "float32",
            seed=p["seed"],
            progress=desk.advance,
        )
    pq.write_table(
        pq.read_table(desk.bench / "scores.parquet", columns=["id", *p["scores"]]),
        desk.out / "scores.parquet",
    )
    counts = card.details["models"].values()
    return Cost(
        sum(c["flops"] for c in counts),
        int(sum(c["tokens"] for c in counts)),
        meter.cpu_seconds,
        meter.wall_seconds,
    )


def select(desk: Desk) -> Cost:
    """The items of one band, or a random control; all of them hold the same share of the bytes of
    text.

    Of items that a score says nothing of, being too short for it, the same share is drawn at
    random.
    """
    p, items = desk.params, read_items(desk.inputs["items"])
    sizes = np.array(
        [len((a + b).encode()) for a, b in zip(items.prompts, items.completions, strict=True)],
        np.int64,
    )
    values = np.zeros(len(items))
    if p["by"]:
        values = (
            pq.read_table(desk.inputs["scores"] / "scores.parquet")[p["by"]]
            .to_numpy()
            .astype(np.float64)
        )
    scored = np.isfinite(values)
    parts = [(np.flatnonzero(scored), p["band"]), (np.flatnonzero(~scored), "random")]
    kept = [
        rows[
            select_band(
                np.nan_to_num(values[rows]), p["keep"], band, sizes=sizes[rows], seed=p["seed"]
            )
        ]
        for rows, band in parts
    ]
    write_items(desk.out, items.take(np.sort(np.concatenate(kept))))
    return Cost()


def add(plan: Plan) -> None:
    """Measure every band of every score at every share, with a random control of each share."""
    spec, base = plan.recipe.levers.data, plan.recipe.base
    if spec is None or plan.training is None:
        return
    for keep in spec.keep:
        share = f" {keep:.0%}".replace("%", " %") if len(spec.keep) > 1 else ""
        control = f"prune/random{share}"
        _measure(plan, control, "", "random", keep, (base,))
        for by, bands in spec.by.items():
            for band in bands:
                name = f"{by} {band}" if len(spec.by) > 1 else band
                _measure(plan, f"prune/{name}{share}", by, band, keep, (base, control))


def _measure(
    plan: Plan, variant: str, by: str, band: str, keep: float, baselines: tuple[str, ...]
) -> None:
    plan.measure_trained(
        "data",
        variant,
        lambda seed: plan.finetune(variant, _selected(plan, variant, by, band, keep, seed), seed),
        baselines,
    )


def _selected(plan: Plan, variant: str, by: str, band: str, keep: float, seed: int) -> Step:
    assert plan.training is not None
    name = f"select {variant.removeprefix('prune/')}"
    if band == "random":
        params = {"by": "", "keep": keep, "band": band, "seed": seed}
        return plan.add(
            Step(plan.named(name, seed), "data", select, params, {"items": plan.training})
        )
    params = {"by": by, "keep": keep, "band": band, "seed": plan.recipe.seed}
    return plan.add(
        Step(name, "data", select, params, {"items": plan.training, "scores": _scored(plan, by)})
    )


def _scored(plan: Plan, by: str) -> Step:
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
    return plan.add(
        Step(
            f"score {'checkpoints' if over else 'training items'}",
            "data",
            score,
            params,
            inputs,
            cost,
        )
    )
