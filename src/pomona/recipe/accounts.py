"""From finished steps to the ledger: values, paired intervals, costs and scale-equivalents of every
measurement, per group.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pomona.ledger import Entry, Ladder, Rung, ScaleEquivalent
from pomona.recipe.costs import Costs, Made, less, total
from pomona.recipe.graph import RunFolder, Step
from pomona.recipe.levers.controls import CONTROL
from pomona.recipe.plan import RunPlan
from pomona.recipe.schema import RESAMPLES
from pomona.recipe.steps import Cost
from pomona.recipe.steps.controls import nearest_of, read_neighbours
from pomona.recipe.steps.results import read_statistics, statistics_name
from pomona.recipe.steps.tables import rarest, read_counts, read_items, read_projects
from pomona.recipe.system import Measurement
from pomona.stats import Comparison, Resamples, compare, holm, value_of
from pomona.tasks import Metric


def needed(comparisons: int) -> int:
    """Resamples from which the smallest p-value passes the strictest step of Holm's correction."""
    return 40 * comparisons


class Accounts:
    """Everything that the ledger of a run says by one metric, the task's `place`th; of the
    measurements that are finished, or of all.
    """

    def __init__(
        self,
        plan: RunPlan,
        folder: RunFolder,
        measurements: Sequence[Measurement] | None = None,
        place: int = 0,
    ) -> None:
        self.plan, self.folder, self.place = plan, folder, place
        self.items = read_items(folder.result(plan.items))
        references = self.items.reference_count
        self.metric: Metric = plan.metric(place, references)
        self.costs = Costs(plan, folder, plan.items)
        self.groups = np.array(self.items.groups)
        self.clusters = np.array(self.items.clusters, dtype=object)
        self.measurements = plan.measurements() if measurements is None else measurements
        self.by_variant = {m.variant: m for m in self.measurements}
        self._drawn: dict[bytes, Resamples] = {}  # of the rows that were asked for last

    @cached_property
    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Per-item statistics of every variant, `[seeds, n, k]`."""
        return {
            m.variant: np.stack([self.statistics_of(step) for step in m.answers])
            for m in self.measurements
        }

    def statistics_of(self, step: Step) -> NDArray[np.float64]:
        """Per-item statistics of a step of answers, `[n, k]`."""
        file = self.folder.result(step) / statistics_name(self.place)
        return read_statistics(file, len(self.items))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """A number for every variant, by which its seeds are resampled apart from those of
        others.
        """
        return {m.variant: i for i, m in enumerate(self.measurements)}

    def resampled(
        self, variant: str, rows: NDArray[np.int64], draws: Resamples
    ) -> NDArray[np.float64]:
        """The metric of a variant on some rows in every resample."""
        chosen = self.statistics[variant][:, rows]
        return draws.resampled(self.metric, chosen, self.numbers[variant])

    @cached_property
    def counts(self) -> dict[str, int]:
        """Examples of each test group that could be trained on, from head to tail; test items where
        nothing is named to learn from.
        """
        seen = read_counts(self.folder.result(self.plan.learned or self.plan.items))
        return {g: seen[g] for g in sorted(set(self.items.groups), key=lambda g: (-seen[g], g))}

    @cached_property
    def tail(self) -> set[str]:
        """The groups with the least data; empty when that would leave no head."""
        return set(rarest(self.counts, self.plan.recipe.task.tail))

    @cached_property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Rows of head and tail, warm and cold, near, middle and far, as far as there are any."""
        pairs = [*self._by_size().items(), *self._by_project().items()]
        pairs += self._by_distance().items()
        return {name: np.flatnonzero(rows) for name, rows in pairs if rows.any()}

    @cached_property
    def rows(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the overall set, of its parts, of head and tail among warm and cold, and of each
        group.
        """
        parts = {"overall": np.arange(len(self.items)), **self.parts}
        if {"warm", "cold"} <= set(parts):
            for half in ("warm", "cold"):
                for name in {"head", "tail"} & set(parts):
                    both = np.intersect1d(parts[half], parts[name])
                    parts |= {f"{half} {name}": both} if both.size else {}
        if len(self.counts) > 1:
            parts |= {group: np.flatnonzero(self.groups == group) for group in self.counts}
        return parts

    def _by_size(self) -> dict[str, NDArray[np.bool_]]:
        rare = np.isin(self.groups, sorted(self.tail))
        return {"head": ~rare, "tail": rare} if self.tail else {}

    def _by_project(self) -> dict[str, NDArray[np.bool_]]:
        """Rows by whether the base may have learned from their project."""
        if self.plan.recipe.task.project is None or self.plan.memory is None:
            return {}
        of = read_projects(self.folder.result(self.plan.items))
        known = sorted(set(read_projects(self.folder.result(self.plan.memory)).values()))
        warm = np.isin([of[id_] for id_ in self.items.ids], known)
        return {"warm": warm, "cold": ~warm}

    def _by_distance(self) -> dict[str, NDArray[np.bool_]]:
        """Rows by the similarity of the nearest item that the base may have learned from."""
        if self.plan.memory is None:
            return {}
        asked = self.plan.recipe.controls
        at = self.folder.result(self.plan.neighbours(self.plan.items))
        nearest = nearest_of(read_neighbours(at / "neighbours.parquet", 1))
        far, near = nearest < asked.far, nearest >= asked.near
        return {"near": near, "middle": ~far & ~near, "far": far & ~near}

    def draws(self, rows: NDArray[np.int64]) -> Resamples:
        """The resamples of some rows: of their clusters where the recipe names a column."""
        key = rows.tobytes()
        if key not in self._drawn:
            task, seed = self.plan.recipe.task, self.plan.recipe.seed
            labels = self.clusters[rows] if task.cluster else None
            self._drawn = {key: Resamples(len(rows), self.resamples, seed, labels)}
        return self._drawn[key]

    @cached_property
    def resamples(self) -> int:
        """How many: those that the recipe gives, else as many as the comparisons need."""
        if (given := self.plan.recipe.task.resamples) is not None:
            return given
        many = sum(len({*self.baselines(m)} - {m.variant}) for m in self.measurements
                   if not m.system.bound)  # fmt: skip
        return max(RESAMPLES, -(-needed(many) // 1000) * 1000)

    @property
    def signature(self) -> str:
        """Every choice behind the numbers."""
        recipe = self.plan.recipe
        drawn = f"cluster:{recipe.task.cluster}|" if recipe.task.cluster else ""
        return f"{self.metric.signature}|boot:{self.resamples}|{drawn}holm:group|seed:{recipe.seed}"

    def rungs(self) -> list[Rung]:
        """The ladder by size."""
        rungs = [rung.model for rung in self.plan.recipe.ladder or []]
        sizes = [(uri, self.parameters(uri)) for uri in rungs if uri in self.by_variant]
        sized = [Rung(uri, size) for uri, size in sizes if size is not None]
        return sorted(sized, key=lambda rung: rung.parameters)

    def value(self, variant: str, group: str) -> float:
        """The metric of a variant on a group."""
        return value_of(self.metric, self.statistics[variant][:, self.rows[group]])

    def copying(self) -> dict[str, float]:
        """The metric of each group if the source were the answer, where answers are texts."""
        if not self.plan.reads_texts:
            return {}
        copies = self.statistics_of(self.plan.copies(self.plan.items))
        return {group: value_of(self.metric, copies[rows]) for group, rows in self.rows.items()}

    def parameters(self, variant: str) -> int | None:
        """Weights of a variant's model; None where nobody told."""
        m = self.by_variant[variant]
        if (shape := self.costs.shape(m)) is not None:
            return shape.parameters
        told = self.plan.parameters(m.model) if m.model is not None else None
        return None if told is None else int(told)

    def entries(self, groups: Collection[str] | None = None) -> list[Entry]:
        """Every measurement on every group, or on some, against each of its baselines."""
        made = {m.variant: self.costs.made(m) for m in self.measurements}
        entries: list[Entry] = []
        sizes = {rung.variant: rung.parameters for rung in self.rungs()}
        wanted = {g: rows for g, rows in self.rows.items() if groups is None or g in groups}
        for group, rows in wanted.items():
            draws, measured = self.draws(rows), []
            ladder = self.ladder(rows, draws)
            for m in self.measurements:
                scale = None
                if ladder is not None and m.variant in sizes:
                    ratio = sizes[m.variant] / sizes[self.plan.recipe.base]
                    scale = ScaleEquivalent(ratio, ratio, ratio)
                elif ladder is not None:
                    value = value_of(self.metric, self.statistics[m.variant][:, rows])
                    resampled = self.resampled(m.variant, rows, draws)
                    scale = ladder[0].scale_equivalent(value, resampled, ladder[1])
                known = self.known(m, rows)
                for baseline in self.baselines(m) if known.size else []:
                    compared = self.compared(m, baseline, known)
                    measured.append(self._entry(m, group, baseline, compared, made, scale))
            entries += self._corrected(measured)
        return entries

    def known(self, m: Measurement, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some rows on which a measurement has a value: all of them."""
        return rows

    def compared(self, m: Measurement, baseline: str, rows: NDArray[np.int64]) -> Comparison:
        """A measurement on some rows against another."""
        return compare(
            self.metric,
            self.statistics[m.variant][:, rows],
            self.statistics[baseline][:, rows],
            self.draws(rows),
            systems=(self.numbers[m.variant], self.numbers[baseline]),
        )

    def baselines(self, m: Measurement) -> list[str]:
        """What a measurement is compared with: its own baselines as far as they are there, and the
        strongest control where it is above that.
        """
        own = [name for name in m.baselines if name in self.by_variant]
        control = self._strongest
        if control and m.system.lever not in (CONTROL, "scale") and not m.system.bound:
            ahead = self.value(m.variant, "overall") - self.value(control, "overall")
            if ahead * (1 if self.metric.higher_is_better else -1) > 0:
                own.append(control)
        return own

    @cached_property
    def _strongest(self) -> str | None:
        """The best control on all test items."""
        names = [m.variant for m in self.measurements if m.system.lever == CONTROL]
        sign = 1 if self.metric.higher_is_better else -1
        return max(names, key=lambda name: sign * self.value(name, "overall"), default=None)

    def _corrected(self, entries: list[Entry]) -> list[Entry]:
        """The entries of a group with p-values corrected for their number. The base beside itself
        is no comparison, nor is a bound, which no system reaches.
        """
        bounds = {m.variant for m in self.measurements if m.system.bound}
        tested = [
            i for i, e in enumerate(entries) if e.variant != e.baseline and e.variant not in bounds
        ]
        adjusted = holm(np.array([entries[i].p_value for i in tested], np.float64)).tolist()
        of = dict(zip(tested, adjusted, strict=True))
        return [
            replace(e, p_holm=of.get(i), p_value=e.p_value if i in of else None)
            for i, e in enumerate(entries)
        ]

    def _entry(
        self,
        m: Measurement,
        group: str,
        baseline: str,
        compared: Comparison,
        made: dict[str, Made],
        scale: ScaleEquivalent | None,
    ) -> Entry:
        recipe = self.plan.recipe
        beyond = made[baseline].once if baseline != recipe.base else Cost(money=0.0)
        mine = made[m.variant]
        each = mine.serving
        return Entry(
            lever=m.system.lever,
            variant=m.variant,
            metric=self.metric.name,
            group=group,
            baseline=baseline,
            value=compared.value,
            delta=compared.delta,
            ci_low=compared.ci_low,
            ci_high=compared.ci_high,
            n=compared.n,
            flops_once=less(mine.once.flops, beyond.flops),
            flops_per_item=each.flops_per_item,
            tokens=less(mine.once.tokens, beyond.tokens),
            seconds=total(
                [less(mine.once.cpu_seconds, beyond.cpu_seconds), mine.answering_seconds]
            ),
            scale_equivalent=scale,
            seed=recipe.seed,
            seeds=len(self.statistics[m.variant]),
            signature=self.signature,
            p_value=compared.p_value,
            bytes=mine.bytes,
            money_once=less(mine.once.money, beyond.money),
            money_per_item=each.money_per_item,
            tokens_per_item=each.tokens_per_item,
            seconds_once=less(mine.once.cpu_seconds, beyond.cpu_seconds),
            seconds_per_item=each.seconds_per_item,
            optimised=self.is_optimised(m),
        )

    def is_optimised(self, m: Measurement) -> bool:
        """Whether a system chooses by this metric."""
        return m.system.judge == self.plan.metrics[self.place]

    def ladder(self, rows: NDArray[np.int64], draws: Resamples) -> tuple[Ladder, int] | None:
        """The sizes on some rows, and the place of the base among them; None for fewer than two."""
        rungs = self.rungs()
        names = [rung.variant for rung in rungs]
        if len(rungs) < 2 or self.plan.recipe.base not in names:
            return None
        values = [value_of(self.metric, self.statistics[name][:, rows]) for name in names]
        resampled = np.stack([self.resampled(name, rows, draws) for name in names])
        sizes = np.array([rung.parameters for rung in rungs], np.float64)
        ladder = Ladder(sizes, np.array(values), resampled, self.metric.higher_is_better)
        return ladder, names.index(self.plan.recipe.base)
