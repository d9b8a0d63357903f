"""Votes on pairs of answers: who was shown beside whom, and which was preferred."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.arena.battles import NESTED, OPENED, flat, is_list, read_list
from pomona.arena.loops import cells_of
from pomona.arena.vote_columns import ONE_OF, VoteColumns, names_of
from pomona.errors import PomonaError, nearest, row_of
from pomona.records import Records, TableSource, Where, as_codes, as_groups, as_records, read

OUTCOMES = ("model_a", "model_b", "tie", "tie (bothbad)")  # by code: 0, 1, 2, 3
# Other words for outcomes. A model of such a name would make them ambiguous, and is refused.
_WORDS = {
    **{name: code for code, name in enumerate(OUTCOMES)},
    **dict.fromkeys(("a", "left"), 0),
    **dict.fromkeys(("b", "right"), 1),
    **dict.fromkeys(("draw", "equal"), 2),
    **dict.fromkeys(("both_bad", "bothbad", "tie (both bad)", "tie_bothbad"), 3),
}
_SHOWN = ("model_a", "model_b", "winner", "n")  # what becomes arrays; other columns stay columns
_COUNTS = (("win_a",), ("win_b",), ("tie_1", "tie"), ("tie_2", "tie_bothbad"))
_MOST = 2**53  # votes, which are whole numbers as float64 too
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Votes:
    """Votes, one row or more than one to a row.

    models: sorted names, each in at least one vote.
    a, b: int32 [n] indices into models, a of the one shown first (left), never equal.
    outcome: int8 [n] indices into OUTCOMES.
    count: int64 [n] votes that a row stands for, 1 or more.
    columns: [n] rows of all other columns that were read, those that are known under the names of
        `VoteColumns`: item, prompt, voter, category, completion_a, completion_b, time, id.
    where: the table, as errors name it.
    notes: what of it does not count.
    records, rows: what was read, and which row of it each is [n], None where these are the same.
    """

    models: tuple[str, ...]
    a: NDArray[np.int32]
    b: NDArray[np.int32]
    outcome: NDArray[np.int8]
    count: Ints
    columns: pa.Table
    where: str
    notes: list[str] = field(default_factory=list)
    records: Records | None = field(default=None, repr=False, compare=False)
    rows: Ints | None = field(default=None, repr=False, compare=False)
    _groups: dict[tuple[str, bool], Ints] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.a)

    def row_name(self, vote: int) -> str:
        """How errors name the row of a vote."""
        row = vote if self.rows is None else int(self.rows[vote])
        return row_of(self.where, row) if self.records is None else self.records.row_name(row)

    def other_row(self, other: int, vote: int) -> str:
        """How an error of a vote names another's row, see `Records.other_row`."""
        rows = [one if self.rows is None else int(self.rows[one]) for one in (other, vote)]
        known = self.records
        return f"row {rows[0] + 1}" if known is None else known.other_row(rows[0], rows[1])

    @property
    def n(self) -> int:
        """Votes in all."""
        return int(self.count.sum())

    @property
    def digest(self) -> str:
        """A hash of models and votes, without the other columns."""
        code = hashlib.sha256("\n".join(self.models).encode())
        for array in (self.a, self.b, self.outcome, self.count):
            code.update(np.ascontiguousarray(array).tobytes())
        return code.hexdigest()[:12]

    @property
    def cells(self) -> tuple[Ints, Ints, Ints]:
        """For each row [n] its pair times three plus the outcome as the pair has it (its first
        model wins, its second, a tie); and the two models of each pair, first < second, [p].
        """
        return self._counted[:3]

    @property
    def totals(self) -> NDArray[np.float64]:
        """Votes of each cell, [3 p]."""
        return self._counted[3]

    @cached_property
    def _counted(self) -> tuple[Ints, Ints, Ints, NDArray[np.float64]]:
        return cells_of(self.a, self.b, self.outcome, self.count, len(self.models))

    def take(self, rows: NDArray[Any]) -> Votes:
        """Some of the votes, by row numbers or a mask `[n]`; models without any are left out."""
        places = np.arange(len(self))[rows]
        a, b = self.a[places], self.b[places]
        seen = np.unique(np.concatenate([a, b]))
        return replace(
            self,
            models=tuple(self.models[one] for one in seen),
            a=np.searchsorted(seen, a).astype(np.int32),
            b=np.searchsorted(seen, b).astype(np.int32),
            outcome=self.outcome[places],
            count=self.count[places],
            columns=self.columns.take(pa.array(places)),
            rows=places if self.rows is None else self.rows[places],
        )

    def codes(self, column: str) -> tuple[Ints, list[str]]:
        """A column as int64 [n] indices into its values as texts, -1 where it has none.

        Raises:
            PomonaError: there is no such column.
        """
        codes, labels = as_codes(self._column(column))
        return codes.astype(np.int64), labels

    def groups(self, column: str, *, pairs: bool = False) -> Ints:
        """Which rows have the same value, and with `pairs` the same two models: int64 [n] from 0 on
        without gaps, -1 where there is no value.

        Raises:
            PomonaError: there is no such column.
        """
        if (known := self._groups.get((column, pairs))) is None:
            if pairs:
                k, codes = len(self.models), self.groups(column)
                pair = np.minimum(self.a, self.b) * np.int64(k) + np.maximum(self.a, self.b)
                keys = pa.array(codes * k**2 + pair, mask=codes < 0)
                known = as_groups(keys)
            else:
                known = as_groups(self._column(column))
            self._groups[column, pairs] = known
        return known

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self.columns.column_names:
            remedy = nearest(name, self.columns.column_names or ["no other column"])
            raise PomonaError(f'there is no column "{name}"', where=self.where, remedy=remedy)
        return self.columns[name]


def read_votes(
    votes: Where | Records | Votes,
    columns: VoteColumns | None = None,
    *,
    keep: Sequence[str] | None = None,
) -> Votes:
    """The votes of a table: CSV, Parquet or JSONL, one vote a row (model_a, model_b, winner) or
    counts of a pair (model_a, model_b, win_a, win_b, and tie_1 and tie_2, of which the second are
    those where both were bad); the JSON list of Chatbot Arena; or the CSV of LLMFAO.

    Rows with an empty winner are no votes. `keep` names those other columns that are read, all of
    them unless it is given. Votes of Chatbot Arena that were not blind (`anony` is false) do not
    count; of its conversations completion_a, completion_b and prompt are the texts, and of its
    metadata length_a, headers_a, lists_a, bold_a and those of b the numbers.

    Raises:
        PomonaError: a file or column is missing, two columns contradict each other, a row names no
            model, one model twice, an unknown winner, or counts that are no whole numbers from 0,
            named by file and row; or there are no votes.
    """
    if isinstance(votes, Votes):
        return votes
    given = as_records(votes) if isinstance(votes, Records | pa.Table) else votes
    where = given.source.where if isinstance(given, Records) else str(given)
    table, names, records = _table(given, columns or VoteColumns(), keep, where)
    table, records, notes = _blind(table, records)
    if not len(table):
        raise PomonaError("there are no votes", where=where, remedy="check how it was written")
    a, b, models = _models(table, names, records)
    others = {
        next((known for known, name in names.items() if name == column), column): table[column]
        for column in table.column_names
        if column not in {names.get(one) for one in _SHOWN}
    }
    if (counted := [_first(table, ways) for ways in _COUNTS])[0] is not None:
        others = {name: of for name, of in others.items() if name not in counted}
        counts = np.stack([_whole(table, one, records, len(a)) for one in counted], 1)
        rows, outcome = np.nonzero(counts)
        count = counts[rows, outcome]
    else:
        outcome = _outcomes(table, names, a, b, models, records)
        others = {name: of for name, of in others.items() if name not in ONE_OF}
        count = np.ones(len(a), np.int64)
        if "n" in names:
            count = _whole(table, names["n"], records, len(a))
        if none := int((outcome < 0).sum()):
            several = f"{none:,} rows without a winner are no votes"
            notes = [*notes, several if none > 1 else "1 row without a winner is no vote"]
        counts = (count > 0) & (outcome >= 0)
        rows = slice(None) if counts.all() else np.flatnonzero(counts)
        outcome, count = outcome[rows], count[rows]
    _check_number(count, where)
    rest = pa.table(others) if others else pa.table({"": pa.nulls(len(a))}).select([])
    none = np.zeros(0, np.int8), np.zeros(0, np.int64)
    whole = Votes(models, a, b, *none, rest, where, notes, records)
    return _taken(whole, rows, outcome.astype(np.int8), count)


def _check_number(count: Ints, where: str) -> None:
    """Raise PomonaError unless there are votes, few enough to be counted exactly."""
    if not len(count):
        remedy = "every row is without a winner, or stands for 0 votes: check both columns"
        raise PomonaError("there are no votes", where=where, remedy=remedy)
    if (n := float(count.sum(dtype=np.float64))) >= _MOST:
        message, remedy = f"{n:.3g} votes are more than 2^53", "check the column of counts"
        raise PomonaError(message, where=where, remedy=remedy)


def _taken(votes: Votes, rows: NDArray[Any] | slice, outcome: Any, count: Any) -> Votes:
    """The rows that have votes, with their outcomes; a row of counts has up to four."""
    if isinstance(rows, slice):
        return replace(votes, outcome=outcome, count=count)
    a, b = votes.a[rows], votes.b[rows]
    seen = np.unique(np.concatenate([a, b]))
    return replace(
        votes,
        models=tuple(votes.models[one] for one in seen),
        a=np.searchsorted(seen, a).astype(np.int32),
        b=np.searchsorted(seen, b).astype(np.int32),
        outcome=outcome,
        count=count,
        columns=votes.columns.take(pa.array(rows)),
        rows=rows,
    )


def _table(
    source: Any, columns: VoteColumns, keep: Sequence[str] | None, where: str
) -> tuple[pa.Table, dict[str, str], Records]:
    """The columns that are needed, those of conversations opened; the table's own names; and what
    its rows are of.
    """
    if isinstance(source, str | Path) and is_list(source):
        there: dict[str, None] = {}

        def needed(found: Collection[str]) -> set[str]:
            there.update(dict.fromkeys(found))
            names = names_of(list(there), columns, where)
            return _needed(found, names, keep)

        table = read_list(Path(source), needed)
        return table, names_of(list(there), columns, where), Records.of(TableSource(table, where))
    records = source if isinstance(source, Records) else read(source)
    opened = [
        one.name for one in records.schema if one.name in NESTED and pa.types.is_nested(one.type)
    ]
    there = dict.fromkeys([*records.schema.names, *(OPENED if opened else ())])
    names = names_of(list(there), columns, where)
    wanted = _needed(there, names, keep)
    chosen = [name for name in records.schema.names if name in wanted or name in opened]
    shown = [own for name, own in names.items() if name in _SHOWN]
    judged = [names[name] for name in ("model_a", "model_b", "winner") if name in names]
    records = records.complete(*(name for name in judged if name in chosen))
    table = records.select(*chosen).to_table(dictionaries=shown)
    if opened:
        told = [flat(row) for row in table.select(opened).to_pylist()]
        for name in dict.fromkeys(key for row in told for key in row):
            if name not in table.column_names and name in wanted:
                table = table.append_column(name, pa.array([row.get(name) for row in told]))
        table = table.drop_columns(opened)
    known = {name: own for name, own in names.items() if own in table.column_names}
    return table, known, records


def _needed(there: Iterable[str], names: Mapping[str, str], keep: Sequence[str] | None) -> set[str]:
    if keep is None:
        return set(there)
    known = {own for name, own in names.items() if name in (*_SHOWN, *keep) or own in keep}
    return known.union(keep, {"anony", *ONE_OF}, *_COUNTS)


def _blind(table: pa.Table, records: Records) -> tuple[pa.Table, Records, list[str]]:
    """The votes of people who did not know whose answers they saw, where the table says it."""
    if "anony" not in table.column_names or not pa.types.is_boolean(table["anony"].type):
        return table, records, []
    seen = pc.fill_null(table["anony"], False)
    left = len(table) - int(seen.to_numpy().sum())
    table = table.filter(seen).drop_columns(["anony"])
    note = f"votes of people who knew the models are left out (anony is false): {left:,}"
    origin = records, np.flatnonzero(seen.to_numpy())
    rows = Records.of(TableSource(table, records.source.where, origin))
    return table, rows, [note] if left else []


def _models(table: pa.Table, names: Mapping[str, str], records: Records) -> tuple[Any, Any, Any]:
    sides = [as_codes(table[names[side]]) for side in ("model_a", "model_b")]
    models = tuple(sorted({name for _, labels in sides for name in labels if name.strip()}))
    number = {name: index for index, name in enumerate(models)}
    found = []
    for side, (codes, labels) in zip(("model_a", "model_b"), sides, strict=True):
        of = np.array([*(number.get(label, -1) for label in labels), -1], np.int32)[codes]
        if len(empty := np.flatnonzero(of < 0)):
            place, remedy = records.row_name(int(empty[0])), "name both models, or leave it out"
            raise PomonaError(f'"{names[side]}" is empty', where=place, remedy=remedy)
        found.append(of)
    if len(same := np.flatnonzero(found[0] == found[1])):
        message = f'"{models[found[0][same[0]]][:60]}" is on both sides'
        place = records.row_name(int(same[0]))
        raise PomonaError(message, where=place, remedy="leave the row out: it compares nothing")
    return found[0], found[1], models


def _outcomes(
    table: pa.Table,
    names: Mapping[str, str],
    a: Any,
    b: Any,
    models: Sequence[str],
    records: Records,
) -> NDArray[Any]:
    """The outcome of each row, by what words or columns tell it; -1 where it is empty, as of a
    judge's verdict that could not be read.
    """
    if "winner" not in names:
        return _one_of(table, records)
    codes, labels = as_codes(table[names["winner"]])
    column, number = names["winner"], {name: index for index, name in enumerate(models)}
    words = np.full(len(labels) + 1, -1)
    winners = np.full(len(labels) + 1, -2)
    for code, label in enumerate(labels):
        words[code] = _WORDS.get(label.strip().lower(), -1)
        winners[code] = number.get(label, -2)
    named = bool(((words < 0) & (winners >= 0)).any())  # winners are told by their names
    for code, label in enumerate(labels):
        if words[code] >= 0 and winners[code] >= 0 and (named or label not in OUTCOMES):
            place = records.row_name(int(np.argmax(codes == code)))
            message = f'"{label}" in "{column}" is a model and a side'
            remedy = f"write {', '.join(OUTCOMES)}"
            raise PomonaError(message, where=place, remedy=remedy)
    outcome = words[codes]
    unclear = outcome < 0
    if not unclear.any():
        return outcome
    won = winners[codes]
    empty = np.array([*(not label.strip() for label in labels), True])[codes]
    outcome[unclear & (won == a)] = 0
    outcome[unclear & (won == b)] = 1
    if len(wrong := np.flatnonzero((outcome < 0) & ~empty)):
        row = wrong[0]
        told = f'is "{labels[codes[row]][:40]}"'
        remedy = f"write {', '.join(OUTCOMES)}, or the name of a model of the row"
        place = records.row_name(int(row))
        raise PomonaError(f'"{column}" {told}', where=place, remedy=remedy)
    return outcome


def _one_of(table: pa.Table, records: Records) -> NDArray[Any]:
    """Outcomes of columns of which one is 1."""
    given = [name for name in ONE_OF if name in table.column_names]
    marks = np.stack([_whole(table, name, records, len(table)) for name in given], 1)
    wrong = np.flatnonzero((marks.sum(1) != 1) | (marks.max(1) != 1))
    if len(wrong):
        message = f"{', '.join(given)} are {', '.join(map(str, marks[wrong[0]]))}"
        place = records.row_name(int(wrong[0]))
        raise PomonaError(message, where=place, remedy="one of them must be 1, the others 0")
    return marks.argmax(1)


def _first(table: pa.Table, ways: Sequence[str]) -> str | None:
    return next((name for name in ways if name in table.column_names), None)


def _whole(table: pa.Table, name: str | None, records: Records, n: int) -> Ints:
    """A column of whole numbers from 0 [n], which texts may spell; all 0 where there is none."""
    if name is None:
        return np.zeros(n, np.int64)
    column = table[name]
    kind = column.type
    if pa.types.is_boolean(kind):
        column = pc.cast(column, pa.int8())
    try:
        numbers = pc.cast(column, pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        numbers = np.array([_number(value) for value in column.to_pylist()])
    wrong = np.flatnonzero(~((numbers >= 0) & (numbers < _MOST) & (numbers == np.floor(numbers))))
    if len(wrong):
        value = column[int(wrong[0])].as_py()
        told = "is empty" if value in (None, "") else f"is {str(value)[:40]}"
        large = ", below 2^53" if numbers[wrong[0]] >= _MOST else ""
        place, remedy = records.row_name(int(wrong[0])), f"give whole numbers from 0 on{large}"
        raise PomonaError(f'"{name}" {told}', where=place, remedy=remedy)
    return numbers.astype(np.int64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan
