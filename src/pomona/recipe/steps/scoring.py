"""Models are asked how probable texts are: the options of an item, its completion, or what a task
of lm-evaluation-harness asks about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pomona.files import write_json
from pomona.ledger import Meter
from pomona.models import Shape, decode_flops, prefill_flops
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.answering import load_model, write_answers
from pomona.recipe.steps.measuring import task_of
from pomona.recipe.steps.results import Serving, write_serving
from pomona.recipe.steps.tables import read_items, write_items_and_counts
from pomona.tasks import Items
from pomona.tasks.harness import HarnessTask

LOSSES, SHAPE = "losses.npy", "shape.json"
_SURE = 1e6  # a log-probability that no other comes near, also when a text's length divides it


def make_task_items(step: StepContext) -> Cost:
    """The documents of a task of lm-evaluation-harness as items."""
    task: HarnessTask = step.runtime.tasks[step.params["task"]]
    with Meter() as meter:
        write_items_and_counts(step.out, task.items, task.items)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def score_task(step: StepContext) -> Cost:
    """What a model gives to the texts that a task of lm-evaluation-harness asks about."""
    items, model = read_items(step.inputs["items"]), load_model(step, step.inputs["model"])
    task = task_of(step, items)
    assert task is not None  # these items are its own
    with Meter() as meter:
        answered = task.answers(model, seed=step.params["seed"])
    _write(step, items, answered.answers, model.shape, answered.cut)
    spent = answered.spent
    tokens = spent.prompt_tokens + spent.completion_tokens
    return _counted(step, items, spent.flops, tokens, meter)


def score_items(step: StepContext) -> Cost:
    """What a model gives to the options of every item, or to its completion where it has none."""
    items, model = read_items(step.inputs["items"]), load_model(step, step.inputs["model"])
    right = zip(items.options, items.completions, strict=True)
    texts = [options or [completion] for options, completion in right]
    owner = np.repeat(np.arange(len(items)), [len(each) for each in texts])
    with Meter() as meter:
        flat = [text for each in texts for text in each]
        scored = iter(model.score([items.prompts[row] for row in owner], flat))
    found = [[(text, next(scored)) for text in each] for each in texts]
    read = model.count_tokens(items.prompts).astype(np.float64)
    lengths = np.array([len(one) for each in found for _, one in each], np.float64)
    # A prompt is read once for all its options in the account, as where answers are drawn.
    written = decode_flops(model.shape, read[owner], lengths).sum()
    flops = float(prefill_flops(model.shape, read).sum() + written)
    sums = [[(text, float(one.sum(dtype=np.float64))) for text, one in each] for each in found]
    own = [dict(each)[right] for each, right in zip(found, items.completions, strict=True)]
    values = [[value for _, value in each] for each in sums]
    told = [_told(*each) for each in zip(items.options, values, strict=True)]
    write_answers(step, items, told, model.shape, read={"options": sums, "logprobs": own})
    return _counted(step, items, flops, int(read.sum() + lengths.sum()), meter)


def measure_loss(step: StepContext) -> Cost:
    """How probable a model finds the completion of every item: nats and tokens with the end token,
    which it is trained on, nats without it and bytes, `losses.npy` float64 `[n, 4]`.
    """
    items, model = read_items(step.inputs["items"]), load_model(step, step.inputs["model"])
    with Meter() as meter:
        scored = model.score(items.prompts, items.completions, end=True)
    rows = [
        (
            -float(each.sum(dtype=np.float64)),
            len(each),
            -float(each[:-1].sum(dtype=np.float64)),
            len(text.encode("utf-8", "surrogatepass")),
        )
        for each, text in zip(scored, items.completions, strict=True)
    ]
    np.save(step.out / LOSSES, np.array(rows, np.float64))
    write_json(step.out / SHAPE, None if model.shape is None else asdict(model.shape))
    read = model.count_tokens(items.prompts).astype(np.float64)
    lengths = np.array([len(each) for each in scored], np.float64)
    tokens = int(read.sum() + lengths.sum())
    flops = prefill_flops(model.shape, read).sum() + decode_flops(model.shape, read, lengths).sum()
    return Cost(float(flops), tokens, meter.cpu_seconds, meter.wall_seconds)


def choose_at_random(step: StepContext) -> Cost:
    """One option of every item by chance, as sure as can be: what knowing nothing is worth."""
    items, seed = read_items(step.inputs["items"]), step.params["seed"]
    if task := task_of(step, items):
        _write(step, items, task.by_chance(seed), None)
        return Cost()
    draw = np.random.default_rng(seed)
    picks = [int(draw.integers(len(options))) for options in items.options]
    pairs = list(zip(items.options, picks, strict=True))
    chances = [
        [(text, 0.0 if at == pick else -_SURE) for at, text in enumerate(options)]
        for options, pick in pairs
    ]
    told = [options[pick] for options, pick in pairs]
    write_answers(step, items, told, None, read={"options": chances})
    return Cost()


def _write(
    step: StepContext, items: Items, answers: Sequence[Any], shape: Shape | None, cut: int = 0
) -> None:
    values = [[one[0] if isinstance(one, Sequence) else one for (one, *_) in a] for a in answers]
    told = [_told(*each) for each in zip(items.options, values, strict=True)]
    write_answers(step, items, told, shape, read={"responses": answers}, cut=cut)


def _counted(step: StepContext, items: Items, flops: float, tokens: int, meter: Meter) -> Cost:
    write_serving(step.out, Serving(flops / len(items), tokens_per_item=tokens / len(items)))
    return Cost(flops, tokens, meter.cpu_seconds, meter.wall_seconds)


def _told(options: Sequence[str], values: Sequence[float]) -> str:
    """What people are shown of an answer: the likeliest option, or how likely the text was."""
    if options and len(values) >= len(options):
        return options[int(np.argmax(values[: len(options)]))]
    return f"log-probability {sum(values):.2f}"
