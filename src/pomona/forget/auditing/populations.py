"""Answers of several models a level: read from a table, checked, and laid out as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import PomonaError, are, nearest, quantity
from pomona.forget.predictions import NAME
from pomona.records import Records, Where, as_text, read_named

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]

ITEM = ("reference", "group", "cluster", "part")  # what is the same in all rows of an item
GROUP = ("resource", "script", "fertility")  # and in all rows of a group
_NUMBERS = {"score", "probability", "resource", "fertility"}
_MOST = 1e30  # sums of squares of larger ones are beyond single precision, in which they are added
_RANGES = {
    "probability": (0, 1, "a probability from 0 to 1"),
    "resource": (0, _MOST, "a number of training rows, 0 or more"),
}
_REMEDY = "give the answers of every model to the same items"


@dataclass(frozen=True)
class Population:
    """K models of a level on n items: `seeds` names them, K of them.

    predictions: numbers of labels `[K, n]`, None where there are scores alone.
    scores: 1 where a prediction is right and else 0, or what the column `score` says, `[K, n]`.
    probabilities: of the label that was predicted, `[K, n]`.
    """

    level: str
    seeds: list[str]
    predictions: Codes | None
    scores: Floats
    probabilities: Floats | None


@dataclass(frozen=True)
class Populations:
    """All levels on the same n items, the dense one first.

    labels: in the order in which ties are decided; `reference` are numbers of these, `[n]`.
    items: what columns say of each item, `[n]`; `groups` has the group of each.
    traits: what columns say of each group: numbers of `resource` and `fertility`, and `script`.
    """

    name: str
    ids: list[str]
    labels: list[str]
    reference: Codes | None
    groups: NDArray[Any]
    items: Mapping[str, NDArray[Any]]
    traits: Mapping[str, Mapping[str, Any]]
    levels: list[Population]
    digest: str
    notes: list[str]

    @property
    def dense(self) -> Population:
        """What the others are compared with."""
        return self.levels[0]

    def paired(self, other: Population) -> bool:
        """Whether a level's models have the names of the dense ones, from which they were made."""
        return set(other.seeds) == set(self.dense.seeds)


def read_populations(
    inputs: Where | Records,
    *,
    dense: str | None = "dense",
    seeds: int | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> Populations:
    """The answers in a table with the columns id and level, and either prediction and reference or
    score; `columns` says which others stand for what. `dense` names the level that the others are
    compared with, None the first.

    Columns that are called seed, group, cluster, part, resource, script, fertility, probability and
    score count where no others are named. Without seeds there is one model a level, without groups
    classes are: the references.

    Raises:
        PomonaError: a file or column is missing, a value is missing or no number, a row stands
            twice, models answer other items, levels have unequal numbers of models, or an item or
            group is not the same in all rows; named by row.
    """
    table, records = _table(inputs, columns or {})
    name = str(records.source.where)
    keys = {what: _encoded(table[what]) for what in ("id", "level", "seed")}
    ids, order = keys["id"].values, _Order(records, keys)
    labels, predicted, reference = _labels(table)
    items = {what: order.of_items(what, table[what]) for what in ITEM if what in table.schema.names}
    if reference is not None:
        items["reference"] = order.of_items("reference", reference)
    groups = items.pop("group", None)
    if groups is None:
        groups = _classes(items, labels, name)
    traits = {
        what: _trait(what, order.of_items(what, table[what]), groups, name)
        for what in GROUP
        if what in table.schema.names
    }
    if "score" in table.schema.names:
        scores = table["score"].to_numpy()
    elif predicted is None or reference is None:
        message, remedy = "there is neither a reference nor a score", 'add a column "reference"'
        raise PomonaError(message, where=name, remedy=remedy)
    else:
        scores = (predicted == reference).astype(np.float64)
    known = table["probability"].to_numpy() if "probability" in table.schema.names else None
    kept, notes = _levels(order, dense, seeds, name, (columns or {}).get("level") or "level")
    levels = [
        Population(
            level,
            names,
            None if predicted is None else order.laid(predicted, level, names),
            order.laid(scores, level, names),
            None if known is None else order.laid(known, level, names),
        )
        for level, names in kept.items()
    ]
    right = items.pop("reference", None)
    about = (groups.tolist(), labels, traits, {n: one.tolist() for n, one in items.items()})
    digest = _digest(ids, about, levels, right)
    return Populations(
        name, ids, labels, right, groups.astype(object), items, traits, levels, digest, notes
    )


@dataclass(frozen=True)
class _Encoded:
    codes: Codes
    values: list[str]


def _table(inputs: Where | Records, columns: Mapping[str, str | None]) -> tuple[pa.Table, Records]:
    """The columns that are needed under the names of what they are for, none without a value."""
    records = _records(inputs)
    there = records.column_names
    needed = {what: columns.get(what) or what for what in ("id", "level")}
    optional = ("seed", "prediction", "score", "probability", *ITEM, *GROUP)
    named = {what: column for what, column in columns.items() if column}
    names = needed | {what: what for what in optional if what in there} | named
    if "score" not in names:
        names.setdefault("prediction", "prediction")
    chosen = list(dict.fromkeys(names.values()))
    records = records.complete(*chosen).select(*chosen)
    table = records.to_table()
    if "resource" in names and not columns.get("resource") and _is_words(table["resource"]):
        del names["resource"]  # head and tail, as a run's answers have it
    if not len(table):
        raise PomonaError(
            "there are no rows", where=records.source.where, remedy="check how it was written"
        )
    parts = {what: _column(table[column], what, column, records) for what, column in names.items()}
    parts.setdefault("seed", pa.chunked_array([pa.array(["0"] * len(table))]))
    return pa.table(parts), records


def _records(inputs: Where | Records) -> Records:
    if isinstance(inputs, Records):
        return inputs
    metadata = getattr(getattr(inputs, "schema", None), "metadata", None) or {}
    return read_named(inputs, metadata.get(NAME, b"predictions").decode())


def _is_words(values: pa.ChunkedArray) -> bool:
    return pa.types.is_string(values.type) and np.isnan(_number(values[0].as_py()))


def _column(values: pa.ChunkedArray, what: str, column: str, records: Records) -> pa.ChunkedArray:
    """A column as text, or as float64 where numbers are needed."""
    if what in _NUMBERS:
        return numbers(values, what, column, records)
    if what in ("prediction", "reference") and pa.types.is_nested(values.type):
        message, remedy = f'"{column}" holds {values.type}', 'give one answer each, or a "score"'
        raise PomonaError(message, where=records.source.where, remedy=remedy)
    if pa.types.is_floating(values.type) and what != "level":
        with suppress(pa.ArrowInvalid):  # whole numbers are labels such as 3, not 3.0
            values = values.cast(pa.int64())
    texts = as_text(values)
    if texts.null_count:
        at = int(np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False))[0])
        remedy = "fill it, or leave the item out for every model"
        where = records.row_name(at)
        raise PomonaError(f'"{column}" has no value', where=where, remedy=remedy)
    return pa.chunked_array([texts]) if isinstance(texts, pa.Array) else texts


def numbers(values: pa.ChunkedArray, what: str, column: str, records: Records) -> pa.ChunkedArray:
    """A column as float64. Raises PomonaError with the row of what is no number, or none that its
    column may hold.
    """
    try:
        found = values.cast(pa.float64()).to_numpy()
    except pa.ArrowException:
        found = np.array([_number(text) for text in as_text(values).to_pylist()])
    least, most, wanted = _RANGES.get(what, (-_MOST, _MOST, "a finite number"))
    bad = ~((found >= least) & (found <= most))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        wrong = "too large to be added up" if found[at] > most > 1 else f"not {wanted}"
        message = f'"{column}" is {values[at].as_py()!r}, which is {wrong}'
        raise PomonaError(message, where=records.row_name(at), remedy="correct the row")
    return pa.chunked_array([pa.array(found)])


def _number(text: str | None) -> float:
    try:
        return np.nan if text is None else float(text)
    except ValueError:
        return np.nan


def natural(text: str) -> tuple[int, float, str]:
    """Numbers in their order, before other texts in theirs."""
    try:
        number = float(text)
    except ValueError:
        return 1, 0.0, text
    # Some languages are called nan, and so are some numbers
    return (0, number, text) if np.isfinite(number) else (1, 0.0, text)


def _encoded(column: pa.ChunkedArray) -> _Encoded:
    """A column of texts as numbers of its values, which are in natural order."""
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=lambda at: natural(values[at]))
    rank = np.empty(len(values), np.int32)
    rank[order] = np.arange(len(values), dtype=np.int32)
    return _Encoded(rank[encoded.indices.to_numpy()], [values[at] for at in order])


def _labels(table: pa.Table) -> tuple[list[str], Codes | None, Codes | None]:
    """All labels in natural order, and the numbers of those predicted and of the references."""
    if "prediction" not in table.schema.names:
        return [], None, None
    columns = [table[what] for what in ("prediction", "reference") if what in table.schema.names]
    both = _encoded(pa.chunked_array([part for one in columns for part in one.chunks]))
    parts = np.split(both.codes, [len(table)])
    return both.values, parts[0], parts[1] if len(columns) > 1 else None


class _Order:
    """Where the row of a level's model and an item is."""

    def __init__(self, records: Records, keys: Mapping[str, _Encoded]) -> None:
        self.records, self.keys = records, keys
        self.n = len(keys["id"].values)
        self.first = np.full(self.n, -1)
        codes = keys["id"].codes
        self.first[codes[::-1]] = np.arange(len(codes))[::-1]
        self.models: dict[tuple[str, str], NDArray[np.intp]] = {}
        self._find()

    def _find(self) -> None:
        levels, seeds = self.keys["level"], self.keys["seed"]
        model = levels.codes.astype(np.int64) * len(seeds.values) + seeds.codes
        order = np.lexsort((self.keys["id"].codes, model))
        for rows in np.split(order, np.flatnonzero(np.diff(model[order])) + 1):
            level, seed = levels.values[levels.codes[rows[0]]], seeds.values[seeds.codes[rows[0]]]
            self._check(rows, f"level {level}, seed {seed}")
            self.models[level, seed] = rows

    def _check(self, rows: NDArray[np.intp], model: str) -> None:
        ids = self.keys["id"].codes[rows]
        twice = np.flatnonzero(ids[1:] == ids[:-1])
        if len(twice):
            at, before = int(rows[twice[0] + 1]), int(rows[twice[0]])
            id_ = self.keys["id"].values[ids[twice[0]]]
            too = self.records.other_row(before, at)
            message = f'id "{id_}" of {model} stands in {too} too'
            remedy = "give every model one row an item"
            raise PomonaError(message, where=self.records.row_name(at), remedy=remedy)
        if len(rows) < self.n:
            lacking = np.setdiff1d(np.arange(self.n), ids)
            id_ = self.keys["id"].values[lacking[0]]
            message = f'{model} lacks {len(lacking):,} of {self.n:,} items, such as id "{id_}"'
            raise PomonaError(message, where=self.records.source.where, remedy=_REMEDY)

    def laid(self, values: NDArray[Any], level: str, seeds: Sequence[str]) -> NDArray[Any]:
        """The values of a level's models, `[seeds, items]`."""
        return np.stack([values[self.models[level, seed]] for seed in seeds])

    def of_items(self, what: str, column: pa.ChunkedArray | Codes) -> NDArray[Any]:
        """What is said of each item. Raises PomonaError where two rows do not agree."""
        values = column if isinstance(column, np.ndarray) else column.to_numpy()
        kept, ids = values[self.first], self.keys["id"].codes
        at = np.flatnonzero(values != kept[ids])
        if len(at):
            row, before = int(at[0]), int(self.first[ids[at[0]]])
            message = (
                f'the {what} of id "{self.keys["id"].values[ids[row]]}" is not that of '
                f"{self.records.other_row(before, row)}"
            )
            remedy = "an item is the same for every model: correct it, or give it another id"
            raise PomonaError(message, where=self.records.row_name(row), remedy=remedy)
        return kept


def _classes(items: Mapping[str, Any], labels: Sequence[str], name: str) -> NDArray[Any]:
    if "reference" not in items:
        message, remedy = "there are neither groups nor references", 'name the column with "group"'
        raise PomonaError(message, where=name, remedy=remedy)
    return np.asarray(labels, object)[items["reference"]]


def _trait(what: str, values: NDArray[Any], groups: NDArray[Any], name: str) -> dict[str, Any]:
    """What is said of each group. Raises PomonaError where two of its items do not agree."""
    names, first, member = np.unique(groups, return_index=True, return_inverse=True)
    kept = values[first]
    at = np.flatnonzero(values != kept[member])
    if len(at):
        message = (
            f'the {what} of group "{groups[at[0]]}" is {values[at[0]]} for one item and '
            f"{kept[member[at[0]]]} for another"
        )
        raise PomonaError(message, where=name, remedy=f"give a group one {what}")
    return dict(zip(names.tolist(), kept.tolist(), strict=True))


def _levels(
    order: _Order, dense: str | None, seeds: int | None, name: str, what: str
) -> tuple[dict[str, list[str]], list[str]]:
    """The models of each level, the dense one first, and what was left out of them."""
    found: dict[str, list[str]] = {}
    for level, seed in order.models:
        found.setdefault(level, []).append(seed)
    dense = min(found, key=natural) if dense is None else dense
    if dense not in found:
        message = f'no row has the level "{dense}"'
        remedy = f"say which level is the uncompressed one; {nearest(dense, found)}"
        raise PomonaError(message, where=name, remedy=remedy)
    if len(found) < 2:
        message, remedy = f'all rows have the {what} "{dense}"', f"add those of another {what}"
        raise PomonaError(message, where=name, remedy=remedy)
    rest = sorted((level for level in found if level != dense), key=natural)
    found = {level: sorted(found[level], key=natural) for level in (dense, *rest)}
    sizes = {level: len(names) for level, names in found.items()}
    if seeds is None:
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{level} has {size}" for level, size in sizes.items())
            message = f"levels have unequal numbers of models: {told}"
            remedy = f"--seeds {min(sizes.values())} takes as many of each"
            raise PomonaError(message, where=name, remedy=remedy)
        return found, []
    if not 1 <= seeds <= min(sizes.values()):
        message = f"{seeds} models a level are asked for, and one has {min(sizes.values())}"
        raise PomonaError(message, where="seeds", remedy=f"ask for {min(sizes.values())} or fewer")
    # Where levels share seeds, these are taken: models that were made of each other stay paired.
    shared = set.intersection(*(set(names) for names in found.values()))
    left = {level: len(names) - seeds for level, names in found.items() if len(names) > seeds}
    notes = [
        f"{quantity(count, 'model')} of level {level} {are(count)} left out"
        for level, count in left.items()
    ]
    found = {
        level: sorted(
            sorted(names, key=lambda seed: (seed not in shared, natural(seed)))[:seeds], key=natural
        )
        for level, names in found.items()
    }
    return found, notes


def _digest(
    ids: Sequence[str], about: Sequence[Any], levels: Sequence[Population], right: Codes | None
) -> str:
    """A hash of everything that is compared, in whatever order the rows stood."""
    told = hashlib.sha256("\n".join(map(repr, (ids, *about))).encode("utf-8", "replace"))
    told.update(b"" if right is None else right.tobytes())
    for level in levels:
        told.update(repr((level.level, level.seeds)).encode("utf-8", "replace"))
        for values in (level.predictions, level.scores, level.probabilities):
            told.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return told.hexdigest()[:12]
