"""The work every lever shares: tables in, models fine-tuned and evaluated."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.files import write_json
from pomona.ledger.flops import Meter, decode_flops, prefill_flops, training_flops
from pomona.models.protocol import Model, Sample, Shape
from pomona.recipe.graph import Cost, Desk
from pomona.tasks.items import Items, items_from, limit
from pomona.tasks.metrics import metric

if TYPE_CHECKING:
    from pomona.models import Codec
    from pomona.train.fit import Order

    Scheduled = Callable[[Items], Order]


def read_items(folder: Path) -> Items:
    """The items a `table` step wrote."""
    return Items.from_table(pq.read_table(folder / "items.parquet"))


def write_items(folder: Path, items: Items) -> None:
    """Write items as a step's result."""
    pq.write_table(items.to_table(), folder / "items.parquet", compression="zstd")


def make_table(desk: Desk) -> Cost:
    """Records to items: filter, fill the templates, limit the groups; `counts.json` has the size of
    each group before the limit.
    """
    from pomona import records

    p = desk.params
    sources = [str(desk.inputs[name]) for name in sorted(desk.inputs)]
    if p["on_error"] == "reject":
        found = records.read(sources, on_error="reject", rejects=desk.out / "rejects.jsonl")
    else:
        found = records.read(sources)
    for column, value in p["where"].items():
        found.require(column)
        found = found.where(**{column: value})
    items = items_from(found.to_table(), p["prompt"], p["completion"], p["group"])
    write_items(desk.out, limit(items, p["per_group"], p["groups"]))
    write_json(desk.out / "counts.json", Counter(items.groups))
    return Cost()


def checkpoint(result: Path) -> Path:
    """The checkpoint folder of a step's result, or a checkpoint that was there before the run."""
    return result / "model" if (result / "model").is_dir() else result


def load_model(desk: Desk, folder: Path) -> Model:
    """A step's model on the run's device."""
    from pomona import models

    runtime = desk.runtime
    return models.load(
        str(checkpoint(folder)),
        device=runtime.device,
        dtype=desk.params["dtype"],
        chat=desk.params["chat"],
        progress=desk.advance,
    )


def answer_flops(model: Model, pools: Sequence[Sequence[Sample]]) -> float:
    """FLOPs of generating the pools, every prompt read once."""
    return pool_flops(
        model.shape,
        [pool[0].prompt_tokens for pool in pools],
        [[s.completion_tokens for s in pool] for pool in pools],
    )


def pool_flops(
    shape: Shape, prompt_tokens: Sequence[int], tokens: Sequence[Sequence[int]]
) -> float:
    """FLOPs of reading every prompt once and generating answers of so many `tokens`,
    `[items][n]`.
    """
    prompts, lengths = np.array(prompt_tokens, np.float64), np.array(tokens, np.float64)
    return float(
        prefill_flops(shape, prompts).sum() + decode_flops(shape, prompts[:, None], lengths).sum()
    )


def write_answers(
    folder: Path,
    items: Items,
    answers: Sequence[str],
    metric_name: str,
    flops_per_item: float,
    shape: Mapping[str, int],
) -> None:
    """Write what a system answered, with the statistics the ledger compares."""
    measure = metric(metric_name)
    np.save(folder / "statistics.npy", measure.statistics(list(answers), items.completions))
    pq.write_table(
        pa.table({"id": items.ids, "group": items.groups, "answer": list(answers)}),
        folder / "answers.parquet",
    )
    write_json(folder / "answers.json", {"flops_per_item": flops_per_item, "shape": dict(shape)})


def evaluate(desk: Desk) -> Cost:
    """Answer every item greedily."""
    items, model = read_items(desk.inputs["items"]), load_model(desk, desk.inputs["model"])
    with Meter() as meter:
        pools = model.generate(
            items.prompts,
            n=1,
            max_new_tokens=desk.params["max_new_tokens"],
            seed=desk.params["seed"],
        )
    flops = answer_flops(model, pools)
    write_answers(
        desk.out,
        items,
        [pool[0].text for pool in pools],
        desk.params["metric"],
        flops / len(items),
        asdict(model.shape),
    )
    tokens = sum(pool[0].prompt_tokens + pool[0].completion_tokens for pool in pools)
    return Cost(flops, tokens, meter.cpu_seconds, meter.wall_seconds)


def finetune(desk: Desk) -> Cost:
    """Continue a model on the items for a fixed budget of tokens."""
    return train_and_save(desk, *trainable(desk))


def trainable(desk: Desk) -> tuple[Any, Codec]:
    """The desk's model in float32 on the run's device, and its codec."""
    import torch
    from transformers import AutoModelForCausalLM

    from pomona.models import Codec, quiet

    folder = checkpoint(desk.inputs["model"])
    device = torch.device(desk.runtime.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="eager",
        )
    return model.to(device), Codec(folder, model, chat=desk.params["chat"])


def train_and_save(
    desk: Desk,
    model: Any,
    codec: Codec,
    *,
    marks: tuple[float, ...] = (),
    temperature: float = 1,
    scheduled: Scheduled | None = None,
) -> Cost:
    """Train on the desk's items under its settings; leaves the model, `training.json` and the loss
    of every step.

    `scheduled` gives the order of training from the items, where it is not the usual one.
    """
    from pomona.models import shape_of
    from pomona.train.examples import encode, temperature_repeats
    from pomona.train.fit import Settings, fit, marks_in, save_checkpoint, shuffled

    items = read_items(desk.inputs["items"])
    repeats = temperature_repeats(items.groups, temperature)
    examples = encode(
        codec,
        items.prompts,
        items.completions,
        max_tokens=desk.params["max_tokens"],
        repeats=repeats,
    )
    settings = Settings(**desk.params["settings"], marks=marks)
    with Meter() as meter:
        order = scheduled(items) if scheduled else shuffled
        fitted = fit(
            model,
            codec.tokenizer,
            examples,
            desk.bench,
            settings,
            order=order,
            progress=desk.advance,
        )
    save_checkpoint(model, codec.tokenizer, desk.out / "model")
    for mark in marks_in(desk.bench):
        shutil.move(mark, desk.out / mark.name)
    flops = training_flops(shape_of(model), fitted.tokens, examples.mean_context)
    summary = {
        "tokens": fitted.tokens,
        "flops": flops,
        "steps": fitted.steps,
        "examples": len(examples),
        "too_long": examples.too_long,
        "cpu_seconds": meter.cpu_seconds,
        "settings": desk.params["settings"],
    }
    write_json(desk.out / "model" / "training.json", summary)
    write_json(desk.out / "losses.json", [round(loss, 5) for loss in fitted.losses])
    return Cost(flops, fitted.tokens, meter.cpu_seconds, meter.wall_seconds)
