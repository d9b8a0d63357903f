"""Sampling: a pool of answers from the base and a choice among them, with the pool's hope and risk as bounds."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.files import read_json, write_json
from pomona.ledger.flops import Meter
from pomona.recipe.graph import Cost, Desk, Step
from pomona.recipe.lever_schema import Pool
from pomona.recipe.plan import Plan
from pomona.recipe.work import answer_flops, load_model, read_items, write_answers
from pomona.sample.mbr import chrf_mbr
from pomona.sample.pool import extremes, hedged
from pomona.tasks.metrics import metric


def draw(desk: Desk) -> Cost:
    """A pool of answers to every item, the prompt read once."""
    items, model, p = read_items(desk.inputs["items"]), load_model(desk, desk.inputs["model"]), desk.params
    temperatures = hedged(p["n"], p["temperature"])
    with Meter() as meter:
        pools = model.generate(
            items.prompts, n=p["n"], max_new_tokens=p["max_new_tokens"], temperature=temperatures,
            top_p=p["top_p"], min_p=p["min_p"], seed=p["seed"],
        )  # fmt: skip
    flops = answer_flops(model, pools)
    texts = [[sample.text for sample in pool] for pool in pools]
    pq.write_table(pa.table({"id": items.ids, "answers": texts}), desk.out / "pools.parquet")
    distinct = float(np.mean([len(set(pool)) / len(pool) for pool in texts]))
    write_json(desk.out / "pools.json", {"flops_per_item": flops / len(items), "distinct": distinct, "shape": asdict(model.shape)})
    tokens = sum(pool[0].prompt_tokens + sum(s.completion_tokens for s in pool) for pool in pools)
    return Cost(flops, tokens, meter.cpu_seconds, meter.wall_seconds)


def choose(desk: Desk) -> Cost:
    """One answer of each pool: by chrF-MBR, or the best or the worst against the reference."""
    items, how = read_items(desk.inputs["items"]), desk.params["choose"]
    pools: list[list[str]] = pq.read_table(desk.inputs["pools"] / "pools.parquet")["answers"].to_pylist()
    with Meter() as meter:
        if how == "chrf-mbr":
            picks = [chrf_mbr(pool) for pool in pools]
        else:
            picks = list(extremes(_utilities(pools, items.completions, desk.params["metric"]))[0 if how == "hope" else 1])
    about = read_json(desk.inputs["pools"] / "pools.json")
    chosen = [pool[int(i)] for pool, i in zip(pools, picks, strict=True)]
    write_answers(desk.out, items, chosen, desk.params["metric"], about["flops_per_item"], about["shape"])
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _utilities(pools: list[list[str]], references: list[str], name: str) -> list[np.ndarray]:
    measure = metric(name)
    sign = 1 if measure.higher_is_better else -1
    flat = [answer for pool in pools for answer in pool]
    repeated = [reference for pool, reference in zip(pools, references, strict=True) for _ in pool]
    values = sign * measure.aggregate(measure.statistics(flat, repeated))
    return np.split(values, np.cumsum([len(pool) for pool in pools])[:-1])


def add(plan: Plan) -> None:
    """Measure every pool under every selection, and what the pool could win or lose."""
    spec, base = plan.recipe.levers.sampling, plan.recipe.base
    model = plan.model(base)
    for pool in spec.pools if spec else []:
        name = _label(pool)
        params = {**plan.answering(), **pool.model_dump(exclude={"select", "kind"}), "max_new_tokens": plan.recipe.task.max_new_tokens}
        cost = plan.estimate("generate", model, plan.item_count, pool.n)
        drawn = plan.add(Step(f"sample {name}", "sample", draw, params, {"items": plan.items, "model": model}, cost))
        for how in [*pool.select, "hope", "risk"]:
            choice = {"choose": how, "metric": plan.recipe.task.metric}
            chosen = plan.add(Step(f"choose {name}-{how}", "sample", choose, choice, {"items": plan.items, "pools": drawn}))
            plan.measure("sampling", f"{name}/{how}", chosen, model, (base,), bound=how in ("hope", "risk"))


def _label(pool: Pool) -> str:
    extra = (f"-min{pool.min_p:g}" if pool.min_p else "") + (f"-top{pool.top_p:g}" if pool.top_p < 1 else "")
    return f"{pool.kind}{pool.n}-t{pool.temperature:g}{extra}"
