"""The memory lever's candidates: put together, gathered, weighed and chosen among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pomona.ledger import Meter
from pomona.memory import (
    FEATURES,
    Composed,
    LearnedPhrases,
    Phrases,
    Selector,
    cross_fitted,
    usual_length,
    with_features,
)
from pomona.models import Shape, decode_flops, prefill_flops
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.answering import load_model, write_answers
from pomona.recipe.steps.controls import read_neighbours
from pomona.recipe.steps.measuring import Measures
from pomona.recipe.steps.pools import drawing, read_pools
from pomona.recipe.steps.results import Serving, read_rows, write_serving
from pomona.recipe.steps.tables import read_items
from pomona.stats import rows_of
from pomona.tasks import Items

LOGPROB = FEATURES.index("logprob")
Pool = dict[str, Any]  # its `texts`, and its `features` [k, len(FEATURES)]


def learn_phrases(step: StepContext) -> Cost:
    """The phrases of the memory, group by group."""
    memory = read_items(step.inputs["memory"])
    found: dict[str, LearnedPhrases] = {}
    with Meter() as meter:
        for group, rows in rows_of(memory.groups).items():
            found[group] = Phrases(*_pairs(memory, rows)).learned
            step.advance(len(found), len(set(memory.groups)))
        for name in _LEARNED:
            parts = [
                (table := getattr(one, name)).append_column("group", pa.array([g] * len(table)))
                for g, one in found.items()
            ]
            path = step.out / f"{name}.parquet"
            pq.write_table(pa.concat_tables(parts), path, compression="zstd")
    flops = sum(one.flops for one in found.values())
    return Cost(flops, 0, meter.cpu_seconds, meter.wall_seconds)


_LEARNED = ("phrases", "forward", "backward")


def _learned(folder: Path) -> dict[str, LearnedPhrases]:
    """By group."""
    tables = [read_rows(folder / f"{name}.parquet") for name in _LEARNED]
    groups = [rows_of(table["group"].to_pylist()) for table in tables]
    every = {group for rows in groups for group in rows}
    return {
        group: LearnedPhrases(
            *(
                table.take(pa.array(rows.get(group, []), pa.int64())).drop_columns("group")
                for table, rows in zip(tables, groups, strict=True)
            ),
            flops=0.0,
        )
        for group in every
    }


def _pairs(memory: Items, rows: NDArray[np.intp]) -> tuple[list[str], list[str]]:
    own = memory.take(rows)
    return own.sources, own.completions


def put_together(step: StepContext) -> Cost:
    """Answers put together for every item from the memory's phrases, those of its group alone."""
    items, memory = read_items(step.inputs["items"]), read_items(step.inputs["memory"])
    p, made = step.params, [[] for _ in items.ids]
    found = read_neighbours(step.inputs["neighbours"] / "neighbours.parquet", p["edited"])
    stored, done, at = rows_of(memory.groups), 0, step.inputs["phrases"]
    with Meter() as meter:
        learned = _learned(at)
        for group, rows in rows_of(items.groups).items():
            if group not in stored:
                continue
            own = stored[group]
            place = {int(row): at for at, row in enumerate(own)}
            phrases = Phrases(*_pairs(memory, own), learned[group])
            for row in rows:
                near = [place[at] for at in found[row]["rows"]]
                asked = (items.sources[row], near, found[row]["similarity"])
                made[row] = phrases.candidates(*asked, edited=p["edited"], composed=p["composed"])
            done += len(rows)
            step.advance(done, len(items))
    told = [[asdict(one) for one in each] for each in made]
    table = pa.table({"id": items.ids, "made": pa.array(told, pa.list_(_MADE))})
    pq.write_table(table, step.out / "made.parquet")
    stored_bytes = sum(path.stat().st_size for path in at.glob("*.parquet"))
    write_serving(step.out, Serving(0.0, bytes=stored_bytes))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


_MADE = pa.struct(
    {
        "text": pa.string(),
        "kind": pa.string(),
        "score": pa.float64(),
        "unknown": pa.int64(),
        "rank": pa.int64(),
        "kept": pa.float64(),
        "similarity": pa.float64(),
    }
)


def _made(folder: Path) -> list[list[Composed]]:
    rows = read_rows(folder / "made.parquet", "made")["made"].to_pylist()
    return [[Composed(**one) for one in each] for each in rows]


def answer_put_together(step: StepContext) -> Cost:
    """The best answer that is put together; the source where there is none."""
    items = read_items(step.inputs["items"])
    with Meter() as meter:
        made = _made(step.inputs["made"])
        firsts = [next((one.text for one in each if one.text.strip()), "") for each in made]
        answers = [one or source for one, source in zip(firsts, items.sources, strict=True)]
        write_answers(step, items, answers, None)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def gather_candidates(step: StepContext) -> Cost:
    """The candidates of every item, with what is known of each: those put together, the answers of
    its neighbours, what a model drew if it did, and the source.
    """
    items, memory = read_items(step.inputs["items"]), read_items(step.inputs["memory"])
    p, made = step.params, _made(step.inputs["made"])
    found = read_neighbours(
        step.inputs["neighbours"] / "neighbours.parquet", max(1, p["neighbours"])
    )
    drawn: list[list[str]] = [[] for _ in items.ids]
    serving = Serving(0.0)
    if "pools" in step.inputs:
        about, rows = read_pools(step.inputs["pools"], p["n"])
        drawn, serving = [row["answers"] for row in rows], drawing(about, items, rows)
    with Meter() as meter:
        usual = {
            group: usual_length(
                [memory.sources[row] for row in rows], [memory.completions[row] for row in rows]
            )
            for group, rows in rows_of(memory.groups).items()
        }
        pools = []
        for at, source in enumerate(items.sources):
            answers, similarity = (found[at][name] for name in ("answers", "similarity"))
            texts, known = with_features(
                source,
                made[at],
                answers[: p["neighbours"]],
                similarity[: p["neighbours"]],
                drawn[at],
                nearest=similarity[0] if similarity else 0.0,
                usual=usual.get(items.groups[at], (0.0, 1.0)),
            )
            pools.append({"texts": texts, "features": known})
            if at % 100 == 0:
                step.advance(at, len(items))
    _write_pools(step.out, items, pools)
    write_serving(step.out, serving)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _write_pools(folder: Path, items: Items, pools: Sequence[Pool]) -> None:
    columns = {
        "id": pa.array(items.ids),
        "texts": pa.array([pool["texts"] for pool in pools], pa.list_(pa.string())),
        "features": pa.array(
            [pool["features"].ravel().tolist() for pool in pools], pa.list_(pa.float64())
        ),
    }
    pq.write_table(pa.table(columns), folder / "candidates.parquet", compression="zstd")


def _read_pools(folder: Path) -> list[Pool]:
    rows = read_rows(folder / "candidates.parquet", "texts", "features").to_pylist()
    shape = (-1, len(FEATURES))
    return [row | {"features": np.array(row["features"]).reshape(shape)} for row in rows]


def _utilities(step: StepContext, items: Items, pools: Sequence[Pool]) -> list[NDArray[np.float64]]:
    """What the metric that leads gives to each candidate, turned so that more is better."""
    return Measures.of(step, items).utilities([pool["texts"] for pool in pools])


def learn_selector(step: StepContext) -> Cost:
    """What weighs how much in the choice, by items whose references are known."""
    items, p = read_items(step.inputs["items"]), step.params
    with Meter() as meter:
        pools = _read_pools(step.inputs["candidates"])
        worth = _utilities(step, items, pools)
        known = [pool["features"] for pool in pools]
        fitted = Selector.fit(known, worth, FEATURES, penalty=p["penalty"])
        told = {
            "metric": p["metrics"][0],
            "items": len(items),
            **{name: p[name] for name in ("penalty", "seed")},
        }
        replace(fitted, learned=told).save(step.out / "selector.json")
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def score_shortlist(step: StepContext) -> Cost:
    """The candidates of every item that a selector puts first, with what a model gives to each: the
    mean log-probability of its tokens.
    """
    items, p = read_items(step.inputs["items"]), step.params
    model = load_model(step, step.inputs["model"])
    with Meter() as meter:
        pools = _read_pools(step.inputs["candidates"])
        selector = Selector.load(step.inputs["selector"] / "selector.json")
        scores = selector.scores([pool["features"] for pool in pools])
        short = [
            _part(pool, np.argsort(-np.round(each, 9), kind="stable")[: p["shortlist"]])
            for pool, each in zip(pools, scores, strict=True)
        ]
        prompts = [
            prompt for prompt, pool in zip(items.prompts, short, strict=True) for _ in pool["texts"]
        ]
        texts = [text for pool in short for text in pool["texts"]]
        logprobs = model.score(prompts, texts, end=True)
        at = 0
        for pool in short:
            for row in range(len(pool["texts"])):
                pool["features"][row, LOGPROB] = float(np.mean(logprobs[at + row]))
            at += len(pool["texts"])
    _write_pools(step.out, items, short)
    # Prompts are read once for all candidates in the account, as they are where answers are drawn.
    read = model.count_tokens(items.prompts).astype(np.float64)
    lengths = [len(each) for each in logprobs]
    owner = np.repeat(np.arange(len(short)), [len(pool["texts"]) for pool in short])
    flops = _scoring_flops(model.shape, read, owner, np.array(lengths, np.float64))
    tokens = int(read.sum()) + sum(lengths)
    told = Serving(flops / len(items), tokens_per_item=tokens / len(items))
    write_serving(step.out, told)
    return Cost(flops, tokens, meter.cpu_seconds, meter.wall_seconds)


def _scoring_flops(
    shape: Shape, read: NDArray[np.float64], owner: NDArray[np.intp], lengths: NDArray[np.float64]
) -> float:
    written = decode_flops(shape, read[owner], lengths).sum()
    return float(prefill_flops(shape, read).sum() + written)


def _part(pool: Pool, rows: NDArray[np.intp]) -> Pool:
    return {"texts": [pool["texts"][row] for row in rows], "features": pool["features"][rows]}


def take_best(step: StepContext) -> Cost:
    """The candidate that a selector puts first; with `folds`, for the items that it learned from,
    what one learned without their cluster does.
    """
    items, p = read_items(step.inputs["items"]), step.params
    with Meter() as meter:
        pools = _read_pools(step.inputs["candidates"])
        known = [pool["features"] for pool in pools]
        if p["folds"]:
            picks = cross_fitted(
                known,
                _utilities(step, items, pools),
                FEATURES,
                items.clusters,
                folds=p["folds"],
                seed=p["seed"],
                penalty=p["penalty"],
            )
        else:
            picks = Selector.load(step.inputs["selector"] / "selector.json").choose(known)
        answers = [pool["texts"][pick] for pool, pick in zip(pools, picks, strict=True)]
        write_answers(step, items, answers, None)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)
