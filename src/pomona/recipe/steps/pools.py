"""Pools of answers on disk: what was drawn for each item, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.files import write_json
from pomona.models import Reply, Shape, Spent
from pomona.recipe.steps.answering import pool_flops
from pomona.recipe.steps.results import Serving, read_result, read_rows
from pomona.tasks import Items

COLUMNS = ("id", "prompt_tokens", "answers", "tokens", "logprobs")
# Of answers that were asked one by one: the temperature of each, and what each cost by itself.
ASKED = {
    "temperatures": pa.list_(pa.float64()),
    "spent": pa.list_(
        pa.struct(
            [
                ("tokens", pa.int64()),
                ("flops", pa.float64()),
                ("money", pa.float64()),
                ("seconds", pa.float64()),
            ]
        )
    ),
}
_LISTS = ("answers", "tokens", "logprobs", *ASKED)


@dataclass(frozen=True)
class Pools:
    """What `pools.json` says: the share of answers that differ, the sizes of the model as far as
    they are known, the temperature of each answer, FLOPs of a token's search in a datastore of
    states, by group, and the CPU seconds and tokens of all answers where none says its own.
    """

    distinct: float
    shape: Shape | None
    temperatures: list[float]
    searches: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    tokens: int | None = None


def write_pools(folder: Path, columns: dict[str, list[Any]], about: Pools) -> None:
    """Write pools: the columns of `COLUMNS`, and perhaps those of `ASKED`."""
    table = pa.table({name: values for name, values in columns.items() if name not in ASKED})
    for name, kind in ASKED.items():
        if name in columns:
            table = table.append_column(name, pa.array(columns[name], kind))
    pq.write_table(table, folder / "pools.parquet")
    write_json(folder / "pools.json", asdict(about))


def read_pools(folder: Path, most: int) -> tuple[Pools, list[dict[str, Any]]]:
    """What is said of all pools, and the first so many answers of each, a row each."""
    about = read_result(folder / "pools.json", Pools)
    path = folder / "pools.parquet"
    read_rows(path, *COLUMNS)  # that these are there
    rows = read_rows(path).to_pylist()
    return about, [some(row, slice(most)) for row in rows]


def some(row: dict[str, Any], places: slice) -> dict[str, Any]:
    """Some answers of a pool."""
    return row | {name: row[name][places] for name in _LISTS if name in row}


def distinct(answers: Sequence[Sequence[str]]) -> float:
    """The mean share of answers that differ."""
    return float(np.mean([len(set(pool)) / len(pool) for pool in answers]))


def replies(row: dict[str, Any], about: Pools) -> list[Reply]:
    """A pool as what models answered."""
    asked = row.get("temperatures") or about.temperatures
    columns = zip(row["answers"], row["tokens"], row["logprobs"], strict=True)
    return [
        Reply(text, "stop", Spent(completion_tokens=tokens), "", index, asked[index], logprob)
        for index, (text, tokens, logprob) in enumerate(columns)
    ]


def drawing(about: Pools, items: Items, rows: Sequence[dict[str, Any]]) -> Serving:
    """What drawing the answers in `rows` costs, each prompt read once."""
    count = len(rows)
    if "spent" in rows[0]:
        told = [spent for row in rows for spent in row["spent"]]
        flops, tokens, money, seconds = (
            _mean([spent[name] for spent in told], count)
            for name in ("flops", "tokens", "money", "seconds")
        )
        return Serving(
            flops, tokens_per_item=tokens, money_per_item=money, seconds_per_item=seconds
        )
    read, written = [row["prompt_tokens"] for row in rows], [row["tokens"] for row in rows]
    searched = sum(
        about.searches.get(group, 0.0) * sum(tokens)
        for group, tokens in zip(items.groups, written, strict=True)
    )
    assert about.shape is not None  # of a model that is computed here
    flops = (pool_flops(about.shape, read, written) + searched) / count
    tokens, seconds = sum(read) + sum(map(sum, written)), None
    if about.seconds is not None and about.tokens:
        seconds = about.seconds * tokens / about.tokens / count
    return Serving(flops, tokens_per_item=tokens / count, seconds_per_item=seconds)


def _mean(numbers: Sequence[float | None], items: int) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / items if len(known) == len(numbers) else None
