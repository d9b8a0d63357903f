"""Pairs of answers with what people say of them and what a judge says in each order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.arena.battles import is_list, read_list
from pomona.arena.judging.asking import Flips, combined
from pomona.arena.vote_columns import VoteColumns
from pomona.arena.votes import OUTCOMES, Votes, read_votes
from pomona.errors import PomonaError, nearest, quantity
from pomona.records import Records, TableSource, Where, as_text, read

Floats = NDArray[np.float64]
_UNVOTED = "pomona: nobody voted"
VALUES = (1.0, 0.0, 0.5, 0.5)  # of model_a, by outcome
_FIRST, _TURNED = 0, 1  # the orders: a shown first, b shown first


@dataclass(frozen=True)
class Pairs:
    """Distinct pairs of answers, each once.

    models: sorted names. a, b: intp [p] indices into them, a of the one first on the left.
    items: a label of each pair, its number where the table has none (`named` is false).
    prompts: texts or ids, answers: both texts of each pair, and references; each None where the
        table has none.
    people: float64 [p, 3] votes for a, for b, and ties.
    majority: intp [p] the most frequent of these, -1 without votes; of several, what was cast
        first.
    """

    models: tuple[str, ...]
    a: NDArray[np.intp]
    b: NDArray[np.intp]
    items: list[str]
    prompts: list[str] | None
    answers: list[tuple[str, str]] | None
    references: list[str] | None
    named: bool
    people: Floats
    majority: NDArray[np.intp]
    where: str
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.a)

    @property
    def voted(self) -> NDArray[np.bool_]:
        """Which pairs people voted on [p]."""
        return self.people.sum(1) > 0

    @property
    def worth(self) -> Floats:
        """The mean value of a by people's votes [p], NaN without votes."""
        with np.errstate(invalid="ignore"):
            return (self.people[:, 0] + self.people[:, 2] / 2) / self.people.sum(1)

    def clusters(self, by: str) -> list[str]:
        """A label a pair of what is resampled together."""
        if by == "item":
            return _apart(self.items)
        if self.prompts is None:
            remedy = "resample items: --cluster item"
            raise PomonaError("has no column of prompts", where=self.where, remedy=remedy)
        return _apart(self.prompts)


def _apart(labels: Sequence[str | None]) -> list[str]:
    """Labels, each that is missing as one by itself."""
    return [label or f"\0{at}" for at, label in enumerate(labels)]


@dataclass(frozen=True)
class Verdicts:
    """What a judge says of each pair.

    values: float64 [p, 2] of a, with a shown first and with b shown first, NaN where there is none.
    errors: [p, 2] why there is none, None where there is one or none was asked for.
    """

    values: Floats
    errors: list[list[str | None]]
    notes: list[str] = field(default_factory=list)

    @property
    def both(self) -> NDArray[np.bool_]:
        """Which pairs have a verdict in both orders [p]."""
        return np.asarray(np.isfinite(self.values).all(1))

    @property
    def failed(self) -> int:
        """Verdicts that could not be read."""
        return sum(error is not None for pair in self.errors for error in pair)

    @property
    def asked_once(self) -> NDArray[np.bool_]:
        """Which pairs were judged in one order alone, without a failure in the other [p]."""
        failed = np.array([[e is not None for e in pair] for pair in self.errors], bool)
        return (np.isfinite(self.values) | failed.reshape(-1, 2)).sum(1) == 1

    def outcomes(self, flips: Flips) -> Floats:
        """Shares of a, b and tie [p, 3] in what counts of each pair; all 0 is no vote."""
        told = np.zeros((len(self.values), 3))
        once = self.asked_once
        for at, (one, other) in enumerate(self.values.tolist()):
            known = [value for value in (one, other) if not math.isnan(value)]
            if flips == "half" or once[at]:
                for value in known:
                    told[at, _place(value)] += 1 / len(known)
            elif len(known) == 2 and (value := combined(one, other, flips)) is not None:
                told[at, _place(value)] = 1
        return told


def _place(value: float) -> int:
    return 0 if value == 1 else 1 if value == 0 else 2


def read_pairs(
    pairs: Where | Votes,
    columns: VoteColumns | None = None,
    *,
    reference: str | None = None,
    texts: bool = False,
) -> Pairs:
    """Pairs of a table of votes as `pomona.arena.read_votes` takes it, in which rows without a
    winner, or all of them, are pairs that nobody voted on.

    texts: whether both answers and the prompt are needed.
    Raises PomonaError as `read_votes` does, and for a missing column or an empty text, named by its
    row.
    """
    needed = ["prompt", "completion_a", "completion_b"] if texts else []
    needed += [reference] if reference else []
    filled = pairs if isinstance(pairs, Votes) else _filled(pairs, columns, needed)
    votes = filled if isinstance(filled, Votes) else read_votes(filled, columns)
    for name in needed:
        _require(votes, name)
    return _distinct(votes, reference)


def _filled(source: Any, columns: VoteColumns | None, needed: Sequence[str]) -> Any:
    """The table with a winner in each row, and a mark of those that had none. Rows without a model
    or a value that is needed are left out, where such are.
    """
    if isinstance(source, str | Path) and is_list(source):
        whole = read_list(Path(source), lambda there: there)
        records = Records.of(TableSource(whole, str(source)))
    else:
        records = source if isinstance(source, Records) else read(source)
    asked = ["model_a", "model_b", *needed]
    known = [getattr(columns, one, None) or one for one in asked]
    records = records.complete(*(one for one in known if one in records.column_names))
    name = (columns.winner if columns else None) or _winner(records.column_names)
    if "win_a" in records.column_names or "winner_model_a" in records.column_names:
        return records
    table, where = records.to_table(), str(records.source.where)
    if name in table.column_names:
        told = as_text(table[name]).to_pylist()
        empty = [one is None or not one.strip() for one in told]
        filled = ["tie" if none else one for one, none in zip(told, empty, strict=True)]
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(filled, pa.string()))
    else:
        empty = [True] * len(table)
        table = table.append_column(name, pa.array(["tie"] * len(table), pa.string()))
    table = table.append_column(_UNVOTED, pa.array(empty, pa.bool_()))
    return Records.of(TableSource(table, where, (records, None)))


def _winner(there: Sequence[str]) -> str:
    """The column of winners as the table calls it."""
    return next((one for one in there if one.lower() == "winner"), "winner")


def _require(votes: Votes, name: str) -> None:
    if name not in votes.columns.column_names:
        told = [one for one in votes.columns.column_names if one != _UNVOTED]
        remedy = f"the table has {', '.join(told) or 'no other column'}; name it by its option"
        raise PomonaError(f'there is no column "{name}"', where=votes.where, remedy=remedy)
    column = votes.columns[name]
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        remedy = "fill it in, or leave the row out"
        raise PomonaError(f'"{name}" is null', where=votes.row_name(row), remedy=remedy)


def _texts(votes: Votes, name: str | None) -> list[Any] | None:
    if name is None or name not in votes.columns.column_names:
        return None
    return as_text(votes.columns[name]).to_pylist()


def _distinct(votes: Votes, reference: str | None) -> Pairs:
    """One entry for each item and unordered pair of models, in the order in which they come."""
    prompts, items = _texts(votes, "prompt"), _texts(votes, "item")
    first, second = _texts(votes, "completion_a"), _texts(votes, "completion_b")
    answers = None
    if first is not None and second is not None:
        answers = [(one or "", other or "") for one, other in zip(first, second, strict=True)]
    keys = _keys(votes, items, prompts, answers)
    places: dict[Any, int] = {}
    pair = np.array([places.setdefault(key, len(places)) for key in keys], np.intp)
    _, rows = np.unique(pair, return_index=True)
    a, b = votes.a[rows].astype(np.intp), votes.b[rows].astype(np.intp)
    _refuse_other_answers(votes, pair, rows, answers)
    outcome = np.minimum(votes.outcome, 2).astype(np.intp)
    turned = votes.a != a[pair]
    outcome = np.where(turned & (outcome < 2), 1 - outcome, outcome)
    voted = np.ones(len(votes), bool)
    if (marks := _column(votes, _UNVOTED)) is not None:
        voted = ~marks
    people, cast = np.zeros((len(rows), 3)), np.full((len(rows), 3), np.inf)
    np.add.at(people, (pair[voted], outcome[voted]), votes.count[voted])
    np.minimum.at(cast, (pair[voted], outcome[voted]), np.flatnonzero(voted))
    # Of the most frequent outcomes the one that was cast first.
    best = np.where(people == people.max(1, keepdims=True), cast, np.inf).argmin(1)
    majority = np.where(people.sum(1) > 0, best, -1)
    labels = [str(n + 1) for n in range(len(rows))]
    if items is not None:
        labels = [items[row] or "" for row in rows]
    taken = lambda column: None if column is None else [column[row] for row in rows]  # noqa: E731
    return Pairs(
        votes.models, a, b, labels, taken(prompts), taken(answers),
        taken(_texts(votes, reference)), items is not None, people, majority, votes.where,
        list(votes.notes),
    )  # fmt: skip


def _column(votes: Votes, name: str) -> NDArray[Any] | None:
    if name not in votes.columns.column_names:
        return None
    return votes.columns[name].to_numpy(zero_copy_only=False).astype(bool)


def _keys(votes: Votes, items: Any, prompts: Any, answers: Any) -> list[Any]:
    """What tells a pair from others: its item, or prompt and answers, or without any its row."""
    low, high = np.minimum(votes.a, votes.b).tolist(), np.maximum(votes.a, votes.b).tolist()
    texts = answers or [()] * len(votes)
    own = zip(prompts or [None] * len(votes), map(frozenset, texts), strict=True)
    keys: list[Any] = [
        (low[at], high[at], *one) if one[0] is not None or one[1] else at
        for at, one in enumerate(own)
    ]
    if items is None:
        return keys
    return [
        key if item is None else (item, low[at], high[at])
        for at, (item, key) in enumerate(zip(items, keys, strict=True))
    ]


def _refuse_other_answers(votes: Votes, pair: Any, rows: Any, answers: Any) -> None:
    """Raise PomonaError where an item has other answers in another row."""
    if answers is None:
        return
    for at, told in enumerate(answers):
        first = int(rows[pair[at]])
        same = told if votes.a[at] == votes.a[first] else told[::-1]
        if same != answers[first]:
            other = votes.other_row(first, at)
            message = f"has other answers than {other}, which is of the same item"
            raise PomonaError(
                message, where=votes.row_name(at), remedy="give each pair of answers an item"
            )


def recorded(path: Where | Votes, pairs: Pairs, columns: VoteColumns | None = None) -> Verdicts:
    """Verdicts of a table, by the item (or prompt) and the models of each pair.

    Its rows are as those of votes, the model on the left shown first; what `judge` wrote is read by
    its column `verdict`. Raises PomonaError as `read_votes` does, and where no pair is judged.
    """
    votes, errors = _verdict_rows(path, columns)
    items = _texts(votes, "item")
    if not pairs.named:
        items = None
    known = _places(pairs, items is not None)
    values = np.full((len(pairs), 2), np.nan)
    why: list[list[str | None]] = [[None, None] for _ in range(len(pairs))]
    prompts = _texts(votes, "prompt")
    labels: Sequence[Any] = items or prompts or [None] * len(votes)
    unknown = again = 0
    for at, label in enumerate(labels):
        names = votes.models[votes.a[at]], votes.models[votes.b[at]]
        place = known.get((label, *sorted(names)))
        if place is None:
            unknown += 1
            continue
        order = _FIRST if pairs.models[pairs.a[place]] == names[0] else _TURNED
        if np.isfinite(values[place, order]) or why[place][order] is not None:
            again += 1
            continue
        if errors is not None and errors[at] is not None:
            why[place][order] = errors[at]
            continue
        value = VALUES[votes.outcome[at]]
        values[place, order] = value if order == _FIRST else 1 - value
    if not np.isfinite(values).any():
        message = "judges none of the pairs"
        remedy = "give both tables the same items (or prompts) and names of models"
        if unknown < len(labels):
            message, remedy = "has no verdict on any of the pairs", "see why in its column error"
        raise PomonaError(message, where=votes.where, remedy=remedy)
    notes = (
        [f"{quantity(unknown, 'verdict is', 'verdicts are')} on pairs that are not in the table"]
        if unknown
        else []
    )
    notes += [f"{again:,} further verdicts on the same pair and order do not count"] * bool(again)
    return Verdicts(values, why, notes)


def _places(pairs: Pairs, by_item: bool) -> dict[Any, int]:
    labels = pairs.items if by_item else pairs.prompts or [None] * len(pairs)
    names = ((pairs.models[a], pairs.models[b]) for a, b in zip(pairs.a, pairs.b, strict=True))
    return {
        (label, *sorted(pair)): at
        for at, (label, pair) in enumerate(zip(labels, names, strict=True))
    }


def _verdict_rows(path: Any, columns: VoteColumns | None) -> tuple[Votes, list[Any] | None]:
    """The verdicts as votes, and why rows have none."""
    if isinstance(path, Votes):
        return path, None
    records = read(path)
    there, where = records.column_names, str(records.source.where)
    columns = _named_there(columns, there)
    if {"win_a", "winner_model_a"} & set(there):
        return read_votes(records, columns), None
    name = columns.winner or _winner(there)
    if "verdict" in there and ("order" in there or name not in there):  # as `judge` writes it
        records = records.select(*(one for one in there if one != name))
        name, columns = "verdict", replace(columns, winner="verdict")
    elif name not in there:
        remedy = f"{nearest('winner', there)}; verdicts stand in winner, or in verdict"
        raise PomonaError('there is no column "winner"', where=where, remedy=remedy)
    table = records.to_table()
    said = [(one or "").strip() for one in as_text(table[name]).to_pylist()]
    given: list[str | None] = [None] * len(table)
    if name == "verdict" and "error" in table.column_names:
        given = as_text(table["error"]).to_pylist()
    why = [None if one else error or "no verdict" for one, error in zip(said, given, strict=True)]
    filled = pa.array([one or "tie" for one in said], pa.string())
    table = table.set_column(table.column_names.index(name), name, filled)
    return read_votes(Records.of(TableSource(table, where, (records, None))), columns), why


def _named_there(columns: VoteColumns | None, there: Sequence[str]) -> VoteColumns:
    """Those of the names for the votes that a table of verdicts has, too."""
    asked = {} if columns is None else asdict(columns)
    return VoteColumns(**{of: name for of, name in asked.items() if name in there})


def outcome_of(value: float | None) -> str | None:
    """The word for a value of model_a."""
    return None if value is None else OUTCOMES[_place(value)]
