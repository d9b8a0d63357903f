"""How often a system's answers are better than the base's: by a judge that is asked about both
orders of the two, or by people's votes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.arena import PairVerdict, VoteColumns, Votes, judge_pair, read_votes
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
POLLS = "votes.parquet"
EQUAL = 0.5
_KEPT = ("item", "voter", "completion_a", "completion_b", "id", "time")
_POLLED = pa.schema(
    [
        *((name, pa.string()) for name in ("item", "voter", "model_a", "model_b")),
        *((name, pa.string()) for name in ("completion_a", "completion_b")),
        ("won", pa.float64()),
        ("n", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Judged:
    """What a judge's `wins.json` says: items with a verdict, those whose two answers are equal and
    ties without asking among them; pairs that were put before the judge, those that turned with the
    order, and those that have no verdict; and answers of the judge that could not be read, with
    what was wrong with the first one.
    """

    items: int
    equal: int
    asked: int
    flipped: int
    none: int
    errors: int
    wrong: str | None


@dataclass(frozen=True)
class Voted:
    """What the `wins.json` of votes on a system and the base says: items with a vote, and votes on
    them; and those that do not count, on items that are no test items, and on answers that are not
    those of this run.
    """

    items: int
    votes: int
    elsewhere: int
    stale: int


@dataclass(frozen=True)
class Polled:
    """What `votes.json` says of all votes: how many there are, how many more are rows that stand
    there twice, how many people gave them (None where they are not named), how many are on each
    pair of names, and what else of the tables does not count.
    """

    votes: int
    twice: int
    voters: int | None
    pairs: list[tuple[str, str, int]]
    notes: list[str]


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
                how = {name: p[name] for name in ("template", "free", "flips", "seed")}
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
    errors = [error for verdict in found for error in verdict.errors if error is not None]
    told = Judged(
        sum(value is not None for value in values),
        sum(alike[at] for at in taken),
        len(found),
        sum(verdict.flipped is True for verdict in found),
        sum(verdict.value is None for verdict in found),
        len(errors),
        next(iter(errors), None),
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


def read_polls(step: StepContext) -> Cost:
    """The votes of all tables in one, each once, with what they are on."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    voters, twice, notes = set[tuple[Any, ...]](), 0, list[str]()
    with Meter() as meter:
        for at, name in enumerate(sorted(step.inputs)):
            votes = read_votes(str(step.inputs[name]), VoteColumns(), keep=_KEPT)
            notes += votes.notes
            for number, row in enumerate(_polled(votes, step.inputs[name])):
                # A vote that an arena has exported twice has the same number, voter and time.
                own = row.pop("id"), row.pop("time")
                key = (*own, *row.values()) if None not in own else (at, number)
                twice += row["n"] if key in rows else 0
                rows.setdefault(key, row)
                voters.add((at, row["voter"]))
    table = pa.Table.from_pylist(list(rows.values()), _POLLED)
    pq.write_table(table, step.out / POLLS)
    pairs = Counter[tuple[str, str]]()
    for row in rows.values():
        a, b = sorted((row["model_a"], row["model_b"]))
        pairs[a, b] += row["n"]
    named = all(voter is not None for _, voter in voters)
    shown = [(a, b, n) for (a, b), n in sorted(pairs.items(), key=lambda one: (-one[1], one[0]))]
    told = Polled(sum(pairs.values()), twice, len(voters) if named else None, shown, notes)
    write_json(step.out / "votes.json", asdict(told))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _polled(votes: Votes, path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table of votes."""
    there = votes.columns.column_names
    if "item" not in there:
        remedy = "give votes on the pairs of `pomona arena pairs`, which name the items"
        raise PomonaError('there is no column "item"', where=path, remedy=remedy)
    none = [None] * len(votes)
    columns = {name: votes.columns[name].to_pylist() if name in there else none for name in _KEPT}
    for at, outcome in enumerate(votes.outcome.tolist()):
        own = {name: column[at] for name, column in columns.items()}
        yield own | {
            "item": str(own["item"]),
            "voter": None if own["voter"] is None else str(own["voter"]),
            "model_a": votes.models[votes.a[at]],
            "model_b": votes.models[votes.b[at]],
            "won": EQUAL if outcome > 1 else 1.0 - outcome,
            "n": int(votes.count[at]),
        }


def count_wins(step: StepContext) -> Cost:
    """What people's votes say of a system's answers and the base's, item by item."""
    items, p = read_items(step.inputs["items"]), step.params
    ours, theirs = (_answers(step.inputs[name], items) for name in ("answers", "base"))
    with Meter() as meter:
        sums = np.zeros((len(items), 2))
        place = {id_: at for at, id_ in enumerate(items.ids)}
        elsewhere = stale = 0
        for row in read_rows(step.inputs["votes"] / POLLS).to_pylist():
            sides = row["model_a"], row["model_b"]
            if not compares(sides, p["systems"], p["bases"]):
                continue
            shown = [row["completion_a"], row["completion_b"]]
            won = row["won"]
            if sides[0] in p["bases"]:
                shown, won = shown[::-1], 1 - won
            at = place.get(row["item"])
            if at is None:
                elsewhere += row["n"]
            elif not all(map(_same, shown, (ours[at], theirs[at]))):
                stale += row["n"]
            else:
                sums[at] += (won * row["n"], row["n"])
    values = [won / votes if votes else None for won, votes in sums.tolist()]
    np.save(step.out / WINS, sums)
    _write(step.out, items, values, [None] * len(items))
    told = Voted(int((sums[:, 1] > 0).sum()), int(sums[:, 1].sum()), elsewhere, stale)
    write_json(step.out / "wins.json", asdict(told))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def compares(sides: tuple[str, str], systems: Sequence[str], bases: Sequence[str]) -> bool:
    """Whether one of two is the system and the other the base, by any of their names."""
    a, b = sides
    return (a in systems and b in bases) or (a in bases and b in systems)


def _same(shown: str | None, answer: str) -> bool:
    """Whether people saw this answer, as far as the votes say; lines may end in another way."""
    return shown is None or shown.split() == answer.split()


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
