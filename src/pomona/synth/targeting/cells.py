"""Rows in cells: by columns, by how long their texts are, and by how far they are from those of the
training data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import PomonaError, quantity
from pomona.records import NamedRows, as_text
from pomona.stats import rows_of
from pomona.synth.targeting.recipe import DISTANCE, LENGTH, MADE, TargetsRecipe
from pomona.text import Nearest

Key = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Side:
    """Rows of one role: their texts, the group and the cell of each, and how similar the nearest
    text of the training data is `[n]`, None where nobody asked. `table` has their columns.
    """

    texts: list[str]
    groups: list[str]
    keys: list[Key]
    similarity: NDArray[np.float64] | None
    table: pa.Table

    def within(self, rows: Sequence[int]) -> Side:
        """Some of the rows."""
        near = None if self.similarity is None else self.similarity[list(rows)]
        return Side(
            [self.texts[row] for row in rows],
            [self.groups[row] for row in rows],
            [self.keys[row] for row in rows],
            near,
            self.table.take(pa.array(rows, pa.int64())),
        )


@dataclass(frozen=True)
class Sorter:
    """Puts rows in cells as a recipe says. `memory` are the texts of the training data by group."""

    recipe: TargetsRecipe
    memory: Mapping[str, Sequence[str]]

    def side(
        self,
        texts: list[str],
        columns: Mapping[str, list[str]],
        table: pa.Table,
        *,
        known: bool = False,
    ) -> Side:
        """A side from its texts and the columns of its cells. `known` rows are the training data
        itself, each of which is compared with the others.
        """
        by, groups = self.recipe.by, columns[self.recipe.group]
        made, near = dict(columns), None
        if LENGTH in by and LENGTH not in made:
            made[LENGTH] = [self._length(len(text)) for text in texts]
        if DISTANCE in by and DISTANCE not in made:
            near = self._similarity(texts, groups, known=known)
            made[DISTANCE] = self._distance(near)
        keys = list(zip(*(made[name] for name in by), strict=True))
        return Side(texts, groups, keys, near, table)

    def wanted(self, side: Side) -> Side:
        """The rows of a side that are in cells of the recipe."""
        kept = [row for row, key in enumerate(side.keys) if self._wanted(key)]
        return side if len(kept) == len(side.keys) else side.within(kept)

    def measured(self, side: Side) -> Side:
        """A side with its similarities."""
        if side.similarity is not None:
            return side
        near = self._similarity(side.texts, side.groups, known=False)
        return replace(side, similarity=near)

    @property
    def lengths(self) -> list[str]:
        """The names of all lengths, in order."""
        return [self._length(size) for size in (0, *self.recipe.lengths)]

    def _wanted(self, key: Key) -> bool:
        only = self.recipe.only
        return all(
            value in only[name]
            for name, value in zip(self.recipe.by, key, strict=True)
            if name in only
        )

    def _length(self, size: int) -> str:
        cuts = self.recipe.lengths
        place = int(np.searchsorted(cuts, size, side="right"))
        low = 0 if place == 0 else cuts[place - 1]
        return f"{low}–{cuts[place] - 1}" if place < len(cuts) else f"{low}–"

    def _distance(self, near: NDArray[np.float64]) -> list[str]:
        far, close = near < self.recipe.far, near >= self.recipe.near
        return np.select([far, close], ["far", "near"], "middle").tolist()

    def _similarity(
        self, texts: Sequence[str], groups: Sequence[str], *, known: bool
    ) -> NDArray[np.float64]:
        near = np.zeros(len(texts))
        for group, rows in rows_of(groups).items():
            if len(memory := self.memory.get(group, ())) > int(known):
                mine = [texts[int(row)] for row in rows]
                found = Nearest(memory).search(mine, 1 + int(known))
                near[rows] = found.similarity[:, 0]
                if known:  # the first is the text itself, or one equal to it
                    own = found.rows[:, 0] == np.arange(len(rows))
                    near[rows[own]] = found.similarity[own, 1]
        return near


def read_rows(
    rows: NamedRows,
    text: str,
    recipe: TargetsRecipe,
    *,
    more: Sequence[str] = (),
    group: bool = True,
    everywhere: bool = False,
) -> tuple[list[str], dict[str, list[str]], pa.Table]:
    """The texts of a section, the columns of its cells, without that of groups where it needs none,
    and a table of these with `more`; of all groups if `everywhere`. Raises PomonaError for a column
    that is missing, and for what is null.
    """
    records = rows.read()
    names = [name for name in recipe.by if name not in MADE or name in records.column_names]
    names = names if group else names[1:]
    records.require(text, *names, *more)
    only = None if everywhere or not group else recipe.only.get(recipe.group)
    # Rows of other groups need not be read; a column of numbers is compared as text later
    if only and pa.types.is_string(records.schema.field(recipe.group).type):
        records = records.where(**{recipe.group: only})
    where, kind = str(records.source.where), records.schema.field(text).type
    if not pa.types.is_string(kind):
        message = f'column "{text}" holds {kind}, not text'
        raise PomonaError(message, where=where, remedy="name another column: text")
    table = records.select(*dict.fromkeys([text, *names, *more])).to_table()
    refuse_nulls(table, [text, *names], where)
    columns = {name: as_text(table.column(name)).to_pylist() for name in names}
    return table.column(text).to_pylist(), columns, table


def refuse_nulls(table: pa.Table, names: Sequence[str], where: str) -> None:
    """Raise PomonaError for the first of these columns that has a null."""
    for name in names:
        if nulls := table.column(name).null_count:
            message = f'column "{name}" is null in {quantity(nulls, "row")}'
            remedy = "fill them in, or leave these rows out: where"
            raise PomonaError(message, where=where, remedy=remedy)


def tally(keys: Sequence[Key], cells: Sequence[Key]) -> NDArray[np.int64]:
    """How many rows are in each cell `[c]`."""
    place = {key: at for at, key in enumerate(cells)}
    found = np.array([place[key] for key in keys], np.int64)
    return np.bincount(found, minlength=len(cells)) if len(found) else np.zeros(len(cells), int)
