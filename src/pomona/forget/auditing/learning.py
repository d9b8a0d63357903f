"""`order`: when examples and groups are learnt, over the checkpoints of a training; what is
forgotten on the way, and by training on.

Toneva et al. 2019 (arXiv 1812.05159): an example is forgotten when it was right at a checkpoint and
is wrong at the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona import stats
from pomona.errors import PomonaError, nearest
from pomona.forget.auditing.populations import Floats, Populations, numbers, read_populations
from pomona.forget.comparison import Comparison, compare
from pomona.records import Records, TableSource, Where, read_named

_SHARE = stats.Share()
_TRAJECTORY = "perplexity@"  # columns of `pomona data score` with several checkpoints
# The last number in a name, and what stands around it.
_NUMBERED = re.compile(r"(?P<text>.*?)(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<rest>[^0-9]*)", re.DOTALL)

UNITS = {
    "right": "shares of items, 0 to 1, at each step",
    "place": "0: right from the first checkpoint on; 1: at none. The mean share of checkpoints at "
    "which an item is wrong before it is right for good",
    "forgotten": "times that an item was right and is wrong at the next checkpoint, a mean",
    "lost": "share of items that were right at some checkpoint and are wrong at the last",
}


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over items, or clusters of them, and seeds; without ends where
    nothing is known of the error.
    """

    value: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class Learning:
    """How n items were learnt. `median` is the step from which half of them are right for good,
    None where the last does not reach that; for the rest see `UNITS`.
    """

    n: int
    right: Sequence[float]
    median: str | None
    place: Estimate
    forgotten: Estimate
    lost: Estimate


@dataclass(frozen=True)
class LearningOrder:
    """Items and groups by when they are learnt, groups in that order. `since` compares the last
    step with an earlier one, item by item. `items` has a row for each item: id, group, the first
    step at which it is right, the one from which it is right for good, and how often it was
    forgotten; of several seeds by the first.
    """

    name: str
    steps: Sequence[str]
    overall: Learning
    groups: Mapping[str, Learning]
    since: Comparison | None
    seed: int
    signature: str
    items: pa.Table | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """All but the items, as JSON has it."""
        told = {"name": self.name, "steps": list(self.steps), "overall": asdict(self.overall)}
        told["groups"] = {name: asdict(one) for name, one in self.groups.items()}
        told["since"] = None if self.since is None else self.since.to_json()
        return {**told, "seed": self.seed, "signature": self.signature, "units": UNITS}

    def to_table(self) -> pa.Table:
        """A row for all items, whose group is null, and one for each group."""
        rows = []
        for name, one in [(None, self.overall), *self.groups.items()]:
            row = {"group": name, "n": one.n, "median": one.median, "right": list(one.right)}
            for what in ("place", "forgotten", "lost"):
                told = getattr(one, what)
                row |= {what: told.value, f"{what}_low": told.ci_low, f"{what}_high": told.ci_high}
            rows.append(row)
        return pa.Table.from_pylist(rows)


def order(
    inputs: Where,
    *,
    group: str | None = None,
    cluster: str | None = None,
    threshold: float | None = None,
    falling: bool = False,
    since: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> LearningOrder:
    """Say when examples and groups are learnt over the checkpoints of a training, what is forgotten
    on the way, and what training on forgot.

    A row is an answer at a checkpoint: columns id, step, prediction and reference, or a score, and
    seed where there are several trainings. What `pomona data score` adds with several checkpoints,
    a column perplexity@MODEL for each, is read too: one row an example.

    Args:
        inputs: Answers at all checkpoints: files, globs or a folder.
        group: Column of groups; "group", or else the reference.
        cluster: Column of what items share, such as their source; "cluster" where there is one.
        threshold: Score from which on an item counts as right.
        falling: Scores fall: up to the threshold it counts as right. Perplexities do.
        since: Step to compare the last one with: before a fine-tuning, what it forgot.
        resamples: Resamples behind each interval.
        seed: Seed of the resamples.

    Raises:
        PomonaError: a table cannot be read, steps are not of the same items, or scores are not
            right or wrong and there is no threshold.
    """
    _check(threshold, falling=falling)
    table, falls = _rows(inputs, group, cluster)
    columns = {"level": "step", "group": group, "cluster": cluster}
    populations = read_populations(table, dense=None, columns=columns)
    levels = {one.level: one for one in populations.levels}
    names = _in_order(list(levels), populations.name)
    right = np.stack([levels[name].scores for name in names])
    right = _right(right, threshold, falling or falls, populations.name)
    job = _Order(populations, names, right, resamples, seed)
    learnt = {name: job.learnt(rows) for name, rows in job.groups.items()}
    return LearningOrder(
        populations.name,
        names,
        job.learnt(np.arange(len(populations.ids))),
        dict(sorted(learnt.items(), key=lambda named: named[1].place.value)),
        None if since is None else job.since(since),
        seed,
        f"order|answers:{populations.digest}|steps:{len(names)}|threshold:{threshold}|"
        f"resamples:{resamples}|seed:{seed}|interval:95|pomona:{version('pomona')}",
        job.items(),
    )


def _check(threshold: float | None, *, falling: bool) -> None:
    if threshold is not None and not math.isfinite(threshold):
        remedy = "give the score from which on an item counts as right"
        raise PomonaError(f"is {threshold}", where="threshold", remedy=remedy)
    if falling and threshold is None:
        remedy = "say up to which score an item counts as right"
        raise PomonaError("means nothing without a threshold", where="falling", remedy=remedy)


def _rows(inputs: Where, group: str | None, cluster: str | None) -> tuple[Where | Records, bool]:
    """The rows, where checkpoints are columns one of each for every example; and whether scores
    fall, where that is known.
    """
    records = read_named(inputs, "predictions")
    wide = [name for name in records.column_names if name.startswith(_TRAJECTORY)]
    if "step" in records.column_names or not wide:
        return inputs, False
    asked = [name for name in ("id", "group", "cluster") if name in records.column_names]
    chosen = dict.fromkeys([*asked, *filter(None, (group, cluster)), *wide])
    records = records.complete(*chosen).select(*chosen)
    table = records.to_table()
    if "id" not in asked:
        table = table.append_column("id", pa.array(range(len(table))))
    if group is None and "group" not in asked:
        table = table.append_column("group", pa.array(["all"] * len(table)))
    parts = []
    for name in wide:
        scores = numbers(table[name], "score", name, records)
        one = table.drop_columns(wide).append_column("score", scores)
        step = name.removeprefix(_TRAJECTORY)
        parts.append(one.append_column("step", pa.array([step] * len(table))))
    origin = records, np.tile(np.arange(len(table)), len(parts))
    whole = pa.concat_tables(parts)
    return Records.of(TableSource(whole, str(records.source.where), origin)), True


def _in_order(steps: Sequence[str], name: str) -> list[str]:
    """Steps by the number in each: 100, checkpoint-100, or MODEL@100 and at last MODEL. Raises
    PomonaError where that does not say which comes first.
    """
    found = [_NUMBERED.fullmatch(step) for step in steps]
    bases = {one["text"].removesuffix("@") for one in found if one and one["text"].endswith("@")}
    last = bases if len(bases) == 1 else set()
    places = {
        step: ("", math.inf)
        if step in last
        else (one["text"] + one["rest"], float(one["number"]))
        if one
        else (step, 0.0)
        for step, one in zip(steps, found, strict=True)
    }
    told = {text for step, (text, _) in places.items() if step not in last}
    if len(told) > 1:
        one, other = sorted(told)[:2]
        few = [min(step for step in steps if places[step][0] == text) for text in (one, other)]
        message = f'nothing says which of the steps "{few[0]}" and "{few[1]}" is first'
        raise PomonaError(message, where=name, remedy="give each a number, as in checkpoint-100")
    return sorted(steps, key=lambda step: places[step][1])


def _right(scores: Floats, threshold: float | None, falling: bool, name: str) -> NDArray[np.bool_]:
    if threshold is not None:
        return scores <= threshold if falling else scores >= threshold
    if not np.all((scores == 0) | (scores == 1)):
        message = "scores are neither right nor wrong"
        remedy = "--threshold says from which score on an item counts as right"
        raise PomonaError(message, where=name, remedy=remedy)
    return scores == 1


class _Order:
    """Whether each item was right, `[steps, seeds, n]`, and what follows from that."""

    def __init__(
        self,
        populations: Populations,
        steps: Sequence[str],
        right: NDArray[np.bool_],
        resamples: int,
        seed: int,
    ) -> None:
        self.populations, self.steps, self.right = populations, steps, right
        self.resamples, self.seed = resamples, seed
        self.groups = stats.rows_of(populations.groups.tolist())
        clusters = populations.items.get("cluster")
        self.clusters = None if clusters is None else clusters.astype(object)
        # Right for good from step s on: right at s and at all after it
        self.good = np.logical_and.accumulate(right[::-1])[::-1]
        self.forgotten = np.sum(right[:-1] & ~right[1:], axis=0)
        self.lost = right.any(0) & ~right[-1]

    def learnt(self, rows: NDArray[np.intp]) -> Learning:
        """How the items at `rows` were learnt."""
        good = self.good[:, :, rows]
        half = np.flatnonzero(good.mean((1, 2)) >= 0.5)
        within = None if self.clusters is None else self.clusters[rows]
        draws = stats.Resamples(len(rows), self.resamples, self.seed, within)
        return Learning(
            len(rows),
            self.right[:, :, rows].mean((1, 2)).tolist(),
            self.steps[int(half[0])] if len(half) else None,
            self._estimate(1 - good.mean(0), draws),
            self._estimate(self.forgotten[:, rows], draws),
            self._estimate(self.lost[:, rows], draws),
        )

    def _estimate(self, values: NDArray[Any], draws: stats.Resamples) -> Estimate:
        """The mean of values `[seeds, items]`."""
        each = np.stack([values.astype(np.float64), np.ones(values.shape)], axis=-1)
        mean = float(values.mean())
        if draws.units < 2:
            return Estimate(mean, None, None)
        return Estimate(mean, *stats.interval(_SHARE, each, draws))

    def since(self, step: str) -> Comparison:
        """The last step against an earlier one: which items are right no more."""
        if step not in self.steps[:-1]:
            message, remedy = (
                f'there is no step "{step}" before the last',
                nearest(step, self.steps[:-1]),
            )
            raise PomonaError(message, where="since", remedy=remedy)
        sides = [self._told(at) for at in (self.steps.index(step), len(self.steps) - 1)]
        return compare(*sides, resamples=max(self.resamples, stats.MINIMUM), seed=self.seed)

    def _told(self, at: int) -> pa.Table:
        """Whether items are right at a step, as predictions; of several seeds one item each."""
        seeds, n = self.right.shape[1:]
        ids = [f"{id_}/{seed}" for seed in range(seeds) for id_ in self.populations.ids]
        right = np.where(self.right[at].ravel(), "right", "wrong")
        # Seeds of an item err alike, so that they are resampled together
        shared = self.clusters if self.clusters is not None else np.asarray(self.populations.ids)
        columns = {"id": ids, "group": np.tile(self.populations.groups, seeds)}
        columns |= {"prediction": right, "reference": ["right"] * (seeds * n)}
        if seeds > 1 or self.clusters is not None:
            columns["cluster"] = np.tile(shared, seeds)
        return pa.table(columns).replace_schema_metadata({"pomona.name": f"step {self.steps[at]}"})

    def items(self) -> pa.Table:
        """A row for each item."""
        names = np.array([*self.steps, None], object)
        columns: dict[str, Any] = {"id": self.populations.ids, "group": self.populations.groups}
        for name, reached in (("first", self.right[:, 0]), ("learnt", self.good[:, 0])):
            at = np.where(reached.any(0), reached.argmax(0), len(self.steps))
            columns[name] = pa.array(names[at], pa.string())
        columns["forgotten"] = self.forgotten[0]
        return pa.table(columns)
