"""Tables of training runs: parameters, tokens, loss, and what else is known of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest
from pomona.records import Records, Where, as_text, read

OF_RUN = "training-runs.csv"  # in the folder of a run of recipes
OVERALL = "overall"  # the part of the test items that is all of them
FLOPS_EACH = 6  # a parameter and a token: two forward, four backward (Kaplan et al. 2020, §2.1)
_NUMBERS = ("params", "tokens", "loss")
_MORE = ("flops", "unique_tokens", "learning_rate", "checkpoint")
_MEASURES = ("bits_per_byte",)  # other losses of the same runs
_LABELS = ("family", "size", "seed", "run", "cluster")
_COUNTS = "params_"  # how other columns of parameters begin
_COUNTED = (1.0, 1e30, "give a count such as 1e6, not millions of them")
_LOSSES = (1e-9, 1e9, "leave the run out: one that diverged says nothing of the law")
_OF = {  # the least and the most that a value can be, and what to do about any other
    "params": _COUNTED,
    "tokens": _COUNTED,
    "unique_tokens": _COUNTED,
    "flops": (1.0, 1e60, "give a count such as 1e18, not petaFLOPs"),
    "loss": _LOSSES,
    "learning_rate": (1e-300, 1e300, "give a number above 0"),
    "checkpoint": (0.0, 1e300, "give a number, 0 or more"),
}
_SMALL = 1000  # parameters or tokens of the largest run: perhaps another unit is meant
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """Trainings, one a row: `[n]` parameters, tokens, loss in nats a token, and FLOPs (6 params
    tokens where no column has them: `counted` is then False).

    more: unique_tokens, learning_rate and checkpoint, where they are known.
    labels: family, size, seed, run and cluster, where they are known.
    counts: other ways to count the parameters, by their columns.
    measures: other losses, by their columns, and `measure`, the column of the loss.
    part: of which test items the losses are, where a table has several parts.
    places: the row of each, as errors name it.
    notes: what of the tables does not count.
    """

    params: Floats
    tokens: Floats
    loss: Floats
    flops: Floats
    counted: bool
    more: Mapping[str, Floats]
    labels: Mapping[str, list[str]]
    counts: Mapping[str, Floats]
    places: Sequence[str]
    measures: Mapping[str, Floats] = field(default_factory=dict)
    measure: str = "loss"
    part: str | None = None
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.params)

    @property
    def digest(self) -> str:
        """A hash of parameters, tokens and losses, in whatever order they stand."""
        rows = np.stack([self.params, self.tokens, self.loss], 1).tolist()
        return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()[:12]

    def take(self, rows: NDArray[Any]) -> Runs:
        """Some of the runs, by row numbers or a mask `[n]`."""
        places = np.arange(len(self))[rows]
        arrays = {name: getattr(self, name)[places] for name in (*_NUMBERS, "flops")}
        return replace(
            self,
            **arrays,
            more={name: column[places] for name, column in self.more.items()},
            labels={name: [column[p] for p in places] for name, column in self.labels.items()},
            counts={name: column[places] for name, column in self.counts.items()},
            measures={name: column[places] for name, column in self.measures.items()},
            places=[self.places[place] for place in places],
        )

    def counting(self, column: str) -> Runs:
        """The same runs with another count of parameters."""
        return self if column == "params" else replace(self, params=self.counts[column])

    def by(self, measure: str) -> Runs:
        """The same runs with another loss."""
        if measure == self.measure:
            return self
        return replace(self, loss=self.measures[measure], measure=measure)

    def trainings(self) -> list[tuple[Any, ...]]:
        """The training of each row."""
        if "run" in self.labels:
            return self.keys("run")
        return self.keys("family", "size", "params", "learning_rate", "seed", "unique_tokens")

    def clusters(self) -> list[str] | None:
        """What is resampled together: rows of one cluster, or of one training, as far as a run,
        checkpoints or seeds tell trainings apart; None where each row is one.
        """
        if "cluster" in self.labels:
            keys = self.keys("cluster")
        elif "run" in self.labels or "checkpoint" in self.more:
            keys = self.trainings()
        elif len(set(self.labels.get("seed", [])) - {""}) > 1:
            keys = self.keys("family", "size", "params", "seed")
        else:
            return None
        return None if len(set(keys)) == len(keys) else [repr(key) for key in keys]

    def keys(self, *names: str) -> list[tuple[Any, ...]]:
        """What tells runs apart, of those of `names` that are known."""
        columns: list[Sequence[Any]] = []
        for name in names:
            if name in self.labels:
                columns.append(self.labels[name])
            elif name in self.more:
                columns.append(self.more[name].tolist())
            elif name in _NUMBERS:
                columns.append(getattr(self, name).tolist())
        return list(zip(*columns, strict=True)) if columns else [()] * len(self)


def read_runs(
    sources: Where | Sequence[Where],
    columns: Mapping[str, str | None] | None = None,
    part: str | None = None,
) -> Runs:
    """The runs of one table or several: CSV, JSONL, Parquet, a table, or the folder of a run of
    recipes.

    `columns` names columns that are called otherwise; those of params, tokens and loss must be
    there, or flops instead of tokens. Of a table with a column part, as runs of recipes write it,
    only the rows of `part` count, those of all items unless it is given; they are trainings of
    their own. Other columns that are empty in some rows do not count.

    Raises:
        PomonaError: a file or column is missing, a value is missing or out of range, a part is not
            there, or a run stands twice, named by file and row.
    """
    several = not isinstance(sources, str | Path | pa.Table)
    tables = [_table(one) for one in (sources if several else [sources])]  # pyright: ignore
    if not tables:
        raise PomonaError("there are no runs", where="runs", remedy="name a table of runs")
    names = {name: name for name in (*_NUMBERS, *_MORE, *_LABELS)}
    asked = {name: column for name, column in (columns or {}).items() if column is not None}
    parts = [_read(one, names | asked, set(asked), part) for one in tables]
    runs = parts[0] if len(parts) == 1 else _joined(parts)
    _refuse_twice(runs)
    return runs


def _table(source: Any) -> Records:
    if isinstance(source, pa.Table):
        return read(source)
    path = Path(source)
    if path.is_dir() and (path / OF_RUN).is_file():
        source = path = path / OF_RUN
    elif path.is_dir() and (path / "manifest.json").is_file():
        message = f"the run has no {OF_RUN}"
        remedy = "run its recipe again: a ladder that is trained writes it"
        raise PomonaError(message, where=str(source), remedy=remedy)
    return read(source)


def _read(records: Records, names: dict[str, str], asked: set[str], part: str | None) -> Runs:
    table, where = records.to_table(), str(records.source.where)
    if not len(table):
        raise PomonaError("there are no runs", where=where, remedy="check how it was written")
    if "checkpoint" not in asked and "checkpoint" not in table.column_names:
        names = names | {"checkpoint": "step"}
    _check_columns(table, where, names, asked)
    rows, of = _rows(table, where, names, part)
    column = _Columns(table.take(rows), where, records.row_names(rows), [])
    there = {name: column for name, column in names.items() if column in table.column_names}
    numbers = {name: column.numbers(there[name], name) for name in _NUMBERS if name in there}
    more = {
        name: column.numbers(there[name], name, optional=name not in asked)
        for name in _MORE
        if name in there
    }
    counts = {
        name: column.numbers(name, "params", optional=True)
        for name in table.column_names
        if name.startswith(_COUNTS) and name != names["params"]
    }
    measures = {
        name: column.numbers(name, "loss", optional=True)
        for name in _MEASURES
        if name in table.column_names and name != names["loss"]
    }
    labels = {name: column.texts(there[name]) for name in _LABELS if name in there}
    if of is not None and "run" not in labels:
        keys = [column.texts(there[name]) for name in ("size", "tokens", "seed") if name in there]
        labels["run"] = [" ".join(key) for key in zip(*keys, strict=True)]
    params, loss, flops = numbers["params"], numbers["loss"], more.pop("flops", None)
    tokens = numbers["tokens"] if "tokens" in numbers else _tokens(params, flops, column)
    counted = flops is not None
    flops = FLOPS_EACH * params * tokens if flops is None else flops
    column.say_small(params, tokens)
    known = ({n: v for n, v in each.items() if v is not None} for each in (more, counts, measures))
    more, counts, measures = known
    about = (more, labels, counts, column.places, measures, names["loss"], of, column.notes)
    return Runs(params, tokens, loss, flops, counted, *about)


def _check_columns(table: pa.Table, where: str, names: dict[str, str], asked: set[str]) -> None:
    needed = [n for n in _NUMBERS if n != "tokens" or names["flops"] not in table.column_names]
    for name in dict.fromkeys([*needed, *sorted(asked)]):
        if names[name] not in table.column_names:
            option = f"--{name.replace('_', '-')}"
            remedy = f"{nearest(names[name], table.column_names)}; {option} names another"
            first = table.column_names[0]
            if len(table.column_names) == 1 and (";" in first or "\t" in first):
                remedy = "separate columns by commas, not by semicolons or tabs"
            raise PomonaError(f'there is no column "{names[name]}"', where=where, remedy=remedy)


def _rows(
    table: pa.Table, where: str, names: Mapping[str, str], part: str | None
) -> tuple[NDArray[np.intp], str | None]:
    """The rows that count, and the part of the test items that they are of, where there is one."""
    of = as_text(table["part"]).to_pylist() if "part" in table.column_names else None
    if of is None or "part" in names.values():
        if part is None:
            return np.arange(len(table)), None
        remedy = "leave out --part" if of is None else 'call the column otherwise than "part"'
        raise PomonaError('there is no column "part"', where=where, remedy=remedy)
    known = list(dict.fromkeys(one or "" for one in of))
    wanted = part or (known[0] if len(known) == 1 else OVERALL)
    rows = np.array([row for row, one in enumerate(of) if (one or "") == wanted], np.intp)
    if not len(rows):
        remedy = f"{nearest(wanted, known)}; --part names another"
        raise PomonaError(f'there is no part "{wanted}"', where=where, remedy=remedy)
    return rows, wanted


def _tokens(params: Floats, flops: Floats | None, column: _Columns) -> Floats:
    """Tokens that follow from FLOPs."""
    if flops is None:
        message, remedy = '"flops" is empty in some rows', "fill it, or give a column of tokens"
        raise PomonaError(message, where=column.where, remedy=remedy)
    tokens = flops / (FLOPS_EACH * params)
    if len(off := np.flatnonzero(tokens < 1)):
        message = f"flops are too few for one token: {flops[off[0]]:g}"
        raise PomonaError(message, where=column.places[off[0]], remedy=_OF["flops"][2])
    return tokens


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)


class _Columns:
    """The columns of the rows of a table that count; `places` are how errors name them."""

    def __init__(
        self, table: pa.Table, where: str, places: Sequence[str], notes: list[str]
    ) -> None:
        self.table, self.where, self.places, self.notes = table, where, places, notes

    def texts(self, column: str) -> list[str]:
        """A column as texts, "" for what is missing."""
        return [text or "" for text in as_text(self.table[column]).to_pylist()]

    def numbers(self, column: str, name: str, *, optional: bool = False) -> Any:
        """A column of numbers, which texts may spell; None where an optional one has gaps."""
        values = self.table[column].to_pylist()
        gaps = [value in (None, "") or _is_nan(value) for value in values]
        if optional and any(gaps):
            self.notes.append(
                f'"{column}" is empty in {sum(gaps)} of {len(gaps)} rows, and does not count'
            )
            return None
        found = np.empty(len(values))
        least, most, remedy = _OF[name]
        for row, value in enumerate(values):
            try:
                found[row] = np.nan if isinstance(value, bool) else float(value)
            except (TypeError, ValueError, OverflowError):
                found[row] = np.nan
            if not least <= found[row] <= most:
                told = "has no value" if value in (None, "") else f"is {str(value)[:40]}"
                place = self.places[row]
                raise PomonaError(f'"{column}" {told}', where=place, remedy=remedy)
        return found

    def say_small(self, params: Floats, tokens: Floats) -> None:
        """Note a table of which the largest run is none, unless it is in another unit."""
        for name, largest in (("params", params.max()), ("tokens", tokens.max())):
            if largest < _SMALL:
                self.notes.append(
                    f"{name} of the largest run are {largest:.4g}: give counts, not millions"
                )


def _joined(parts: Sequence[Runs]) -> Runs:
    """Runs of several tables; what only some of them know is not known."""

    def both(name: str) -> dict[str, Any]:
        first = getattr(parts[0], name)
        shared = [key for key in first if all(key in getattr(part, name) for part in parts)]
        return {key: [getattr(part, name)[key] for part in parts] for key in shared}

    return Runs(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in (*_NUMBERS, "flops")),
        counted=all(part.counted for part in parts),
        more={name: np.concatenate(found) for name, found in both("more").items()},
        labels={name: list(chain(*found)) for name, found in both("labels").items()},
        counts={name: np.concatenate(found) for name, found in both("counts").items()},
        measures={name: np.concatenate(found) for name, found in both("measures").items()},
        places=[place for part in parts for place in part.places],
        measure=parts[0].measure,
        part=parts[0].part,
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _refuse_twice(runs: Runs) -> None:
    """Raise PomonaError for a run of which all that is known is known of an earlier one."""
    first: dict[tuple[Any, ...], int] = {}
    for row, key in enumerate(runs.keys(*_NUMBERS, *_MORE, *_LABELS)):
        if key in first:
            message = f"the run stands in {runs.places[first[key]]} too"
            remedy = "leave it out, or tell trainings apart by a column seed"
            raise PomonaError(message, where=runs.places[row], remedy=remedy)
        first[key] = row
