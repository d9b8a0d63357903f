"""The mirror of forgetting: what each larger size buys, for whom, and how unevenly the gain lies
over the items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona import stats
from pomona.errors import PomonaError
from pomona.forget.auditing import audit
from pomona.forget.predictions import Predictions, read_trainings
from pomona.records import Where
from pomona.tasks import Metric, metric as metric_named

# Columns that count where a table has them; of the first two values the gains are compared.
PARTS: dict[str, tuple[str, ...]] = {
    "resource": ("head", "tail"),
    "distance": ("near", "far", "middle"),
    "familiarity": ("warm", "cold"),
}
UNITS = {
    "other_answers": "shares of items, 0 to 1; see pomona.forget.audit",
    "gain": "mean over items of the metric of the larger size minus that of the smaller one",
    "half_share": "smallest share of items that holds half of all gains; losses are not taken off",
    "gini": "0: all items gain the same; 1: one has all gains and one all losses (Raffinetti 2015)",
    "losses": "sum of all losses of items over the sum of all gains",
    "share_of_gain": "of the sum of all items' gains, losses taken off; null where that is not > 0",
}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; ends are None where nothing is known of the error, and so is
    the value where it is not defined.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class PartGain:
    """What n items of a part gain, and how much of the whole gain theirs is."""

    n: int
    gain: Estimate
    better: int
    worse: int
    share_of_items: float
    share_of_gain: float | None


@dataclass(frozen=True)
class OtherAnswers:
    """How many items two sizes answer otherwise: the share of items whose modal answer differs
    between `half` trainings of each, `floor` where both are trainings of the smaller size, and the
    excess with its interval and the p-value of shuffled sizes. See `pomona.forget.audit`.
    """

    half: int
    share: float
    floor: float
    excess: Estimate
    p_value: float | None


@dataclass(frozen=True)
class SizeStep:
    """From one size to a larger one. `better` and `worse` count items whose metric rises and falls,
    in its own direction.

    half_share, gini, losses: how unevenly the gain lies, see `UNITS`.
    groups, parts: gains by the values of the group column, and of the columns of `PARTS`.
    contrasts: the gain of head minus that of the tail, and of near minus far, warm minus cold.
    other_answers: above the floor; None where a size was trained once, which has no floor, and
        where items have several references.
    """

    smaller: str
    larger: str
    value_smaller: float
    value_larger: float
    gain: Estimate
    better: int
    worse: int
    half_share: Estimate
    gini: Estimate
    losses: Estimate
    groups: Mapping[str, PartGain]
    parts: Mapping[str, Mapping[str, PartGain]]
    contrasts: Mapping[str, Estimate]
    other_answers: OtherAnswers | None = None


@dataclass(frozen=True)
class Mirror:
    """What sizes buy: a step between each two neighbours, and `whole` from the smallest to the
    largest. Positive is better. `items`, a `pyarrow.Table`, has each item's gain in each step.
    """

    sizes: Sequence[str]
    n: int
    metric: str
    steps: Sequence[SizeStep]
    whole: SizeStep
    signature: str
    seed: int
    notes: Sequence[str]
    items: Any

    def to_json(self) -> dict[str, Any]:
        """All but the items, as JSON has it."""
        told = {"sizes": list(self.sizes), "n": self.n, "metric": self.metric}
        told |= {"steps": [asdict(step) for step in self.steps], "whole": asdict(self.whole)}
        told |= {"seed": self.seed, "signature": self.signature}
        return {**told, "notes": list(self.notes), "units": UNITS}

    def to_table(self) -> pa.Table:
        """A row for each step and each part of the items, of all items first."""
        rows = []
        for step in (*self.steps, self.whole):
            every = PartGain(self.n, step.gain, step.better, step.worse, 1.0, 1.0)
            named = [("all", "all", every), *(("group", k, v) for k, v in step.groups.items())]
            named += [(c, k, v) for c, parts in step.parts.items() for k, v in parts.items()]
            for column, name, part in named:
                told = {key: value for key, value in asdict(part).items() if key != "gain"}
                told |= {"gain": part.gain.value, "low": part.gain.low, "high": part.gain.high}
                about = {"smaller": step.smaller, "larger": step.larger}
                rows.append({**about, "column": column, "part": name, **told})
        return pa.Table.from_pylist(rows)


def ladder(
    sides: Sequence[Where],
    *,
    names: Sequence[str] | None = None,
    group: str | None = None,
    cluster: str | None = None,
    metric: str | Mapping[str, Any] = "exact_match",
    resamples: int = 2000,
    seed: int = 0,
) -> Mirror:
    """Say what scale buys, and for whom: the gain of each item from each size to the next.

    Sizes are tables as `compare` takes them, the smallest first. Columns called resource, distance
    and familiarity (head and tail; near, middle and far; warm and cold) are parts of the items;
    with a column seed, an item's value is the mean over the trainings.

    Args:
        sides: Answers of each size, the smallest first; on the command line also a finished run,
            for its ladder.
        names: Names of the sizes, in that order.
        group: Column of groups, as `compare` takes it.
        cluster: Column of what items share, as `compare` takes it.
        metric: What is gained, item by item.
        resamples: Resamples behind each interval.
        seed: Seed of the resamples.

    Raises:
        PomonaError: there are fewer than two sizes, one cannot be read, or they are not of the same
            items.
    """
    if isinstance(sides, str) or len(sides) < 2:
        remedy = "give answers of two sizes or more, the smallest first"
        raise PomonaError("there is nothing to compare sizes with", where="sides", remedy=remedy)
    if names is not None and len(names) != len(sides):
        message = f"{len(names)} names for {len(sides)} sizes"
        raise PomonaError(message, where="names", remedy="name each size")
    if names is not None and len(set(names)) < len(names):
        raise PomonaError("two sizes have one name", where="names", remedy="name each otherwise")
    read = [
        read_trainings(side, f"size {place}", group=group, cluster=cluster, labels=tuple(PARTS))
        for place, side in enumerate(sides, 1)
    ]
    first = read[0][0]
    read = [[one.ordered_like(first) for one in trainings] for trainings in read]
    told = [trainings[0].name for trainings in read] if names is None else list(names)
    return _Sizes(told, read, metric, resamples, seed).mirror()


class _Contrast:
    """The ratio of the first two statistics minus that of the others."""

    def aggregate(self, sums: Floats) -> Floats:
        """The difference of two quotients of sums."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]


class _Sizes:
    """All sizes on the same items: the metric of each item at each size."""

    def __init__(
        self,
        names: Sequence[str],
        read: Sequence[Sequence[Predictions]],
        metric: str | Mapping[str, Any],
        resamples: int,
        seed: int,
    ) -> None:
        self.names, self.first = list(names), read[0][0]
        references = self.first.references
        numbers = {1 if isinstance(one, str) else len(one) for one in references}
        several = numbers.pop() if len(numbers) == 1 else None
        self.metric: Metric = metric_named(metric, references=several, reads="text")
        self.seeds = [len(trainings) for trainings in read]
        self.read, self.labels = read, self.first.labels
        self.statistics = [
            np.mean([self.metric.statistics(one.predictions, references) for one in each], axis=0)
            for each in read
        ]
        sign = 1 if self.metric.higher_is_better else -1
        self.values = [sign * self.metric.aggregate(each) for each in self.statistics]
        self.resamples, self.seed = resamples, seed
        clusters = self.labels.get("cluster")
        self.clusters = None if clusters is None else np.asarray(clusters, dtype=object)

    @cached_property
    def draws(self) -> stats.Resamples:
        """Resamples of all items."""
        return stats.Resamples(len(self.first), self.resamples, self.seed, self.clusters)

    def mirror(self) -> Mirror:
        """Every step, and the whole."""
        last = len(self.names) - 1
        steps = [self._step(i, j) for i, j in pairwise(range(last + 1))]
        whole = steps[0] if last == 1 else self._step(0, last)
        columns: dict[str, Any] = {"id": self.first.ids}
        columns |= {n: self.labels[n] for n in ("group", *PARTS) if n in self.labels}
        for i, j in pairwise(range(last + 1)):
            columns[f"{self.names[i]} to {self.names[j]}"] = self.values[j] - self.values[i]
        items, notes = pa.table(list(columns.values()), names=list(columns)), self._notes()
        about = (self.metric.name, steps, whole, self.signature, self.seed, notes, items)
        return Mirror(self.names, len(self.first), *about)

    def _step(self, i: int, j: int) -> SizeStep:
        gains = self.values[j] - self.values[i]
        every = np.arange(len(gains))
        whole = self._part(gains, every, self.draws)
        half, gini, losses = self._uneven(gains)
        labelled = {name: self.labels[name] for name in ("group", *PARTS) if name in self.labels}
        parts = {
            name: {
                value: self._part(gains, rows, self._draws(rows))
                for value, rows in stats.rows_of(column).items()
            }
            for name, column in labelled.items()
        }
        smaller, larger = (float(self.metric.aggregate(self.statistics[k].sum(0))) for k in (i, j))
        return SizeStep(
            self.names[i],
            self.names[j],
            smaller,
            larger,
            whole.gain,
            whole.better,
            whole.worse,
            half,
            gini,
            losses,
            parts.pop("group", {}),
            parts,
            self._contrasts(gains),
            self._other_answers(i, j),
        )

    def _other_answers(self, i: int, j: int) -> OtherAnswers | None:
        trainings = min(self.seeds[i], self.seeds[j])
        if trainings < 2 or not all(isinstance(one, str) for one in self.first.references):
            return None
        labels = {n: self.labels[n] for n in ("group", "cluster") if n in self.labels}
        tables = []
        for level, k in enumerate((i, j)):
            for place, one in enumerate(self.read[k]):
                # No two have a seed in common: a size is not made of another one.
                about = {"level": [str(level)], "seed": [f"{level}-{place}"]}
                columns = {name: value * len(one) for name, value in about.items()}
                columns |= {"id": one.ids, "prediction": one.predictions, **labels}
                tables.append(pa.table({**columns, "reference": one.references}))
        found = audit(pa.concat_tables(tables), dense="0", seeds=trainings, seed=self.seed)
        level = found.levels[0]
        told = level.overall
        if told.at is None or told.floor is None:
            return None
        excess = Estimate(told.excess, told.excess_low, told.excess_high)
        return OtherAnswers(level.half, told.at, told.floor, excess, told.p_excess)

    def _draws(self, rows: NDArray[np.intp]) -> stats.Resamples:
        within = None if self.clusters is None else self.clusters[rows]
        return stats.Resamples(len(rows), self.resamples, self.seed, within)

    def _part(self, gains: Floats, rows: NDArray[np.intp], draws: stats.Resamples) -> PartGain:
        mine, total = gains[rows], float(gains.sum())
        pairs = np.column_stack([mine, np.ones(len(mine))])
        ends = stats.interval(stats.Share(), pairs, draws) if draws.units > 1 else (None, None)
        return PartGain(
            len(mine),
            Estimate(float(mine.mean()), *ends),
            int((mine > 0).sum()),
            int((mine < 0).sum()),
            len(mine) / len(gains),
            float(mine.sum()) / total if total > 0 else None,
        )

    def _uneven(self, gains: Floats) -> tuple[Estimate, Estimate, Estimate]:
        """The share that holds half, Gini's coefficient, and losses over gains."""
        up, down = np.maximum(gains, 0), np.maximum(-gains, 0)
        figures = [[stats.half_share(gains, c), stats.gini(gains, c)] for c in self.draws.counts()]
        drawn = [np.concatenate(part) for part in zip(*figures, strict=True)]
        both = np.column_stack([down, up])
        values = [stats.half_share(gains)[0], stats.gini(gains)[0]]
        with np.errstate(invalid="ignore", divide="ignore"):  # where nothing is gained
            drawn.append(self.draws.resampled(stats.Share(), both))
            values.append(stats.Share().aggregate(both.sum(0)))
        half, gini, losses = map(self._estimate, values, drawn)
        return half, gini, losses

    def _estimate(self, value: float, drawn: Floats) -> Estimate:
        """A value with its interval; the ends are None where some resamples have none."""
        if not np.isfinite(value):
            return Estimate(None)
        if self.draws.units < 2 or not np.isfinite(drawn).all():
            return Estimate(float(value))
        return Estimate(float(value), *stats.percentiles(drawn, self.draws))

    def _contrasts(self, gains: Floats) -> dict[str, Estimate]:
        """Head minus tail and the like: parts of the same resamples of all items."""
        found = {}
        for name, (one, other, *_) in PARTS.items():
            column = np.asarray(self.labels.get(name, []), dtype=object)
            first, second = column == one, column == other
            if not (first.any() and second.any()):
                continue
            sums = np.column_stack([gains * first, first, gains * second, second]).astype(float)
            drawn = self.draws.resampled(_Contrast(), sums)
            value = float(_Contrast().aggregate(sums.sum(0)))
            found[f"{one} - {other}"] = self._estimate(value, drawn)
        return found

    @property
    def signature(self) -> str:
        """All that the numbers depend on."""
        digests = ["+".join(one.digest for one in each) for each in self.read]
        parts = [
            "ladder",
            *(f"size:{digest}" for digest in digests),
            f"metric:{self.metric.signature}",
            f"cluster:{'yes' if self.clusters is not None else 'no'}",
            f"resamples:{self.resamples}|seed:{self.seed}|interval:95",
            f"pomona:{version('pomona')}",
        ]
        return "|".join(parts)

    def _notes(self) -> list[str]:
        notes = []
        if max(self.seeds) > 1:
            trained = ", ".join(f"{n} {k}" for n, k in zip(self.names, self.seeds, strict=True))
            notes.append(f"Values are means over trainings ({trained}); intervals are over items.")
        else:
            notes.append("One training a size: intervals do not cover training again.")
        if self.clusters is not None:
            number = len(set(self.clusters))
            notes.append(
                f"Intervals resample {number:,} clusters of the {len(self.first):,} items."
            )
        return notes
