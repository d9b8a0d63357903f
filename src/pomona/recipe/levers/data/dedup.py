"""Deduplication: continue the base without near-duplicates, beside as many random rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.data.duplicates import dedup
from pomona.files import write_json
from pomona.ledger.flops import Meter
from pomona.recipe.graph import Cost, Desk, Step
from pomona.recipe.plan import Plan
from pomona.recipe.work import read_items, write_items


def keep(desk: Desk) -> Cost:
    """The items that repeat none before them; as many random ones if asked."""
    items, p = read_items(desk.inputs["items"]), desk.params
    with Meter() as meter:
        texts = [
            f"{prompt} {completion}"
            for prompt, completion in zip(items.prompts, items.completions, strict=True)
        ]
        table = pa.table({"text": texts, "row": np.arange(len(items))})
        card = dedup(
            table,
            desk.bench / "kept.parquet",
            threshold=p["threshold"],
            shingle="character",
            seed=p["seed"],
        )
    kept = pq.read_table(desk.bench / "kept.parquet")["row"].to_numpy()
    if p["random"]:
        kept = np.sort(
            np.random.default_rng(p["seed"]).choice(len(items), len(kept), replace=False)
        )
    write_items(desk.out, items.take(kept))
    write_json(desk.out / "removed.json", dict(card.removed))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def add(plan: Plan) -> None:
    """Measure the deduplicated data against the base, all data, and a random part of the same
    number of rows.
    """
    spec = plan.recipe.levers.data and plan.recipe.levers.data.dedup
    items, base = plan.training, plan.recipe.base
    if not spec or items is None:
        return

    def kept(name: str, seed: int, random: bool) -> Step:
        params = {"threshold": spec.threshold, "seed": seed, "random": random}
        return plan.add(Step(name, "data/duplicates", keep, params, {"items": items}))

    def control(seed: int) -> Step:
        return plan.finetune(
            "dedup/random", kept(plan.named("random part", seed), seed, True), seed
        )

    plan.measure_trained("data", "dedup/random", control, (base,))
    plan.measure_trained(
        "data",
        "dedup/minhash",
        lambda seed: plan.finetune(
            "dedup/minhash", kept("deduplicate", plan.recipe.seed, False), seed
        ),
        (base, "all data", "dedup/random"),
    )
