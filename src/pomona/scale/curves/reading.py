"""Scores from tables: a row for each system and metric, or for each item of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.errors import PomonaError, nearest
from pomona.records import Records, RowName, Where, as_text, read
from pomona.scale.curves.ledgers import is_ledger, scores_in
from pomona.scale.curves.scores import (
    OVERALL,
    SCALE,
    Floats,
    Key,
    Measured,
    ScoredSystem,
    Scores,
    Source,
    higher_is_better,
    scores_of,
)
from pomona.stats import MINIMUM

_NAMES = {
    "parameters": ("params", "parameters"),
    "low": ("low", "ci_low"),
    "high": ("high", "ci_high"),
    "group": ("group", "part"),
    **{name: (name,) for name in ("size", "tokens", "flops", "lever", "kind", "metric")},
    **{name: (name,) for name in ("value", "item", "cluster", "seed")},
}
_WORDS = ("size", "lever", "kind", "group", "metric", "item", "cluster", "seed")
# Of tables of trainings, which have more than metrics in columns.
_NO_METRICS = ("id", "items", "unique_tokens", "params_no_embedding", "learning_rate", "epochs")
_MOST = 1e100  # squares of larger values are none
_WIDE = 2 * 1.959964  # standard errors in an interval of 95 %


@dataclass(frozen=True)
class _Mean:
    """The mean of what a table gives each item."""

    name: str
    higher_is_better: bool

    def aggregate(self, sums: Floats) -> Floats:
        """Values by items."""
        return sums[..., 0] / sums[..., 1]


@dataclass(frozen=True)
class _Row:
    """A value of a table, with where it stands."""

    place: int
    system: ScoredSystem
    metric: str
    group: str
    value: float
    low: float
    high: float
    item: str | None
    cluster: str | None
    seed: str
    flops: float | None = None


def read_scores(
    sources: Sequence[Source], *, levers: bool, resamples: int, seed: int
) -> list[Scores]:
    """The scores of runs, of ledgers (where `levers` are asked for) and of tables. Runs on the same
    items are resampled together, others apart.
    """
    if resamples < MINIMUM:
        message = f"{resamples} resamples are too few for an interval"
        raise PomonaError(message, where="resamples", remedy=f"use at least {MINIMUM}")
    kinds: list[list[str]] = []
    found = []
    for one in sources:
        if isinstance(one, Measured):
            if list(one.ids) not in kinds:
                kinds.append(list(one.ids))
            found.append(scores_of(one, resamples, seed + kinds.index(list(one.ids))))
        elif levers and isinstance(one, str | Path) and is_ledger(Path(one)):
            found.append(scores_in(Path(one), resamples, seed))
        else:
            found.append(scores_at(one, levers=levers, resamples=resamples, seed=seed))
    if len(kinds) > 1:
        found[0].notes.append("Runs are not on the same items: each is resampled by itself.")
    return found


def scores_at(source: Where, *, levers: bool, resamples: int, seed: int) -> Scores:
    """The scores in a table; with `levers` it must name them. Raises PomonaError for columns and
    values that are missing or wrong, with the row.
    """
    records = read(source)
    name = str(source) if isinstance(source, str | Path) else "the table"
    rows = _rows(records, name, levers=levers)
    if not rows:
        raise PomonaError("there are no values", where=name, remedy="check how it was written")
    text = "\n".join(map(repr, rows))
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    if rows[0].item is not None:
        return scores_of(_of_items(rows, name, records, digest), resamples, seed)
    return _of_values(rows, name, records, digest, resamples, seed)


def _rows(records: Records, name: str, *, levers: bool) -> list[_Row]:
    table = records.to_table()
    there = {
        what: next((n for n in names if n in table.column_names), None)
        for what, names in _NAMES.items()
    }
    wide = _metric_columns(table, there, name, levers=levers)
    columns: dict[str, list[Any]] = {}
    for what, column in there.items():
        if column is None:
            columns[what] = [None] * len(table)
        elif what in _WORDS:
            columns[what] = as_text(table[column]).to_pylist()
        else:
            columns[what] = _numbers(table, column, records)
    rows = []
    for metric in wide or [None]:
        values = columns["value"] if metric is None else _numbers(table, metric, records)
        for place, value in enumerate(values):
            if value is not None:
                rows.append(_row(columns, place, metric, value, records, levers=levers))
    return rows


def _row(
    columns: Mapping[str, Sequence[Any]],
    place: int,
    metric: str | None,
    value: float,
    records: Records,
    *,
    levers: bool,
) -> _Row:
    given = {what: column[place] for what, column in columns.items()}
    for what in ("size" if given["parameters"] is None else "", "lever" if levers else ""):
        axes = given["tokens"] is not None or given["flops"] is not None
        if what and given[what] is None and (levers or not axes):
            remedy = "fill it, or leave the row out"
            where = records.row_name(place)
            raise PomonaError(f'"{what}" has no value', where=where, remedy=remedy)
    sizes = _positive(given, RowName(records, place))
    flops = sizes.pop() if levers else None  # a cost there, and else what is varied
    size = _size(given["size"]) or ("" if sizes[0] is None else f"{sizes[0]:.15g}")
    if None not in (given["low"], given["high"]) and given["low"] > given["high"]:
        message = f"the interval begins at {given['low']:g} and ends at {given['high']:g}"
        remedy = "give its lower end as low"
        raise PomonaError(message, where=records.row_name(place), remedy=remedy)
    lever, kind = given["lever"] or SCALE, given["kind"] or ("" if levers else SCALE)
    return _Row(
        place,
        ScoredSystem(lever, size, *sizes, kind=kind),
        metric or given["metric"] or "value",
        given["group"] or OVERALL,
        value,
        np.nan if given["low"] is None else given["low"],
        np.nan if given["high"] is None else given["high"],
        given["item"],
        given["cluster"],
        given["seed"] or "0",
        flops,
    )


def _size(told: str | None) -> str:
    """The name of a size; one that is a number is that however it is written."""
    return f"{float(told):.15g}" if told and _is_number(told) else told or ""


def _positive(given: Mapping[str, Any], where: object) -> list[float | None]:
    """Parameters, tokens and FLOPs; a size that is a number is parameters."""
    parameters = given["parameters"]
    if parameters is None and given["size"] is not None:
        try:
            parameters = float(given["size"])
        except ValueError:
            parameters = None
    found = [parameters, given["tokens"], given["flops"]]
    for what, number in zip(("parameters", "tokens", "flops"), found, strict=True):
        if number is not None and not 0 < number < np.inf:
            remedy = "give a number above 0, or leave it empty where it is not known"
            raise PomonaError(f"{what} is {number:g}", where=where, remedy=remedy)
    return found


def _metric_columns(
    table: pa.Table, there: Mapping[str, str | None], name: str, *, levers: bool
) -> list[str]:
    """The columns of metrics, where there is no column "value"."""
    if levers and there["lever"] is None:
        remedy = nearest("lever", table.column_names)
        raise PomonaError('there is no column "lever"', where=name, remedy=remedy)
    sizes = ("size", "parameters") if levers else ("size", "parameters", "tokens", "flops")
    if not any(there[what] for what in sizes):
        wanted = "size or params" if levers else "size, params, tokens or flops"
        remedy = f"known: {', '.join(table.column_names)}"
        raise PomonaError(f"there is no column of sizes: {wanted}", where=name, remedy=remedy)
    if there["value"] is not None:
        return []
    known = {column for column in there.values() if column is not None}
    wide = [
        column
        for column in table.column_names
        if column not in known and column not in _NO_METRICS and _is_metric(table[column])
    ]
    ends = {f"{column}_{end}" for column in wide for end in ("low", "high")}
    wide = [column for column in wide if column not in ends]
    if levers or not wide:
        remedy = "name it `value`" + ("" if levers else ", or give a column of numbers a metric")
        raise PomonaError("there is no column of values", where=name, remedy=remedy)
    return wide


def _is_metric(column: pa.ChunkedArray) -> bool:
    """Whether a column is of numbers; CSV has nothing but texts. One of which most are numbers is,
    so that the others are refused by row, and not with all of the column unseen.
    """
    if not pa.types.is_string(column.type):
        return pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    texts = [text for text in column.to_pylist() if text]
    return sum(map(_is_number, texts)) > len(texts) / 2


def _numbers(table: pa.Table, column: str, records: Records) -> list[float | None]:
    try:
        values = table[column].cast(pa.float64()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts = as_text(table[column]).to_pylist()
        place = next(i for i, text in enumerate(texts) if text is not None and not _is_number(text))
        message = f'"{column}" is {texts[place][:40]!r}'
        remedy = "give a number, or leave it empty where it is not known"
        raise PomonaError(message, where=records.row_name(place), remedy=remedy) from None
    for place, value in enumerate(values):
        if value is not None and not abs(value) < _MOST:
            remedy = f"give a number within {_MOST:g}, or leave it empty where it is not known"
            message, where = f'"{column}" is {value}', records.row_name(place)
            raise PomonaError(message, where=where, remedy=remedy)
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with_flops(systems: Sequence[ScoredSystem], rows: Sequence[_Row]) -> list[ScoredSystem]:
    """Systems with what all their trainings took together, as far as it is known of all."""
    found: dict[ScoredSystem, dict[str, float | None]] = {}
    for row in rows:
        found.setdefault(row.system, {})[row.seed] = row.flops
    sums = {system: _sum(list(flops.values())) for system, flops in found.items()}
    return [
        system if sums[system] is None else replace(system, flops=sums[system])
        for system in systems
    ]


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _of_items(rows: Sequence[_Row], name: str, records: Records, digest: str) -> Measured:
    """The statistics of a table of items: a mean, over the same items for every system."""
    ids = sorted({row.item or "" for row in rows})
    place = {id_: at for at, id_ in enumerate(ids)}
    metrics = list(dict.fromkeys(row.metric for row in rows))
    systems = list(dict.fromkeys(row.system for row in rows))
    told = _with_flops(systems, rows)
    groups, clusters = [OVERALL] * len(ids), list[str | None]([None] * len(ids))
    found: dict[tuple[int, int], dict[str, Floats]] = {}
    numbers = {system: at for at, system in enumerate(systems)}
    for row in rows:
        at = place[row.item or ""]
        groups[at], clusters[at] = row.group, row.cluster
        of = found.setdefault((numbers[row.system], metrics.index(row.metric)), {})
        values = of.setdefault(row.seed, np.full(len(ids), np.nan))
        if not np.isnan(values[at]):
            message = f'the item "{row.item}" stands there before with the same system and metric'
            remedy = "give each item one row, or a column `seed` where it was trained again"
            raise PomonaError(message, where=records.row_name(row.place), remedy=remedy)
        values[at] = row.value
    statistics = {}
    for key, seeds in found.items():
        values = np.stack(list(seeds.values()))
        if np.isnan(values).any():
            lacking = ids[int(np.flatnonzero(np.isnan(values).any(0))[0])]
            system = systems[key[0]]
            message = f'{system.lever} at {system.size} has no value of item "{lacking}"'
            remedy = "score the same items everywhere, or leave those out"
            raise PomonaError(message, where=name, remedy=remedy)
        statistics[key] = np.stack([values, np.ones_like(values)], axis=-1)
    parts = {OVERALL: np.arange(len(ids))}
    if set(groups) != {OVERALL}:
        named = np.asarray(groups, dtype=object)
        parts |= {g: np.flatnonzero(named == g) for g in sorted(set(groups) - {OVERALL})}
    means = [_Mean(metric, higher_is_better(metric)) for metric in metrics]
    shared = None if None in clusters else [str(one) for one in clusters]
    return Measured(name, digest, ids, shared, parts, told, means, statistics)


def _of_values(
    rows: Sequence[_Row], name: str, records: Records, digest: str, resamples: int, seed: int
) -> Scores:
    """The scores of a table of values; errors are as far as intervals or seeds tell them."""
    systems = list(dict.fromkeys(row.system for row in rows))
    numbers = {system: at for at, system in enumerate(systems)}
    found: dict[Key, dict[str, _Row]] = {}
    for row in rows:
        seeds = found.setdefault((numbers[row.system], row.metric, row.group), {})
        if row.seed in seeds:
            other = records.other_row(seeds[row.seed].place, row.place)
            message = f"{other} is of the same system, metric and group"
            remedy = "leave one of them out, or tell trainings apart by a column `seed`"
            raise PomonaError(message, where=records.row_name(row.place), remedy=remedy)
        seeds[row.seed] = row
    values = {k: float(np.mean([r.value for r in seeds.values()])) for k, seeds in found.items()}
    errors, told = _errors(found, systems)
    rng = np.random.default_rng(seed)
    drawn = {k: values[k] + e * rng.standard_normal(resamples) for k, e in errors.items()}
    metrics, groups = (list(dict.fromkeys(k[i] for k in found)) for i in (1, 2))
    higher = {str(metric): higher_is_better(str(metric)) for metric in metrics}
    notes = [f"{name}: {told}"] if told else []
    about = (_with_flops(systems, rows), higher, [str(group) for group in groups], values, drawn)
    return Scores(name, digest, *about, paired=False, notes=notes)


def _errors(
    found: Mapping[Key, Mapping[str, _Row]], systems: Sequence[ScoredSystem]
) -> tuple[dict[Key, float], str]:
    """The standard error of each value, and what it is from."""
    known: dict[Key, float] = {}
    for key, seeds in found.items():
        widths = [row.high - row.low for row in seeds.values()]
        if np.isfinite(widths).all() and min(widths) >= 0:
            known[key] = float(np.mean(widths)) / _WIDE / np.sqrt(len(widths))
    if known:
        return known, "errors are as the intervals say, those of two systems taken as independent."
    spread: dict[tuple[str, str, str], list[list[float]]] = {}
    for (system, metric, group), seeds in found.items():
        if len(seeds) > 1:
            of = spread.setdefault((systems[system].size, metric, group), [])
            of.append([row.value for row in seeds.values()])
    for (system, metric, group), seeds in found.items():
        if of := spread.get((systems[system].size, metric, group)):
            squares = sum(float(np.var(v)) * len(v) for v in of)
            freedom = sum(len(v) - 1 for v in of)
            known[system, metric, group] = float(np.sqrt(squares / freedom / len(seeds)))
    return (
        known,
        "errors are those between seeds, pooled over the systems of a size." if known else "",
    )
