"""What costs nearly nothing and must be beaten: the source copied, and answers of the nearest
training items. No model is asked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pomona.files import write_json
from pomona.ledger import Meter
from pomona.memory import consensus, find
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.answering import write_answers
from pomona.recipe.steps.measuring import Measures
from pomona.recipe.steps.results import Serving, read_rows, write_serving
from pomona.recipe.steps.tables import read_items


@dataclass(frozen=True)
class Search:
    """What `search.json` says: how many items are in the memory as they are."""

    known: int


def copy_sources(step: StepContext) -> Cost:
    """Every item answered by its source: the least that a system is for."""
    items = read_items(step.inputs["items"])
    with Meter() as meter:
        write_answers(step, items, items.sources, None)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def find_neighbours(step: StepContext) -> Cost:
    """The nearest items of a memory to every item, those of its group alone: their rows, similarity
    and answers, nearest first, none where nothing of the group shares an n-gram with it.
    """
    items, memory = read_items(step.inputs["items"]), read_items(step.inputs["memory"])
    with Meter() as meter:
        searched = (memory.sources, memory.groups, items.sources, items.groups)
        found = find(*searched, step.params["neighbours"])
    answers = [[memory.completions[row] for row in near] for near in found.rows]
    columns = {
        "id": pa.array(items.ids),
        "rows": pa.array([list(map(int, near)) for near in found.rows], pa.list_(pa.int64())),
        "similarity": pa.array(list(map(list, found.similarity)), pa.list_(pa.float64())),
        "answers": pa.array(answers, pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), step.out / "neighbours.parquet")
    known = len(set(memory.ids) & set(items.ids))
    write_json(step.out / "search.json", asdict(Search(known)))
    searching = float(found.flops.sum())
    write_serving(step.out, Serving(searching / len(items), found.flops_once, found.bytes))
    return Cost(found.flops_once + searching, 0, meter.cpu_seconds, meter.wall_seconds)


def look_up(step: StepContext) -> Cost:
    """Every item answered as its nearest neighbour was or, with `vote`, as most of its neighbours
    were by the metric, and by its source where the nearest is `far`. Without neighbours the source
    is the answer.
    """
    items, p, at = read_items(step.inputs["items"]), step.params, step.inputs["neighbours"]
    rows = read_neighbours(at / "neighbours.parquet", p["neighbours"])
    with Meter() as meter:
        answers = [
            row["answers"][0] if row["answers"] else source
            for row, source in zip(rows, items.sources, strict=True)
        ]
        if p["vote"]:
            near = np.flatnonzero(nearest_of(rows) >= p["far"])
            picks = consensus(
                Measures.of(step, items).between,
                [rows[i]["answers"] for i in near],
                [rows[i]["similarity"] for i in near],
            )
            answers = list(items.sources)
            for i, pick in zip(near, picks, strict=True):
                answers[i] = rows[i]["answers"][pick]
        write_answers(step, items, answers, None)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def read_neighbours(path: Path, most: int) -> list[dict[str, Any]]:
    """The `rows`, `similarity` and `answers` of at most so many of every item's neighbours."""
    rows = read_rows(path, "rows", "similarity", "answers").to_pylist()
    return [{name: values[:most] for name, values in row.items()} for row in rows]


def nearest_of(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    """The similarity of each item's nearest neighbour; −1 where it has none."""
    return np.array([row["similarity"][0] if row["similarity"] else -1.0 for row in rows])
