"""From the chunks of the work folder to score columns, and to the input with them beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.data.scores._combine import cat_diff, cat_var, vog, within_group, within_length
from pomona.data.scores._input import chunks
from pomona.data.scores._job import TEXT, Job
from pomona.data.scores._work import Work
from pomona.errors import PomonaError
from pomona.records import Derived

Floats = NDArray[np.float64]


def columns_of(job: Job, work: Work) -> dict[str, Floats]:
    """Every score column, float64 `[rows]`, NaN where a row has no score."""
    gathered: dict[str, list[Floats]] = {}
    groups: list[pa.Array] = []
    steps = [step for step in job.passes if step != TEXT]
    for index in range(len(job.found.chunks)):
        tables = [work.load(step, index) for step in steps]
        for name in {"loss", "error", "recall"} & set(tables[0].column_names if tables else ()):
            gathered.setdefault(name, []).append(
                np.array([table[name].to_numpy() for table in tables])
            )
        if tables:
            gathered.setdefault("length", []).append(
                tables[0]["length"].to_numpy().astype(np.float64)
            )
        if "vog" in job.chosen.of_models:
            gathered.setdefault("vog", []).append(
                vog([table["gradient"].combine_chunks() for table in tables])
            )
        if TEXT in job.passes:
            text = work.load(TEXT, index)
            for name in text.column_names:
                gathered.setdefault(name, []).append(text[name].to_numpy())
    whole = {name: np.concatenate(parts, axis=-1) for name, parts in gathered.items()}
    if "vog" in whole and job.layout.group:
        for rows in chunks(job.records, job.layout, job.source):
            groups.append(pa.array(rows.groups))
        codes = (
            pa.chunked_array(groups)
            .combine_chunks()
            .dictionary_encode()
            .indices.to_numpy()
            .astype(np.int64)
        )
        whole["vog"] = within_group(whole["vog"], codes)
    return _named(job, whole)


def _named(job: Job, whole: dict[str, Floats]) -> dict[str, Floats]:
    with np.errstate(over="ignore"):
        perplexities = np.exp(whole["loss"]) if "loss" in whole else np.zeros((0, 0))
    made: dict[str, Callable[[], Floats]] = {
        "el2n": lambda: whole["error"].mean(axis=0),
        "cat_var": lambda: _controlled(job, cat_var(perplexities), whole),
        "cat_diff": lambda: _controlled(job, cat_diff(perplexities), whole),
    }
    found: dict[str, Floats] = {}
    for name in job.chosen.names:
        if name in ("perplexity", "memorization"):
            rows = perplexities if name == "perplexity" else whole["recall"]
            found.update(
                {
                    f"{name}@{label}" if len(rows) > 1 else name: row
                    for label, row in zip(job.labels, rows, strict=True)
                }
            )
        else:
            found[name] = made[name]() if name in made else whole[name]
    for name, values in found.items():
        for row in np.flatnonzero(np.isinf(values))[:1]:
            where = f"{job.source}, row {row + 1}"
            raise PomonaError(
                f"{name} is too large for a float64",
                where=where,
                remedy="is this the right model for the data?",
            )
    return found


def _controlled(job: Job, values: Floats, whole: dict[str, Floats]) -> Floats:
    bins = job.options["length_bins"]
    return (
        values
        if bins is None
        else within_length(values, whole["length"].astype(np.int64), bins=bins)
    )


@dataclass(frozen=True)
class Extended(Derived):
    """Records with columns beside them."""

    added: dict[str, pa.Array]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(
            [
                *self.records.schema,
                *(pa.field(name, values.type) for name, values in self.added.items()),
            ]
        )

    def stream(
        self, columns: Sequence[str], keep: pc.Expression | None
    ) -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in self.records.batches():
            added = [values.slice(done, batch.num_rows) for values in self.added.values()]
            yield pa.record_batch([*batch.columns, *added], schema=self.schema)
            done += batch.num_rows


def summary(values: Floats) -> dict[str, float | int | None]:
    """Mean, quartiles and ends of a column, and how many rows are too short for it."""
    known = values[~np.isnan(values)]
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    marks = np.quantile(known, (0, 0.25, 0.5, 0.75, 1)).tolist() if len(known) else [None] * 5
    return {
        "mean": float(known.mean()) if len(known) else None,
        **dict(zip(names, marks, strict=True)),
        "null": len(values) - len(known),
    }
