"""What systems score, by metric and group, with resamples as far as anything is known of the error;
and the same from the items of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona import stats
from pomona.errors import quantity
from pomona.records import files_at

Floats = NDArray[np.float64]
Key = tuple[int, str, str]  # a system by its place, a metric, a group
OVERALL = "overall"
SCALE = "scale"  # the kind of what is a size of the ladder and no lever
_CONTROL, _RANDOM = "control", "/random"
_LOWER = ("loss", "bits_per_byte", "perplexity", "nll", "ter", "error", "wer", "cer")


@dataclass(frozen=True)
class ScoredSystem:
    """What was measured: a `lever` at a `size`.

    kind: of levers in a ledger, such as "data"; "scale" where it is a size and nothing else.
    parameters, tokens: of its model and its training; None where nobody told.
    flops: to make it beyond the model of its size, and to answer the items that it is judged by.
    """

    lever: str
    size: str
    parameters: float | None = None
    tokens: float | None = None
    flops: float | None = None
    kind: str = ""

    @property
    def is_lever(self) -> bool:
        """Whether it is no size, no control and no choice by chance."""
        return self.kind not in (SCALE, _CONTROL) and not self.lever.endswith(_RANDOM)


class NamedMetric(Protocol):
    """Of a metric what is needed here; see `pomona.tasks.Metric`."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better."""
        ...

    def aggregate(self, sums: Floats) -> Floats:
        """The metric of summed statistics, `[..., k]` to `[...]`."""
        ...


@dataclass(frozen=True)
class Measured:
    """The statistics of each of n items by each system of a run.

    name: the run, as errors name it.
    clusters: what each item shares with others, None where they are on their own.
    parts: rows of each group of items, all of them ("overall") first.
    statistics: by the places of system and metric, `[seeds, n, k]`.
    """

    name: str
    digest: str
    ids: Sequence[str]
    clusters: Sequence[str] | None
    parts: Mapping[str, NDArray[np.intp]]
    systems: Sequence[ScoredSystem]
    metrics: Sequence[NamedMetric]
    statistics: Mapping[tuple[int, int], Floats]


@dataclass(frozen=True)
class Scores:
    """Values of systems, with the same value in every resample as far as there are any.

    paired: resamples of two systems are of the same items.
    """

    name: str
    digest: str
    systems: list[ScoredSystem]
    higher: dict[str, bool]
    groups: list[str]
    values: dict[Key, float]
    drawn: dict[Key, Floats]
    paired: bool
    notes: list[str] = field(default_factory=list)


Source = str | Path | pa.Table | Measured


def sources_of(inputs: Source | Sequence[Source]) -> list[Source]:
    """One source or several as a list."""
    if isinstance(inputs, str | Path | pa.Table | Measured):
        return [inputs]
    return list(cast("Sequence[Source]", inputs))


def paths_of(sources: Sequence[Source]) -> list[str]:
    """The files among sources, which no output may replace, and runs by their folders."""
    runs = [one.name for one in sources if isinstance(one, Measured)]
    named = [one for one in sources if isinstance(one, str | Path)]
    return [*runs, *(file for one in named for file in files_at(one))]


def higher_is_better(metric: str) -> bool:
    """Of a metric that has only a name: losses and errors are better where they are lower."""
    name = metric.lower()
    return name not in _LOWER and not set(name.split("_")) & set(_LOWER)


def scores_of(measured: Measured, resamples: int, seed: int) -> Scores:
    """The scores of a run, from the statistics of its items."""
    values: dict[Key, float] = {}
    drawn: dict[Key, Floats] = {}
    clusters = None if measured.clusters is None else np.asarray(measured.clusters, dtype=object)
    for group, rows in measured.parts.items():
        within = None if clusters is None else clusters[rows]
        draws = stats.Resamples(len(rows), resamples, seed, within)
        for (system, place), statistics in measured.statistics.items():
            metric = measured.metrics[place]
            key = (system, metric.name, group)
            with np.errstate(invalid="ignore", divide="ignore"):
                value = stats.value_of(metric, statistics[:, rows])
                resampled = draws.resampled(metric, statistics[:, rows], system)
            if not np.isfinite(value):
                continue
            values[key] = value
            if draws.units > 1 and np.isfinite(resampled).all():
                drawn[key] = resampled
    n = f"{quantity(len(measured.ids), 'item')}"
    what = n if clusters is None else f"{quantity(len(set(clusters)), 'cluster')} of the {n}"
    notes = [f"{measured.name}: intervals resample {what}."]
    higher = {metric.name: metric.higher_is_better for metric in measured.metrics}
    about = (list(measured.systems), higher, list(measured.parts), values, drawn)
    return Scores(measured.name, measured.digest, *about, paired=True, notes=notes)
