"""Models answer items, greedily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.files import write_json
from pomona.ledger import Meter
from pomona.models import Sample, Shape, decode_flops, prefill_flops
from pomona.recipe.steps import Cost, StepContext, checkpoint
from pomona.recipe.steps.measuring import Measures
from pomona.recipe.steps.results import (
    Serving,
    made_here,
    read_result,
    statistics_name,
    write_serving,
)
from pomona.recipe.steps.tables import read_items
from pomona.tasks import Items

if TYPE_CHECKING:
    from pomona.models.torch import TorchModel


@dataclass(frozen=True)
class About:
    """What `answers.json` says: the sizes of the model, if one answered, and how many prompts were
    too long to be scored whole and lost their beginning.
    """

    shape: Shape | None
    cut: int


def load_model(step: StepContext, folder: Path) -> TorchModel:
    """A step's model on the run's device."""
    from pomona import models

    runtime = step.runtime
    with made_here(folder):
        model = models.load(
            str(checkpoint(folder)),
            device=runtime.device,
            dtype=step.params["dtype"],
            chat=step.params["chat"],
            progress=step.advance,
        )
    return cast("TorchModel", model)  # a checkpoint folder, so torch runs it


@dataclass(frozen=True)
class Led:
    """What leads the answers to items, if anything does: `steers` has for each item the states of
    its group that are looked up at every token, `bytes` what all of them take.
    """

    steers: Sequence[Any] | None = None
    bytes: int = 0

    @classmethod
    def of(cls, step: StepContext, items: Items) -> Led:
        """By the step's datastore, and its settings under the parameter "states"."""
        if "states" not in step.inputs:
            return cls()
        from pomona.memory import Interpolation
        from pomona.models.torch import Datastore

        p, at = step.params["states"], step.inputs["states"]
        device = step.runtime.device or "cpu"
        store = Datastore.open(at / "states.safetensors", device=device)
        spread = read_result(at / "spread.json", float)
        led = Interpolation(store, p["temperature"] * spread, p["weight"], p["k"])
        return cls(led.of(items.groups), store.bytes)

    def searches(self, items: Items) -> dict[str, float]:
        """FLOPs of the search for one token, by group."""
        each = zip(items.groups, self.steers or (), strict=False)
        return {group: steer.flops for group, steer in each}

    def flops(self, tokens: Sequence[Sequence[int]]) -> float:
        """Of the searches for answers of so many `tokens`, `[items][n]`."""
        each = [steer.flops for steer in self.steers or ()]
        return sum(flops * sum(n) for flops, n in zip(each, tokens, strict=False))


def answer_flops(model: TorchModel, pools: Sequence[Sequence[Sample]]) -> float:
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
    step: StepContext,
    items: Items,
    answers: Sequence[str],
    shape: Shape | None,
    *,
    read: Mapping[str, Sequence[Any]] | None = None,
    cut: int = 0,
) -> None:
    """Write what a system answered, with the statistics of each metric that the ledger compares:
    of the answers, or of what else its metrics `read`.
    """
    folder, measures = step.out, Measures.of(step, items)
    for place, statistics in enumerate(measures.statistics(read or {"text": list(answers)})):
        np.save(folder / statistics_name(place), statistics)
    table = pa.table({"id": items.ids, "group": items.groups, "answer": list(answers)})
    pq.write_table(table, folder / "answers.parquet")
    write_json(folder / "answers.json", asdict(About(shape, cut)))


def evaluate(step: StepContext) -> Cost:
    """Answer every item greedily."""
    items, model = read_items(step.inputs["items"]), load_model(step, step.inputs["model"])
    p = step.params
    led = Led.of(step, items)
    with Meter() as meter:
        longest, seed = p["max_new_tokens"], p["seed"]
        pools = model.generate(
            items.prompts, n=1, max_new_tokens=longest, seed=seed, steers=led.steers
        )
    lengths = [[sample.completion_tokens for sample in pool] for pool in pools]
    flops = answer_flops(model, pools) + led.flops(lengths)
    texts = [pool[0].text for pool in pools]
    write_answers(step, items, texts, model.shape)
    tokens = sum(pool[0].prompt_tokens + pool[0].completion_tokens for pool in pools)
    each = (flops / len(items), tokens / len(items))
    write_serving(step.out, Serving(each[0], bytes=led.bytes, tokens_per_item=each[1]))
    return Cost(flops, tokens, meter.cpu_seconds, meter.wall_seconds)
