"""From finished steps to the ledger: values, paired intervals, costs and scale-equivalents of every
measurement, per group.
"""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.ledger import Entry, GroupCount, Ladder, Ledger, Meta, Rung, ScaleEquivalent
from pomona.recipe.costs import Costs, Made, less, total
from pomona.recipe.graph import RunFolder, Step, ancestors
from pomona.recipe.plan import Measurement, RunPlan
from pomona.recipe.steps import Cost
from pomona.recipe.steps.controls import Search, nearest_of, read_neighbours
from pomona.recipe.steps.results import read_result, read_statistics
from pomona.recipe.steps.tables import rarest, read_counts, read_items
from pomona.stats import Comparison, Resamples, compare, holm, value_of
from pomona.tasks import Metric, metric

VERSIONS = ("pomona", "torch", "transformers", "tokenizers", "numpy", "pyarrow")


class Accounts:
    """Everything the ledger of one finished run is computed from."""

    def __init__(self, plan: RunPlan, folder: RunFolder) -> None:
        self.plan, self.folder = plan, folder
        self.metric: Metric = metric(plan.recipe.task.metric)
        self.items = read_items(folder.result(plan.items))
        self.costs = Costs(plan, folder, plan.items)
        self.groups = np.array(self.items.groups)
        self.clusters = np.array(self.items.clusters, dtype=object)
        self.measurements = plan.measurements()
        self.by_variant = {m.variant: m for m in self.measurements}

    @cached_property
    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Per-item statistics of every variant, `[seeds, n, k]`."""
        return {
            m.variant: np.stack([self._statistics(step) for step in m.answers])
            for m in self.measurements
        }

    def _statistics(self, step: Step) -> NDArray[np.float64]:
        return read_statistics(self.folder.result(step) / "statistics.npy", len(self.items))

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

    def rows(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the overall set, head, tail, near, middle, far and each group."""
        parts = {"overall": np.arange(len(self.items))}
        if self.tail:
            rare = np.isin(self.groups, sorted(self.tail))
            parts |= {"head": np.flatnonzero(~rare), "tail": np.flatnonzero(rare)}
        parts |= {name: rows for name, rows in self._by_distance().items() if rows.size}
        if len(self.counts) > 1:
            parts |= {group: np.flatnonzero(self.groups == group) for group in self.counts}
        return parts

    def _by_distance(self) -> dict[str, NDArray[np.int64]]:
        """Rows by the similarity of the nearest item that the base may have learned from."""
        if self.plan.memory is None:
            return {}
        at, asked = (
            self.folder.result(self.plan.neighbours(self.plan.items)),
            self.plan.recipe.controls,
        )
        nearest = nearest_of(read_neighbours(at / "neighbours.parquet", 1))
        far, near = nearest < asked.far, nearest >= asked.near
        parts = {"near": near, "middle": ~far & ~near, "far": far & ~near}
        return {name: np.flatnonzero(rows) for name, rows in parts.items()}

    def draws(self, rows: NDArray[np.int64]) -> Resamples:
        """The resamples of some rows: of their clusters where the recipe names a column."""
        task, seed = self.plan.recipe.task, self.plan.recipe.seed
        labels = self.clusters[rows] if task.cluster else None
        return Resamples(len(rows), task.resamples, seed, labels)

    @property
    def signature(self) -> str:
        """Every choice behind the numbers."""
        recipe = self.plan.recipe
        drawn = f"cluster:{recipe.task.cluster}|" if recipe.task.cluster else ""
        return (
            f"{self.metric.signature}|boot:{recipe.task.resamples}|{drawn}"
            f"holm:group|seed:{recipe.seed}"
        )

    def rungs(self) -> list[Rung]:
        """The ladder by size."""
        sized = [Rung(r.model, self.parameters(r.model)) for r in self.plan.recipe.ladder or []]
        return sorted(sized, key=lambda rung: rung.parameters)

    def copying(self) -> dict[str, float]:
        """The metric of each group if the source were the answer."""
        copies = self._statistics(self.plan.copies(self.plan.items))
        return {group: value_of(self.metric, copies[rows]) for group, rows in self.rows().items()}

    def parameters(self, variant: str) -> int:
        """Weights of a variant's model."""
        return self.costs.shape(self.by_variant[variant]).parameters

    def entries(self) -> list[Entry]:
        """Every measurement on every group against each of its baselines."""
        made = {m.variant: self.costs.made(m) for m in self.measurements}
        entries: list[Entry] = []
        sizes = {rung.variant: rung.parameters for rung in self.rungs()}
        for group, rows in self.rows().items():
            draws, measured = self.draws(rows), []
            ladder = self._ladder(rows, draws)
            for m in self.measurements:
                scale = None
                if ladder is not None and m.variant in sizes:
                    ratio = sizes[m.variant] / sizes[self.plan.recipe.base]
                    scale = ScaleEquivalent(ratio, ratio, ratio)
                elif ladder is not None:
                    value = value_of(self.metric, self.statistics[m.variant][:, rows])
                    resampled = self.resampled(m.variant, rows, draws)
                    scale = ladder[0].scale_equivalent(value, resampled, ladder[1])
                for baseline in m.baselines:
                    compared = compare(
                        self.metric,
                        self.statistics[m.variant][:, rows],
                        self.statistics[baseline][:, rows],
                        draws,
                        systems=(self.numbers[m.variant], self.numbers[baseline]),
                    )
                    measured.append(self._entry(m, group, baseline, compared, made, scale))
            entries += self._corrected(measured)
        return entries

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
            optimised=m.system.judge == self.metric.name,
            money_once=less(mine.once.money, beyond.money),
            money_per_item=each.money_per_item,
            tokens_per_item=each.tokens_per_item,
            seconds_once=less(mine.once.cpu_seconds, beyond.cpu_seconds),
            seconds_per_item=each.seconds_per_item,
        )

    def _ladder(self, rows: NDArray[np.int64], draws: Resamples) -> tuple[Ladder, int] | None:
        rungs = self.rungs()
        names = [rung.variant for rung in rungs]
        if len(rungs) < 2 or self.plan.recipe.base not in names:
            return None
        values = [value_of(self.metric, self.statistics[name][:, rows]) for name in names]
        resampled = np.stack([self.resampled(name, rows, draws) for name in names])
        sizes = np.array([rung.parameters for rung in rungs], np.float64)
        ladder = Ladder(sizes, np.array(values), resampled, self.metric.higher_is_better)
        return ladder, names.index(self.plan.recipe.base)


def build_ledger(plan: RunPlan, folder: RunFolder) -> Ledger:
    """The ledger of a run whose steps are all finished."""
    accounts, recipe = Accounts(plan, folder), plan.recipe
    counts, counted = accounts.counts.items(), plan.learned is not None
    entries = accounts.entries()
    meta = Meta(
        name=recipe.name,
        metric=accounts.metric.name,
        higher_is_better=accounts.metric.higher_is_better,
        base=recipe.base,
        base_parameters=accounts.parameters(recipe.base),
        serve_items=recipe.serve_items,
        seed=recipe.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        groups=[
            GroupCount(g, n if counted else None, g in accounts.tail, None if counted else n)
            for g, n in counts
        ],
        rungs=accounts.rungs(),
        versions={"python": platform.python_version()} | {name: version(name) for name in VERSIONS},
        bounds=[m.variant for m in accounts.measurements if m.system.bound],
        notes=_notes(accounts, max(entry.seeds for entry in entries)),
        copying=accounts.copying(),
        warnings=_warnings(accounts, entries),
    )
    return Ledger(meta, entries)


def _notes(accounts: Accounts, seeds: int) -> list[str]:
    column = accounts.plan.recipe.task.cluster
    drawn = "test items"
    if column:
        number = len(set(accounts.items.clusters))
        drawn += f" in clusters, the {number:,} values of {column}"
    covered = (
        f"Intervals resample {drawn}; they do not cover training again with another seed."
        if seeds == 1
        else f"Intervals resample {drawn} and, for what is fine-tuned, its {seeds} training seeds."
    )
    dtypes = {dtype for dtype in trained_in(accounts.plan, accounts.folder).values() if dtype}
    trained = [f"Training computed in {' and '.join(sorted(dtypes))}."] if dtypes else []
    told = [covered, _tail_note(accounts), _distance_note(accounts)]
    return [*told, *_alike(accounts), *trained]


def _distance_note(accounts: Accounts) -> str:
    asked = accounts.plan.recipe.controls
    if accounts.plan.memory is None:
        return (
            "The recipe names no training rows, so that nothing is looked up and no item is near "
            "or far: name them under `controls`."
        )
    return (
        f"Items are near where the similarity of the nearest training item of their group is at "
        f"least {asked.near:g}, and far where it is below {asked.far:g}: the cosine of TF-IDF "
        "weights of character n-grams, 2 to 5. A consensus answers by copying where it is far."
    )


def _warnings(accounts: Accounts, entries: list[Entry]) -> list[str]:
    """What makes the numbers of this ledger worth less than they look."""
    recipe, items = accounts.plan.recipe, accounts.items
    told, often = [], Counter(items.sources)
    shared = sum(n for n in often.values() if n > 1)
    if shared and not recipe.task.cluster:
        told.append(
            f"{shared:,} of {len(items):,} test items share their source with others "
            f"({len(often):,} distinct ones), so that intervals over items are too narrow: name "
            "the column that they share as `cluster` of the task."
        )
    if accounts.plan.memory is not None:
        found = accounts.folder.result(accounts.plan.neighbours(accounts.plan.items))
        if known := read_result(found / "search.json", Search).known:
            told.append(
                f"{known:,} of {len(items):,} test items are among the training items, prompt and "
                "completion: give the test rows a split of their own."
            )
    single = [g for g, rows in accounts.rows().items() if len(set(accounts.clusters[rows])) < 2]
    if single:
        told.append(
            f"Nothing is known of the error in {', '.join(single)}: there is one "
            f"{'cluster' if recipe.task.cluster else 'item'}, and intervals have no width."
        )
    many = max(Counter(e.group for e in entries if e.p_holm is not None).values(), default=0)
    needed = 40 * many  # resamples from which the smallest p-value passes the strictest step
    if needed > recipe.task.resamples:
        told.append(
            f"{many} comparisons with {recipe.task.resamples:,} resamples cannot be significant "
            f"after Holm's correction: give the task at least {needed:,} `resamples`."
        )
    return told


def _alike(accounts: Accounts) -> list[str]:
    """Variants of which no item tells one from another, such as all data and what is left by a
    deduplication that removes nothing.
    """
    names: dict[bytes, list[str]] = {}
    for variant, statistics in accounts.statistics.items():
        names.setdefault(statistics.tobytes(), []).append(variant)
    return [
        f"No item tells these apart, so that they are one result: {', '.join(same)}."
        for same in names.values()
        if len(same) > 1
    ]


def trained_in(plan: RunPlan, folder: RunFolder) -> dict[str, str | None]:
    """What the matrix products of each training step were computed in."""
    found = {}
    for step in ancestors(plan.targets):
        path = folder.result(step) / "model" / "training.json"
        if path.is_file():
            found[step.name] = read_result(path, dict[str, Any]).get("dtype")
    return found


def _tail_note(accounts: Accounts) -> str:
    """Which groups are the tail, and by what."""
    plan, tail = accounts.plan, sorted(accounts.tail)
    asked = plan.recipe.task.tail
    by = "training examples" if plan.learned else "test items (nothing is trained here)"
    if tail:
        tied = f", {len(tail)} because of ties" if len(tail) != asked else ""
        return f"Tail, the groups with the fewest {by}{tied}: {', '.join(tail)}."
    if 0 < asked < len(accounts.counts):
        return f"No groups are shown as tail: they tie in {by}."
    return "No groups are shown as tail."
