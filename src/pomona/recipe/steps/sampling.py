"""Pools of answers, and the choice among them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from pomona.answers import Account, Budget
from pomona.ledger import Meter
from pomona.models import Request
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.answering import Led, answer_flops, load_model, write_answers
from pomona.recipe.steps.measuring import Measures
from pomona.recipe.steps.pools import (
    Pools,
    distinct,
    drawing,
    read_pools,
    replies,
    some,
    write_pools,
)
from pomona.recipe.steps.results import BEGUN, Serving, read_rows, with_seconds, write_serving
from pomona.recipe.steps.tables import read_items
from pomona.sample import (
    SelectionContext,
    Strategy,
    choose as select,
    extremes,
    parse_strategy,
    temperatures,
)

BOUNDS, RANDOM = ("hope", "risk"), "random"


def draw(step: StepContext) -> Cost:
    """A pool of answers to every item, the prompt read once."""
    items, p = read_items(step.inputs["items"]), step.params
    model = load_model(step, step.inputs["model"])
    strategy, led, begun = parse_strategy(p["pool"]), Led.of(step, items), None
    if "begun" in step.inputs:
        begun = read_rows(step.inputs["begun"] / BEGUN, "prefix")["prefix"].to_pylist()
    asked = temperatures(strategy, Request(prompt=""))
    with Meter() as meter:
        pools = model.generate(
            items.prompts, n=strategy.n, max_new_tokens=p["max_new_tokens"], temperature=asked,
            seed=p["seed"], steers=led.steers, prefixes=begun, **strategy.sampling,
        )  # fmt: skip
    columns = {
        "id": items.ids,
        "prompt_tokens": [pool[0].prompt_tokens for pool in pools],
        "answers": [[sample.text for sample in pool] for pool in pools],
        "tokens": [[sample.completion_tokens for sample in pool] for pool in pools],
        "logprobs": [
            [float(sample.logprobs.sum(dtype=np.float64)) for sample in pool] for pool in pools
        ],
    }
    tokens = sum(columns["prompt_tokens"]) + sum(map(sum, columns["tokens"]))
    about = Pools(
        distinct(columns["answers"]), model.shape, list(asked), led.searches(items),
        meter.cpu_seconds, tokens,
    )  # fmt: skip
    write_pools(step.out, columns, about)
    # Whoever chooses says what its answers took.
    write_serving(step.out, Serving(0.0, bytes=led.bytes, seconds_per_item=0.0))
    return Cost(
        answer_flops(model, pools) + led.flops(columns["tokens"]),
        tokens,
        meter.cpu_seconds,
        meter.wall_seconds,
    )


def choose(step: StepContext) -> Cost:
    """One answer of the first so many of each pool: by a strategy, by chance (which costs what one
    answer does), or the best or the worst against the reference.
    """
    items, p = read_items(step.inputs["items"]), step.params
    strategy, drawn = parse_strategy(p["strategy"]), step.inputs["pools"]
    about, rows = read_pools(drawn, strategy.n)
    with Meter() as meter:
        if p["choose"] in BOUNDS:
            utilities = Measures.of(step, items).utilities([row["answers"] for row in rows])
            picks = [int(pick) for pick in extremes(utilities)[BOUNDS.index(p["choose"])]]
        elif p["choose"] == RANDOM:
            rows = at_random(rows, p["seed"])
            picks = [0] * len(rows)
        else:
            picks = asyncio.run(_picks(strategy, items.prompts, rows, about, p["seed"]))
    chosen = [row["answers"][pick] for row, pick in zip(rows, picks, strict=True)]
    write_answers(step, items, chosen, about.shape)
    told = drawing(about, items, rows)
    write_serving(step.out, with_seconds(told, meter.cpu_seconds / len(items)))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def at_random(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """One answer of each pool by chance, and nothing beside it."""
    sizes = [len(row["answers"]) for row in rows]
    # One number for all where pools are equally large: other draws would be other results.
    picks = np.random.default_rng(seed).integers(0, _one_or_all(sizes), len(rows))
    return [some(row, slice(pick, pick + 1)) for row, pick in zip(rows, picks, strict=True)]


def _one_or_all(sizes: list[int]) -> int | list[int]:
    return sizes[0] if len(set(sizes)) == 1 else sizes


async def _picks(
    strategy: Strategy,
    prompts: Sequence[str],
    rows: Sequence[dict[str, Any]],
    about: Pools,
    seed: int,
) -> list[int]:
    picks: list[int] = []
    for prompt, row in zip(prompts, rows, strict=True):
        asked = Request(prompt=prompt)
        selection = SelectionContext(asked, strategy, (), Account(Budget()), seed=seed)
        picks.append((await select(selection, replies(row, about))).chosen)
    return picks
