"""Sampling: a pool of answers from the base and a choice among them, with the pool's hope and risk
as bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.files import read_json, write_json
from pomona.ledger.flops import Meter
from pomona.models.chat.protocol import Reply, Request, Spent
from pomona.models.protocol import Shape
from pomona.recipe.graph import Cost, Desk, Step
from pomona.recipe.plan import Plan
from pomona.recipe.work import answer_flops, load_model, pool_flops, read_items, write_answers
from pomona.sample.budget import Account, Budget
from pomona.sample.pool import TEMPERATURE, extremes, temperatures
from pomona.sample.selection.choice import Desk as Selection
from pomona.sample.selection.choose import choose as select
from pomona.sample.strategy import Strategy, parse_strategy
from pomona.tasks.metrics import metric

BOUNDS = ("hope", "risk")


def draw(desk: Desk) -> Cost:
    """A pool of answers to every item, the prompt read once."""
    items, model, p = (
        read_items(desk.inputs["items"]),
        load_model(desk, desk.inputs["model"]),
        desk.params,
    )
    strategy = parse_strategy(p["pool"])
    heat = temperatures(strategy, Request(prompt=""))
    with Meter() as meter:
        pools = model.generate(
            items.prompts, n=strategy.n, max_new_tokens=p["max_new_tokens"], temperature=heat,
            top_p=strategy.top_p or 1.0, min_p=strategy.min_p or 0.0, seed=p["seed"],
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
    pq.write_table(pa.table(columns), desk.out / "pools.parquet")
    distinct = float(np.mean([len(set(pool)) / len(pool) for pool in columns["answers"]]))
    write_json(
        desk.out / "pools.json",
        {"distinct": distinct, "shape": asdict(model.shape), "temperatures": heat},
    )
    tokens = sum(columns["prompt_tokens"]) + sum(map(sum, columns["tokens"]))
    return Cost(answer_flops(model, pools), tokens, meter.cpu_seconds, meter.wall_seconds)


def choose(desk: Desk) -> Cost:
    """One answer of the first so many of each pool: by a strategy, or the best or the worst against
    the reference.
    """
    items, p = read_items(desk.inputs["items"]), desk.params
    strategy, about = parse_strategy(p["strategy"]), read_json(desk.inputs["pools"] / "pools.json")
    rows = [
        _first(row, strategy.n)
        for row in pq.read_table(desk.inputs["pools"] / "pools.parquet").to_pylist()
    ]
    with Meter() as meter:
        if p["choose"] in BOUNDS:
            utilities = _utilities([row["answers"] for row in rows], items.completions, p["metric"])
            picks = [int(pick) for pick in extremes(utilities)[BOUNDS.index(p["choose"])]]
        else:
            picks = asyncio.run(
                _picks(strategy, items.prompts, rows, about["temperatures"], p["seed"])
            )
    flops = pool_flops(
        Shape(**about["shape"]),
        [row["prompt_tokens"] for row in rows],
        [row["tokens"] for row in rows],
    ) / len(items)
    chosen = [row["answers"][pick] for row, pick in zip(rows, picks, strict=True)]
    write_answers(desk.out, items, chosen, p["metric"], flops, about["shape"])
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


async def _picks(
    strategy: Strategy,
    prompts: Sequence[str],
    rows: Sequence[dict[str, Any]],
    heat: Sequence[float],
    seed: int,
) -> list[int]:
    picks: list[int] = []
    for prompt, row in zip(prompts, rows, strict=True):
        pool = [
            Reply(text, "stop", Spent(completion_tokens=tokens), "", index, heat[index], logprob)
            for index, (text, tokens, logprob) in enumerate(
                zip(row["answers"], row["tokens"], row["logprobs"], strict=True)
            )
        ]
        desk = Selection(Request(prompt=prompt), strategy, (), Account(Budget()), seed=seed)
        picks.append((await select(desk, pool)).chosen)
    return picks


def _first(row: dict[str, Any], n: int) -> dict[str, Any]:
    return row | {name: row[name][:n] for name in ("answers", "tokens", "logprobs")}


def _utilities(pools: list[list[str]], references: list[str], name: str) -> list[np.ndarray]:
    measure = metric(name)
    sign = 1 if measure.higher_is_better else -1
    flat = [answer for pool in pools for answer in pool]
    repeated = [reference for pool, reference in zip(pools, references, strict=True) for _ in pool]
    values = sign * measure.aggregate(measure.statistics(flat, repeated))
    return np.split(values, np.cumsum([len(pool) for pool in pools])[:-1])


def add(plan: Plan) -> None:
    """Measure every strategy, and what its pool could win or lose. A pool is drawn once: small ones
    are the beginnings of large ones.
    """
    spec, base = plan.recipe.levers.sampling, plan.recipe.base
    strategies = [parse_strategy(name) for name in spec.strategies] if spec else []
    model, sizes = plan.model(base), _sizes(strategies)
    for pool, n in sizes.items():
        drawn = replace(pool, n=n)
        params = {
            **plan.answering(),
            "pool": drawn.name,
            "max_new_tokens": plan.recipe.task.max_new_tokens,
        }
        cost = plan.estimate("generate", model, plan.item_count, n)
        step = plan.add(
            Step(
                f"sample {_label(drawn)}",
                "sample",
                draw,
                params,
                {"items": plan.items, "model": model},
                cost,
            )
        )
        mine = [strategy for strategy in strategies if _family(strategy) == pool]
        bounds = {_label(strategy): strategy for strategy in mine}
        wanted = [(strategy.name, strategy, "strategy") for strategy in mine]
        wanted += [
            (f"{label}/{bound}", strategy, bound)
            for label, strategy in bounds.items()
            for bound in BOUNDS
        ]
        for name, strategy, how in wanted:
            choice = {
                "strategy": strategy.name,
                "choose": how,
                "metric": plan.recipe.task.metric,
                "seed": plan.recipe.seed,
            }
            chosen = plan.add(
                Step(
                    f"choose {name}", "sample", choose, choice, {"items": plan.items, "pools": step}
                )
            )
            plan.measure("sampling", name, chosen, model, (base,), bound=how in BOUNDS)


def _family(strategy: Strategy) -> Strategy:
    """What pools have in common of which the small ones begin the large ones; those of a ladder do
    not.
    """
    heat = strategy.temperature or TEMPERATURE
    n = strategy.n if strategy.pool == "ladder" else 2
    return Strategy(
        pool=strategy.pool, n=n, temperature=heat, top_p=strategy.top_p, min_p=strategy.min_p
    )


def _sizes(strategies: Sequence[Strategy]) -> dict[Strategy, int]:
    sizes: dict[Strategy, int] = {}
    for strategy in strategies:
        sizes[_family(strategy)] = max(strategy.n, sizes.get(_family(strategy), 0))
    return sizes


def _label(strategy: Strategy) -> str:
    """The pool's part of a strategy's name: hedged5, sample16-t1-minp0.1."""
    heat = None if strategy.temperature == TEMPERATURE else strategy.temperature
    pool = Strategy(
        pool=strategy.pool,
        n=strategy.n,
        temperature=heat,
        top_p=strategy.top_p,
        min_p=strategy.min_p,
    )
    return pool.name.replace("-first", "")
