"""Tables of training runs: parameters, tokens, loss, and what else is known of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest
from pomona.records import Where, as_text, read

OF_RUN = "training-runs.csv"  # in the folder of a run of recipes
FLOPS_EACH = 6  # a parameter and a token: two forward, four backward (Kaplan et al. 2020, §2.1)
_NUMBERS = ("params", "tokens", "loss")
_MORE = ("flops", "unique_tokens", "learning_rate", "checkpoint")
_LABELS = ("family", "size", "seed", "run", "cluster")
_PART = "part"  # of the test items, where a table tells the loss on several
_COUNTS = "params_"  # how other columns of parameters begin
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """Trainings, one a row: `[n]` parameters, tokens, loss in nats a token, and FLOPs (6 params
    tokens where no column has them: `counted` is then False).

    more: unique_tokens, learning_rate and checkpoint, where they are known.
    labels: family, size, seed, run and cluster, where they are known.
    counts: other ways to count the parameters, by their columns.
    places: the row of each, as errors name it.
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
            places=[self.places[place] for place in places],
        )

    def counting(self, column: str) -> Runs:
        """The same runs with another count of parameters."""
        return self if column == "params" else replace(self, params=self.counts[column])

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
    part: str = "overall",
) -> Runs:
    """The runs of one table or several: CSV, JSONL, Parquet, a table, or the folder of a run of
    recipes.

    `columns` names columns that are called otherwise; those of params, tokens and loss must be
    there, or flops instead of tokens. Where a column `part` tells parts of the test items, the rows
    of one count.

    Raises:
        PomonaError: a file or column is missing, a value is missing or no number above 0, or a run
            stands twice, named by file and row.
    """
    several = not isinstance(sources, str | Path | pa.Table)
    tables = [_table(one) for one in (sources if several else [sources])]  # pyright: ignore
    if not tables:
        raise PomonaError("there are no runs", where="runs", remedy="name a table of runs")
    names = {name: name for name in (*_NUMBERS, *_MORE, *_LABELS)}
    asked = {name: column for name, column in (columns or {}).items() if column is not None}
    parts = [_read(table, where, names | asked, set(asked), part) for where, table in tables]
    runs = parts[0] if len(parts) == 1 else _joined(parts)
    _refuse_twice(runs)
    return runs


def _table(source: Any) -> tuple[str, pa.Table]:
    if isinstance(source, pa.Table):
        return "the table", source
    path = Path(source)
    if path.is_dir() and (path / OF_RUN).is_file():
        source = path = path / OF_RUN
    elif path.is_dir() and (path / "manifest.json").is_file():
        message = f"the run has no {OF_RUN}"
        remedy = "run its recipe again: a ladder that is trained writes it"
        raise PomonaError(message, where=str(source), remedy=remedy)
    return str(source), read(source).to_table()


def _read(table: pa.Table, where: str, names: dict[str, str], asked: set[str], part: str) -> Runs:
    if not len(table):
        raise PomonaError("there are no runs", where=where, remedy="check how it was written")
    table, rows = _of_part(table, where, part)
    places = [f"{where}, row {row + 1}" for row in rows]
    if "checkpoint" not in asked and "checkpoint" not in table.column_names:
        names = names | {"checkpoint": "step"}
    needed = [n for n in _NUMBERS if n != "tokens" or names["flops"] not in table.column_names]
    for name in dict.fromkeys([*needed, *sorted(asked)]):
        if names[name] not in table.column_names:
            option = f"--{name.replace('_', '-')}"
            remedy = f"{nearest(names[name], table.column_names)}; {option} names another"
            raise PomonaError(f'there is no column "{names[name]}"', where=where, remedy=remedy)
    there = {name: column for name, column in names.items() if column in table.column_names}
    tokens_too = "tokens" in there
    numbers = {
        name: _numbers(table, there[name], places, name)
        for name in (*_NUMBERS, *_MORE)
        if name in there
        and (name in _NUMBERS or name in asked or not tokens_too or _known(table[there[name]]))
    }
    flops = numbers.pop("flops", None)
    params, tokens = numbers.pop("params"), numbers.pop("tokens", None)
    if tokens is None:
        assert flops is not None
        tokens = flops / (FLOPS_EACH * params)
    counts = {
        name: _numbers(table, name, places, "params")
        for name in table.column_names
        if name.startswith(_COUNTS) and name != names["params"] and _known(table[name])
    }
    labels = {
        name: [text or "" for text in as_text(table[there[name]]).to_pylist()]
        for name in _LABELS
        if name in there
    }
    counted = flops is not None
    flops = FLOPS_EACH * params * tokens if flops is None else flops
    loss = numbers.pop("loss")
    return Runs(params, tokens, loss, flops, counted, numbers, labels, counts, places)


def _of_part(table: pa.Table, where: str, part: str) -> tuple[pa.Table, list[int]]:
    """The rows of one part of the test items, and where they stand."""
    rows = list(range(len(table)))
    if _PART in table.column_names:
        told = as_text(table[_PART]).to_pylist()
        rows = [row for row in rows if told[row] == part]
        if not rows:
            known = nearest(part, {one for one in told if one})
            raise PomonaError(f'there is no part "{part}"', where=where, remedy=known)
    elif part != "overall":
        message = 'there is no column "part"'
        raise PomonaError(message, where=where, remedy="leave out --part")
    return table.take(rows), rows


def _known(column: Any) -> bool:
    """Whether every run has a value: what is not known of all is not known."""
    return not any(value in (None, "") for value in column.to_pylist())


def _numbers(table: pa.Table, column: str, places: Sequence[str], name: str) -> Floats:
    """A column of numbers above 0, which texts may spell."""
    found = np.empty(len(table))
    for row, value in enumerate(table[column].to_pylist()):
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            found[row] = np.nan
        least = 0 if name == "checkpoint" else 5e-324
        if not least <= found[row] < np.inf:
            told = "has no value" if value in (None, "") else f"is {value}"
            remedy = (
                "leave the run out: one that diverged says nothing of the law"
                if name == "loss"
                else "give a number above 0"
            )
            raise PomonaError(f'"{column}" {told}', where=places[row], remedy=remedy)
    return found


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
        places=[place for part in parts for place in part.places],
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
