"""Answers to the same items: of one system as a table, and of several, joined by the items' ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from pomona.errors import PomonaError, nearest, row_of
from pomona.records import Records, TableSource, Where, as_text, read, read_named

NAME = b"pomona.name"  # in the metadata of a table in memory: how errors name it
_FILES = b"pomona.files"  # and of which files it was made
_SEED = "seed"  # of a training
_OWN = ("group", "cluster")  # columns that count where no others are named
_MOST = 60  # letters of a value that an error shows
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True)
class Predictions:
    """The answers of one system to n items, in the order of its rows.

    name: the file or table, as errors name it; of its `records` these are the `rows`.
    references: the right answer of each item, or the list of all that are right.
    labels: further columns by what they are for: "group", "cluster", and others asked for.
    inputs: what each item asks, where that is known.
    """

    name: str
    ids: list[str]
    predictions: list[str]
    references: list[Any]
    labels: Mapping[str, list[str]]
    inputs: list[str] | None = None
    records: Records | None = field(default=None, repr=False, compare=False)
    rows: Sequence[int] | None = field(default=None, repr=False, compare=False)

    def row_name(self, at: int, *, with_id: bool = True) -> str:
        """How errors name the row of an item."""
        row = at if self.rows is None else self.rows[at]
        known = row_of(self.name, row) if self.records is None else self.records.row_name(row)
        return f"{known} (id {_short(self.ids[at])})" if with_id else known

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        """A hash of ids, predictions, references and labels, in whatever order they stand."""
        labels = [self.labels[name] for name in sorted(self.labels)]
        columns = (self.ids, self.predictions, map(repr, self.references), *labels)
        rows = sorted(zip(*columns, strict=True))
        text = "\n".join(map(repr, rows))
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]

    def ordered_like(self, other: Predictions) -> Predictions:
        """The same answers in the order of the items of `other`. Raises PomonaError where the two
        are not of the same items: an id that only one has, another reference, another label.
        """
        place = {id_: row for row, id_ in enumerate(self.ids)}
        _refuse_lacking(self.name, place.keys(), other)
        _refuse_lacking(other.name, set(other.ids), self)
        rows = [place[id_] for id_ in other.ids]
        ours = Predictions(
            self.name,
            other.ids,
            [self.predictions[row] for row in rows],
            [self.references[row] for row in rows],
            {name: [column[row] for row in rows] for name, column in self.labels.items()},
            self.inputs and [self.inputs[row] for row in rows],
            self.records,
            rows if self.rows is None else [self.rows[row] for row in rows],
        )
        pairs = {"reference": (ours.references, other.references)}
        pairs |= {n: (ours.labels[n], other.labels[n]) for n in ours.labels if n in other.labels}
        for name, (mine, theirs) in pairs.items():
            if mine == theirs:
                continue
            at = next(i for i, value in enumerate(mine) if value != theirs[i])
            message = (
                f"the {name} is {_short(mine[at])}, but {other.row_name(at, with_id=False)}, has "
                f"{_short(theirs[at])}"
            )
            remedy = "give both the same items, each with an id of its own"
            raise PomonaError(message, where=ours.row_name(at), remedy=remedy)
        return replace(ours, labels={**other.labels, **ours.labels})


def read_trainings(
    source: Where,
    name: str = "",
    *,
    group: str | None = None,
    cluster: str | None = None,
    labels: Sequence[str] = (),
) -> list[Predictions]:
    """The answers in a table, apart for each value of a column seed where there is one: the same
    items of each training, in the same order. Of `labels` those that the table has count.

    Raises PomonaError as `read_predictions` does, and where trainings have other items.
    """
    told = _named(source, name)
    records = read_named(source, told)
    labels = [one for one in labels if one in records.column_names]
    own = ("id", "prediction", "reference", _SEED, *_OWN)
    records = records.complete(*(one for one in own if one in records.column_names))
    if _SEED not in records.column_names:
        return [read_predictions(source, name, group=group, cluster=cluster, labels=labels)]
    table, found = records.to_table(), []
    texts = as_text(table[_SEED])
    for seed in sorted(set(texts.to_pylist()), key=str):
        rows = [row for row, one in enumerate(texts.to_pylist()) if one == seed]
        of = f"{told}, seed {seed}"
        part = Records.of(TableSource(table.take(rows), of, (records, np.array(rows))))
        found.append(_predictions(part, of, group, cluster, labels))
    found = [one.ordered_like(found[0]) for one in found]
    return [replace(one, name=told) for one in found]


def read_predictions(
    source: Where,
    name: str = "",
    *,
    group: str | None = None,
    cluster: str | None = None,
    labels: Sequence[str] = (),
) -> Predictions:
    """The answers in a table with the columns id, prediction and reference; `name` is what errors
    call it where it is in memory.

    `group` and `cluster` name columns; left out, those called so count where there are any, and so
    does `input`, for people to read. Values that are no text are compared as it; a reference may be
    a list of all that is right.

    Raises:
        PomonaError: a file or column is missing, there are no rows, an id stands twice or a value
            is missing; named by file and row.
    """
    name = _named(source, name)
    return _predictions(read_named(source, name), name, group, cluster, labels)


def _predictions(
    records: Records, name: str, group: str | None, cluster: str | None, labels: Sequence[str]
) -> Predictions:
    asked = {what: what for what in _OWN if what in records.column_names}
    asked |= {"group": group} if group else {}
    asked |= {"cluster": cluster} if cluster else {}
    asked |= {one: one for one in labels}
    columns = ("id", "prediction", "reference", *asked.values())
    for column in columns:
        if column not in records.column_names:
            remedy = nearest(column, records.column_names)
            raise PomonaError(f'there is no column "{column}"', where=name, remedy=remedy)
    more = ["input"] if "input" in records.column_names else []
    records = records.complete(*columns).select(*columns, *more)
    table = records.to_table()
    if not len(table):
        raise PomonaError("there are no rows", where=name, remedy="check how it was written")
    ids = _texts(table, "id", records)
    _refuse_twice(ids, records)
    return Predictions(
        name,
        ids,
        _texts(table, "prediction", records, ids),
        _texts(table, "reference", records, ids),
        {what: _texts(table, column, records, ids) for what, column in asked.items()},
        [text or "" for text in as_text(table["input"]).to_pylist()] if more else None,
        records,
    )


def _named(source: Where, name: str) -> str:
    """What errors call a source."""
    if isinstance(source, str | Path):
        return str(source)
    metadata = getattr(source, "schema", pa.schema([])).metadata or {}
    return metadata.get(NAME, b"").decode() or name or read(source).source.where


def paths_of(source: Where, *, saved: bool = False) -> list[str]:
    """The files of a side, or of a `saved` comparison, which no output may replace."""
    if saved and isinstance(source, str | Path):
        return [str(source)]
    if isinstance(source, pa.Table):
        table = cast("pa.Table", source)
        return json.loads((table.schema.metadata or {}).get(_FILES, b"[]"))
    return read(source).paths


def _texts(table: pa.Table, column: str, records: Records, ids: Sequence[str] = ()) -> list[Any]:
    """A column as texts; lists of them stay lists. Raises PomonaError for a value that is missing,
    with its row.
    """
    values, name = table[column], records.source.where
    nested = any(is_list(values.type) for is_list in _LISTS)
    if nested and column == "prediction":
        message, remedy = '"prediction" holds lists', "give each item one answer"
        raise PomonaError(message, where=name, remedy=remedy)
    nested = nested and column == "reference"
    texts: list[Any] = _lists(values, name) if nested else _plain(values)
    for row, text in enumerate(texts):
        if text is None or (nested and (not text or None in text)):
            where = records.row_name(row) + (f" (id {_short(ids[row])})" if ids else "")
            remedy = "fill it, or leave the row out on both sides"
            raise PomonaError(f'"{column}" has no value', where=where, remedy=remedy)
    return texts


def _plain(values: pa.Array | pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_floating(values.type):
        with suppress(pa.ArrowInvalid):  # whole numbers, of which some tool wrote 1.0 for 1
            values = values.cast(pa.int64())
    return as_text(values).to_pylist()


def _lists(values: pa.ChunkedArray, name: str) -> list[list[str | None] | None]:
    """Lists of right answers, each as text."""
    kind = values.type.value_type
    if pa.types.is_nested(kind):
        message = f'"reference" holds lists of {kind}, of which none is an answer'
        raise PomonaError(message, where=name, remedy="give lists of texts or numbers")
    lists = values.to_pylist()
    texts = iter(_plain(pa.array([one for each in lists for one in each or ()], kind)))
    return [None if each is None else [next(texts) for _ in each] for each in lists]


def _refuse_twice(ids: Sequence[str], records: Records) -> None:
    first: dict[str, int] = {}
    for row, id_ in enumerate(ids):
        if id_ in first:
            message = f"the id stands in {records.other_row(first[id_], row)} too"
            remedy = "give every item an id of its own, one row each"
            where = f"{records.row_name(row)} (id {_short(id_)})"
            raise PomonaError(message, where=where, remedy=remedy)
        first[id_] = row


def _refuse_lacking(name: str, ids: Collection[str], other: Predictions) -> None:
    """Raise PomonaError where `ids` lack one of the items of `other`."""
    lacking = [row for row, id_ in enumerate(other.ids) if id_ not in ids]
    if not lacking:
        return
    message = (
        f"{len(lacking):,} of the {len(other):,} items of {other.name} are missing, such as "
        f"{other.row_name(lacking[0])}"
    )
    remedy = "answer the same items on both sides, or leave those out"
    raise PomonaError(message, where=name, remedy=remedy)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
