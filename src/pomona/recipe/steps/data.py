"""The data lever's work: what is left out, what is scored, and what is raised at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.data import select_band
from pomona.data.duplicates import dedup
from pomona.data.mixing import Mixture, plan_mixture, upsample_end
from pomona.data.scores import score as score_rows
from pomona.errors import PomonaError
from pomona.files import write_json
from pomona.ledger import Meter
from pomona.recipe.steps import Cost, StepContext, checkpoint
from pomona.recipe.steps.results import read_rows
from pomona.recipe.steps.tables import rarest, read_counts, read_items, write_items
from pomona.recipe.steps.training import train_and_save, trainable
from pomona.tasks import Items

if TYPE_CHECKING:
    from pomona.train import Examples, Order, TrainSettings


def deduplicate(step: StepContext) -> Cost:
    """The items that repeat none before them; as many random ones if asked."""
    items, p = read_items(step.inputs["items"]), step.params
    with Meter() as meter:
        pairs = zip(items.prompts, items.completions, strict=True)
        texts = [f"{prompt} {completion}" for prompt, completion in pairs]
        table = pa.table({"text": texts, "row": np.arange(len(items))})
        card = dedup(
            table,
            step.scratch / "kept.parquet",
            threshold=p["threshold"],
            shingle="character",
            seed=p["seed"],
        )
    kept = pq.read_table(step.scratch / "kept.parquet")["row"].to_numpy()
    if p["random"]:
        random = np.random.default_rng(p["seed"])
        kept = np.sort(random.choice(len(items), len(kept), replace=False))
    write_items(step.out, items.take(kept))
    write_json(step.out / "removed.json", dict(card.removed))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def score(step: StepContext) -> Cost:
    """Scores of every training example under one model or several checkpoints."""
    p = step.params
    names = [name for name in sorted(step.inputs) if name.startswith("model")]
    models = [str(checkpoint(step.inputs[name])) for name in names]
    with Meter() as meter:
        card = score_rows(
            step.inputs["items"] / "items.parquet",
            step.scratch / "scores.parquet",
            scores=p["scores"],
            models=models,
            prompt="prompt",
            completion="completion",
            group="group" if "vog" in p["scores"] else None,
            memorize=(1, p["memorize"]),
            chat=p["chat"],
            device=step.runtime.device,
            dtype=p["dtype"] or "float32",
            seed=p["seed"],
            progress=step.advance,
        )
    scored = pq.read_table(step.scratch / "scores.parquet", columns=["id", *p["scores"]])
    pq.write_table(scored, step.out / "scores.parquet")
    counts = card.details["models"].values()
    flops, tokens = sum(c["flops"] for c in counts), int(sum(c["tokens"] for c in counts))
    return Cost(flops, tokens, meter.cpu_seconds, meter.wall_seconds)


def select(step: StepContext) -> Cost:
    """The items of one band, or a random control; all of them hold the same share of the bytes of
    text.

    Of items that a score says nothing of, being too short for it, the same share is drawn at
    random.
    """
    p, items = step.params, read_items(step.inputs["items"])
    with Meter() as meter:
        pairs = zip(items.prompts, items.completions, strict=True)
        sizes = np.array([len((a + b).encode()) for a, b in pairs], np.int64)
        values = np.zeros(len(items))
        if p["by"]:
            scores = read_rows(step.inputs["scores"] / "scores.parquet", p["by"])
            values = scores[p["by"]].to_numpy().astype(np.float64)
        scored = np.isfinite(values)
        parts = [(np.flatnonzero(scored), p["band"]), (np.flatnonzero(~scored), "random")]
        kept = []
        for rows, band in parts:
            finite = np.nan_to_num(values[rows])
            chosen = select_band(finite, p["keep"], band, sizes=sizes[rows], seed=p["seed"])
            kept.append(rows[chosen])
        write_items(step.out, items.take(np.sort(np.concatenate(kept))))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def finetune_upsampled(step: StepContext) -> Cost:
    """Continue a model with the raised groups at their natural share first, and at a larger one at
    the end.
    """
    p = step.params
    counts = read_counts(step.inputs["items"])

    def scheduled(items: Items) -> Order:
        names = sorted(set(items.groups))
        groups = p["groups"] or rarest({name: counts[name] for name in names}, p["tail"])
        if not groups:
            message, remedy = "no group has fewer rows than the others", "name the groups to raise"
            raise PomonaError(message, where="levers.data.upsample", remedy=remedy)
        raised = np.isin(items.groups, groups)

        def order(examples: Examples, tokens: int, settings: TrainSettings) -> list[np.ndarray]:
            names = np.where(raised[examples.rows], "raised", "rest")
            total = examples.lengths.sum(1)
            shown = {name: float(total[names == name].sum()) for name in ("raised", "rest")}
            natural = Mixture(shown)
            final = Mixture({"raised": p["raised"], "rest": 1 - p["raised"]})
            schedule = upsample_end(natural, final, p["last"])
            return plan_mixture(
                examples.lengths,
                names,
                schedule,
                batch_tokens=settings.batch_tokens,
                tokens=tokens,
                seed=settings.seed,
            )

        return order

    return train_and_save(step, *trainable(step), scheduled=scheduled)
