"""Data: continue the base on bands of the training data by perplexity, beside a random control of the same size and all data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.data.bands import select_band
from pomona.data.scores import perplexity
from pomona.ledger.flops import Meter, scoring_flops
from pomona.recipe.graph import Cost, Desk, Step
from pomona.recipe.plan import Plan
from pomona.recipe.work import load_model, read_items, write_items


def score(desk: Desk) -> Cost:
    """Perplexity of every training completion under the base."""
    items, model = read_items(desk.inputs["items"]), load_model(desk, desk.inputs["model"])
    with Meter() as meter:
        scored = perplexity(model, items.prompts, items.completions)
    table = pa.table({"id": items.ids, "perplexity": scored.perplexity, "tokens": scored.tokens})
    pq.write_table(table, desk.out / "scores.parquet")
    flops = float(scoring_flops(model.shape, scored.prompt_tokens, scored.tokens).sum())
    return Cost(flops, int(scored.tokens.sum() + scored.prompt_tokens.sum()), meter.cpu_seconds, meter.wall_seconds)


def select(desk: Desk) -> Cost:
    """The items of one band, or a random control; all of them hold the same share of the bytes of text."""
    p, items = desk.params, read_items(desk.inputs["items"])
    sizes = np.array([len((a + b).encode()) for a, b in zip(items.prompts, items.completions, strict=True)], np.int64)
    scored = desk.inputs.get("scores")
    scores = pq.read_table(scored / "scores.parquet")["perplexity"].to_numpy() if scored else np.zeros(len(items))
    write_items(desk.out, items.take(select_band(scores, p["keep"], p["band"], sizes=sizes, seed=p["seed"])))
    return Cost()


def add(plan: Plan) -> None:
    """Measure every band at every share, with its random control."""
    spec, base = plan.recipe.levers.data, plan.recipe.base
    if spec is None or plan.training is None:
        return
    model = plan.model(base)
    scores = plan.add(Step("score training items", "data", score, plan.answering(), {"items": plan.training, "model": model},
                           plan.estimate("score", model, plan.training_count)))  # fmt: skip
    for keep in spec.keep:
        share = f" {keep:.0%}".replace("%", " %") if len(spec.keep) > 1 else ""
        control = f"prune/random{share}"
        for band in ("random", *spec.bands):
            variant = f"prune/{band}{share}"

            def make(seed: int, band: str = band, keep: float = keep, variant: str = variant) -> Step:
                return plan.finetune(variant, _selected(plan, variant, band, keep, scores, seed), seed)

            plan.measure_trained("data", variant, make, (base,) if band == "random" else (base, control))


def _selected(plan: Plan, variant: str, band: str, keep: float, scores: Step, seed: int) -> Step:
    assert plan.training is not None
    name = f"select {variant.removeprefix('prune/')}"
    if band == "random":
        params = {"keep": keep, "band": band, "seed": seed}
        return plan.add(Step(plan.named(name, seed), "data", select, params, {"items": plan.training}))
    params = {"keep": keep, "band": band, "seed": plan.recipe.seed}
    return plan.add(Step(name, "data", select, params, {"items": plan.training, "scores": scores}))
