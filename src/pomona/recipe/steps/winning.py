"""How often a system's answers are better than the base's: by a judge that is asked about both
orders of the two, or by people's votes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pomona.arena import PairVerdict, VoteColumns, judge_pair, read_votes
from pomona.errors import PomonaError
from pomona.files import write_json
from pomona.ledger import Meter
from pomona.models import Request, Spent, wait_for
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.asking import Asked, opened
from pomona.recipe.steps.results import read_rows
from pomona.recipe.steps.tables import read_items
from pomona.tasks import Items

WINS = "wins.npy"
EQUAL = 0.5


@dataclass(frozen=True)
class Judged:
    """What `wins.json` says: items with a verdict, those whose two answers are equal and ties
    without asking among them; verdicts that turned with the order, and that could not be read.
    """

    items: int
    equal: int
    flipped: int
    errors: int


def judge_wins(step: StepContext) -> Cost:
    """Ask a judge about a system's answers and the base's, to some items of each group."""
    items, p = read_items(step.inputs["items"]), step.params
    ours, theirs = (_answers(step.inputs[name], items) for name in ("answers", "base"))
    alike = [a.strip() == b.strip() for a, b in zip(ours, theirs, strict=True)]
    taken = _drawn(items, p["per_group"], p["seed"])
    rows = [at for at in taken if not alike[at]]

    async def judge() -> tuple[list[PairVerdict], Asked]:
        async with opened(step) as asked:

            async def one(at: int, request: Request) -> PairVerdict:
                pair = request, ours[rows[at]], theirs[rows[at]]
                how = {name: p[name] for name in ("template", "flips", "seed")}
                return await judge_pair(asked.models["judge"], *pair, **how)

            return await asked.all(items.take(np.array(rows, np.int64)), one), asked

    with Meter() as meter:
        found, asked = wait_for(judge()) if rows else ([], None)
    values: list[float | None] = [None] * len(items)
    for at in taken:
        values[at] = EQUAL
    for row, verdict in zip(rows, found, strict=True):
        values[row] = verdict.value
    orders: list[list[float | None] | None] = [None] * len(items)
    for row, verdict in zip(rows, found, strict=True):
        orders[row] = list(verdict.orders)
    _write(step.out, items, values, orders)
    told = Judged(
        sum(value is not None for value in values),
        sum(alike[at] for at in taken),
        sum(verdict.flipped is True for verdict in found),
        sum(error is not None for verdict in found for error in verdict.errors),
    )
    write_json(step.out / "wins.json", asdict(told))
    if asked is None:
        return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)
    spent = asked.spent(sum((verdict.spent for verdict in found), Spent()))
    return Cost(
        spent["flops"],
        int(spent["tokens"] or 0),
        spent["seconds"],
        meter.wall_seconds,
        spent["money"],
    )


def _answers(folder: Path, items: Items) -> list[str]:
    rows = read_rows(folder / "answers.parquet", "id", "answer").to_pydict()
    given = dict(zip(rows["id"], rows["answer"], strict=True))
    return [given[id_] for id_ in items.ids]


def _drawn(items: Items, per_group: int | None, seed: int) -> list[int]:
    """The rows of at most so many items of each group, the same for every system."""
    order = sorted(
        range(len(items)),
        key=lambda at: hashlib.sha256(f"{seed} {items.ids[at]}".encode()).digest(),
    )
    seen, taken = Counter[str](), []
    for at in order:
        seen[items.groups[at]] += 1
        if per_group is None or seen[items.groups[at]] <= per_group:
            taken.append(at)
    return sorted(taken)


def count_wins(step: StepContext) -> Cost:
    """What people's votes say of a system's answers and the base's, item by item."""
    items, p = read_items(step.inputs["items"]), step.params
    with Meter() as meter:
        sums = np.zeros((len(items), 2))
        place = {id_: at for at, id_ in enumerate(items.ids)}
        for name in sorted(name for name in step.inputs if name.startswith("votes")):
            _add(sums, place, step.inputs[name], p["system"], p["base"])
    values = [won / votes if votes else None for won, votes in sums.tolist()]
    np.save(step.out / WINS, sums)
    _write(step.out, items, values, [None] * len(items))
    write_json(step.out / "wins.json", asdict(Judged(int((sums[:, 1] > 0).sum()), 0, 0, 0)))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _add(
    sums: NDArray[np.float64], place: dict[str, int], path: Path, system: str, base: str
) -> None:
    """Add wins and votes `[n, 2]` of each item, a tie as half a win."""
    votes = read_votes(str(path), VoteColumns())
    if "item" not in votes.columns.column_names:
        remedy = "give votes on the pairs of `pomona arena pairs`, which name the items"
        raise PomonaError('there is no column "item"', where=path, remedy=remedy)
    items = votes.columns["item"].to_pylist()
    of = {system: 1.0, base: 0.0}
    for row, item in enumerate(items):
        both = (votes.models[votes.a[row]], votes.models[votes.b[row]])
        if set(both) != {system, base} or str(item) not in place:
            continue
        count, outcome = int(votes.count[row]), int(votes.outcome[row])
        won = EQUAL if outcome > 1 else of[both[outcome]]
        sums[place[str(item)]] += (won * count, count)


def _write(
    folder: Path,
    items: Items,
    values: Sequence[float | None],
    orders: Sequence[list[float | None] | None],
) -> None:
    """The verdict of each item `[n]`, null where there is none, and the sums `[n, 2]` of wins and
    verdicts.
    """
    columns: dict[str, Any] = {
        "id": items.ids,
        "value": pa.array(values, pa.float64()),
        "orders": pa.array(orders, pa.list_(pa.float64())),
    }
    pq.write_table(pa.table(columns), folder / "wins.parquet")
    if not (folder / WINS).exists():
        sums = [(value or 0.0, float(value is not None)) for value in values]
        np.save(folder / WINS, np.array(sums, np.float64).reshape(len(items), 2))
