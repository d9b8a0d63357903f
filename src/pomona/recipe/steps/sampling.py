"""Pools of answers, and the choice among them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.answers import Account, Budget
from pomona.files import write_json
from pomona.ledger import Meter
from pomona.models import Reply, Request, Shape, Spent
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.answering import (
    Led,
    answer_flops,
    load_model,
    pool_flops,
    write_answers,
)
from pomona.recipe.steps.results import Serving, read_result, read_rows, write_serving
from pomona.recipe.steps.tables import read_items
from pomona.sample import (
    SelectionContext,
    Strategy,
    choose as select,
    extremes,
    parse_strategy,
    temperatures,
)
from pomona.tasks import Items, metric

BOUNDS, RANDOM = ("hope", "risk"), "random"
COLUMNS = ("id", "prompt_tokens", "answers", "tokens", "logprobs")


@dataclass(frozen=True)
class Pools:
    """What `pools.json` says: the share of answers that differ, the sizes of the model, the
    temperature of each answer, and FLOPs of a token's search in a datastore of states, by group.
    """

    distinct: float
    shape: Shape
    temperatures: list[float]
    searches: dict[str, float]


def draw(step: StepContext) -> Cost:
    """A pool of answers to every item, the prompt read once."""
    items, p = read_items(step.inputs["items"]), step.params
    model = load_model(step, step.inputs["model"])
    strategy, led = parse_strategy(p["pool"]), Led.of(step, items)
    asked = temperatures(strategy, Request(prompt=""))
    with Meter() as meter:
        pools = model.generate(
            items.prompts, n=strategy.n, max_new_tokens=p["max_new_tokens"], temperature=asked,
            top_p=strategy.top_p or 1.0, min_p=strategy.min_p or 0.0, seed=p["seed"],
            steers=led.steers,
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
    pq.write_table(pa.table(columns), step.out / "pools.parquet")
    distinct = float(np.mean([len(set(pool)) / len(pool) for pool in columns["answers"]]))
    about = Pools(distinct, model.shape, list(asked), led.searches(items))
    write_json(step.out / "pools.json", asdict(about))
    write_serving(step.out, Serving(0.0, bytes=led.bytes))
    tokens = sum(columns["prompt_tokens"]) + sum(map(sum, columns["tokens"]))
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
            utilities = _utilities([row["answers"] for row in rows], items.completions, p["metric"])
            picks = [int(pick) for pick in extremes(utilities)[BOUNDS.index(p["choose"])]]
        elif p["choose"] == RANDOM:
            drawn_ = np.random.default_rng(p["seed"]).integers(0, strategy.n, len(rows))
            rows = [
                row | {name: [row[name][pick]] for name in ("answers", "tokens")}
                for row, pick in zip(rows, drawn_, strict=True)
            ]
            picks = [0] * len(rows)
        else:
            work = _picks(strategy, items.prompts, rows, about.temperatures, p["seed"])
            picks = asyncio.run(work)
    chosen = [row["answers"][pick] for row, pick in zip(rows, picks, strict=True)]
    write_answers(step.out, items, chosen, p["metric"], about.shape)
    write_serving(step.out, Serving(drawing_flops(about, items, rows) / len(items)))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def read_pools(drawn: Path, n: int) -> tuple[Pools, list[dict[str, Any]]]:
    """The first `n` answers of each pool that `draw` left, with their tokens and
    log-probabilities.
    """
    about = read_result(drawn / "pools.json", Pools)
    rows = read_rows(drawn / "pools.parquet", *COLUMNS).to_pylist()
    names = ("answers", "tokens", "logprobs")
    return about, [row | {name: row[name][:n] for name in names} for row in rows]


def drawing_flops(about: Pools, items: Items, rows: Sequence[dict[str, Any]]) -> float:
    """FLOPs of drawing the answers in `rows`, each prompt read once."""
    read, written = [row["prompt_tokens"] for row in rows], [row["tokens"] for row in rows]
    searched = sum(
        about.searches.get(group, 0.0) * sum(tokens)
        for group, tokens in zip(items.groups, written, strict=True)
    )
    return pool_flops(about.shape, read, written) + searched


async def _picks(
    strategy: Strategy,
    prompts: Sequence[str],
    rows: Sequence[dict[str, Any]],
    asked: Sequence[float],
    seed: int,
) -> list[int]:
    picks: list[int] = []
    for prompt, row in zip(prompts, rows, strict=True):
        pool = [
            Reply(text, "stop", Spent(completion_tokens=tokens), "", index, asked[index], logprob)
            for index, (text, tokens, logprob) in enumerate(
                zip(row["answers"], row["tokens"], row["logprobs"], strict=True)
            )
        ]
        selection = SelectionContext(
            Request(prompt=prompt), strategy, (), Account(Budget()), seed=seed
        )
        picks.append((await select(selection, pool)).chosen)
    return picks


def _utilities(pools: list[list[str]], references: list[str], name: str) -> list[np.ndarray]:
    measure = metric(name)
    sign = 1 if measure.higher_is_better else -1
    flat = [answer for pool in pools for answer in pool]
    repeated = [reference for pool, reference in zip(pools, references, strict=True) for _ in pool]
    values = sign * measure.aggregate(measure.statistics(flat, repeated))
    return np.split(values, np.cumsum([len(pool) for pool in pools])[:-1])
