"""Prompts from a pool for the cells that want some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby

import pyarrow as pa

from pomona.errors import PomonaError
from pomona.records import as_text
from pomona.synth.checks import HeldOut, NearDuplicates
from pomona.synth.targeting.cells import Key, Side, Sorter, read_rows
from pomona.synth.targeting.recipe import Pool, TargetsRecipe


@dataclass
class Chosen:
    """Prompts for cells: the table, how many of each cell there were and were taken, and why others
    were not.
    """

    table: pa.Table
    available: Counter[Key]
    taken: Counter[Key]
    passed: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The prompts of a pool, each for a group: rows of a side, with ids that differ."""

    side: Side
    ids: list[str]


def read_pool(pool: Pool, sorter: Sorter, groups: Sequence[str]) -> Candidates:
    """The prompts of a pool, in their cells; with `cross` each text in every group whose training
    data has it not. Raises PomonaError for a column that is missing, and ids that do not differ.
    """
    recipe = sorter.recipe
    text = pool.text or recipe.text
    more = [*([pool.id] if pool.id else []), *pool.columns]
    texts, columns, table = read_rows(pool, text, recipe, more=more, group=not pool.cross)
    if pool.id is None:
        ids = [str(row) for row in range(1, len(texts) + 1)]
    else:
        ids = [str(name) for name in as_text(table.column(pool.id)).to_pylist()]
    rows = list(range(len(texts)))
    if pool.cross:
        first: dict[str, int] = {}
        for row, said in enumerate(texts):
            first.setdefault(said, row)
        known = {group: set(sorter.memory.get(group, ())) for group in groups}
        pairs = [(row, group) for group in groups for said, row in first.items()
                 if said not in known[group]]  # fmt: skip
        rows, offered = [row for row, _ in pairs], [group for _, group in pairs]
        ids = [f"{ids[row]}-{group}" for row, group in pairs]
        columns = {name: [values[row] for row in rows] for name, values in columns.items()}
        columns[recipe.group] = offered
        texts = [texts[row] for row in rows]
    _check_ids(ids, str(pool.read().source.where), pool.id)
    table = table.take(pa.array(rows, pa.int64())).append_column(_ID, pa.array(ids, pa.string()))
    side = sorter.wanted(sorter.side(texts, columns, table))
    return Candidates(side, side.table.column(_ID).to_pylist())


_ID = "\0id"  # no column of a user's is called so


def _check_ids(ids: Sequence[str], where: str, column: str | None) -> None:
    twice = next((name for name, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        place = f'{where}, column "{column}"'
        remedy = "name a column of ids that differ, or leave it out"
        raise PomonaError(f'"{twice}" is there twice', where=place, remedy=remedy)


def choose(
    candidates: Candidates,
    asked: Mapping[Key, int],
    recipe: TargetsRecipe,
    tests: Sequence[str],
) -> Chosen:
    """As many prompts of each cell as are asked for, in an order that the seed and their ids say,
    so that a larger plan takes those of a smaller one and more. None is a near copy of a test's
    text, or of a prompt that is taken in its group.
    """
    side = candidates.side
    forbidden = HeldOut(recipe.near_duplicates)
    forbidden.add_all(list(dict.fromkeys(tests)))
    members: dict[Key, list[int]] = {}
    for row, key in enumerate(side.keys):
        members.setdefault(key, []).append(row)
    taken: list[int] = []
    passed: Counter[str] = Counter()
    of_test: dict[str, bool] = {}
    wanted = sorted(key for key, count in asked.items() if count)
    for _, keys in groupby(wanted, key=lambda key: key[0]):
        mine = NearDuplicates(recipe.near_duplicates)  # what is taken in the group
        for key in keys:
            last = len(taken) + asked[key]
            for row in _shuffled(members.get(key, ()), candidates.ids, recipe.seed):
                if len(taken) == last:
                    break
                text = side.texts[row]
                if text not in of_test:
                    of_test[text] = forbidden.alike([text])[0]
                if of_test[text]:
                    passed["near copies of a test's text"] += 1
                elif mine.nearest(text) is not None:
                    passed["near copies of a prompt in the same group"] += 1
                else:
                    mine.add(text)
                    taken.append(row)
    available = Counter({key: len(rows) for key, rows in members.items()})
    return Chosen(
        _table(candidates, taken, recipe),
        available,
        Counter(side.keys[row] for row in taken),
        passed,
    )


def _shuffled(rows: Sequence[int], ids: Sequence[str], seed: int) -> Iterator[int]:
    def drawn(row: int) -> bytes:
        return blake2b(f"{seed}\0{ids[row]}".encode("utf-8", "surrogatepass")).digest()

    return iter(sorted(rows, key=drawn))


def _table(candidates: Candidates, rows: Sequence[int], recipe: TargetsRecipe) -> pa.Table:
    """What `pomona synth run` reads: id, text and the columns of the cells, and what goes along."""
    side = candidates.side.within(rows)
    pool = recipe.pool
    assert pool is not None
    text = pool.text or recipe.text
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "id": pa.array([candidates.ids[row] for row in rows], pa.string()),
        text: pa.array(side.texts, pa.string()),
    }
    for at, name in enumerate(recipe.by):
        columns.setdefault(name, pa.array([key[at] for key in side.keys], pa.string()))
    for name in pool.columns:
        columns.setdefault(name, side.table.column(name))
    return pa.table(columns)
