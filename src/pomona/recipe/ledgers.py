"""The ledger of a run: its entries by every metric, and the header that says what they were
measured on and what makes them worth less; while the run works, of what is measured so far.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pomona.errors import quantity
from pomona.ledger import (
    Answered,
    Entry,
    Examples,
    Exchange,
    GroupCount,
    Ledger,
    Meta,
    Teaching,
    choose_examples,
)
from pomona.pages import amount, flops
from pomona.recipe.accounts import Accounts, needed
from pomona.recipe.graph import RunFolder, ancestors
from pomona.recipe.levers.controls import CONTROL
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.answering import About
from pomona.recipe.steps.controls import Search
from pomona.recipe.steps.results import read_result, read_rows
from pomona.recipe.system import Measurement
from pomona.recipe.winning import Wins

VERSIONS = ("pomona", "torch", "transformers", "tokenizers", "numpy", "pyarrow")
PARTS = ("overall", "warm", "cold", "head", "tail", "warm tail", "near", "middle", "far")


def build_ledger(plan: RunPlan, folder: RunFolder) -> Ledger:
    """The ledger of a run whose steps are all finished."""
    every = [Accounts(plan, folder, place=place) for place in range(len(plan.metrics))]
    wins = Wins(plan, folder) if plan.recipe.task.win_rate else None
    every += [wins] if wins else []
    entries = [entry for accounts in every for entry in accounts.entries()]
    header, more = _header(every, entries), wins.notes() if wins else []
    taught = [every[0].costs.teaching(m) for m in every[0].measurements]
    teaching = [told for told in taught if told is not None]
    notes = [*header.notes, *plan.notes, *map(_teaching_note, teaching), *more]
    header = replace(header, exchange=_exchange(every[0], entries), teaching=teaching, notes=notes)
    return Ledger(header, entries)


def partial_ledger(plan: RunPlan, folder: RunFolder, done: Sequence[Measurement]) -> Ledger:
    """The ledger of what is measured so far, the base among it: by the first metric and on the
    parts of the test items, not on each group.
    """
    accounts = Accounts(plan, folder, done)
    entries = accounts.entries(PARTS)
    names = {m.variant for m in done}
    pending = [m.variant for m in plan.measurements() if m.variant not in names]
    return Ledger(_header([accounts], entries, pending), entries)


class Told:
    """What a run has measured, told and written into its page as soon as it is there. A page is
    written again only when a tenth of the time at most goes into that.
    """

    def __init__(
        self, plan: RunPlan, folder: RunFolder, tell: Callable[[Entry, bool], None]
    ) -> None:
        self.plan, self.folder, self.tell = plan, folder, tell
        self.done: dict[str, Measurement] = {}
        self._next = 0.0

    def update(self) -> None:
        """Look at what is finished; nothing is told before the base is, and what every entry
        needs.
        """
        new = [m for m in self.plan.measurements() if m.variant not in self.done and self._is(m)]
        needed = all(map(self.folder.done, self.plan.needed))
        base = self.plan.recipe.base
        if not new or not needed or base not in {*self.done, *(m.variant for m in new)}:
            return
        self.done |= {m.variant: m for m in new}
        for m in new:
            of = Accounts(self.plan, self.folder, [self.done[base], *([m] * (m.variant != base))])
            entries = of.entries(["overall"])
            entry = next(entry for entry in entries if entry.variant == m.variant)
            self.tell(entry, of.metric.higher_is_better)
        if (began := time.monotonic()) >= self._next:
            self._publish()
            self._next = time.monotonic() + 10 * (time.monotonic() - began)

    def _is(self, m: Measurement) -> bool:
        return all(map(self.folder.done, m.answers))

    def _publish(self) -> None:
        from pomona.ledger.report import publish

        ledger = partial_ledger(self.plan, self.folder, list(self.done.values()))
        if ledger.meta.pending:
            publish(ledger, self.folder.root)


def examples(plan: RunPlan, folder: RunFolder) -> Examples:
    """Some items with the answers of the base, of the best system and of the best control."""
    accounts = Accounts(plan, folder)
    items = accounts.items
    return choose_examples(
        {role: _answered(accounts, name) for role, name in _roles(accounts).items()},
        metric=accounts.metric.name,
        ids=items.ids,
        groups=items.groups,
        inputs=items.sources,
        references=[[one] if isinstance(one, str) else one for one in items.references],
        parts=accounts.parts,
        seed=plan.recipe.seed,
        higher_is_better=accounts.metric.higher_is_better,
    )


def _roles(accounts: Accounts) -> dict[str, str]:
    """The base, the best system of the levers and the best control, as far as there are any: on all
    items, or on the warm ones where some are cold, as the report has it.
    """
    sign = 1 if accounts.metric.higher_is_better else -1
    part = "warm" if "warm" in accounts.rows else "overall"
    values = {m.variant: sign * accounts.value(m.variant, part) for m in accounts.measurements}
    roles = {"base": accounts.plan.recipe.base}
    of = {m.variant: m.system for m in accounts.measurements if not m.system.bound}
    controls = [name for name, system in of.items() if system.lever == CONTROL]
    levers = [name for name, system in of.items() if system.lever not in (CONTROL, "scale")]
    for role, names in (("best", levers), ("control", controls)):
        if names:
            roles[role] = max(names, key=values.__getitem__)
    return roles


def _exchange(accounts: Accounts, entries: Sequence[Entry]) -> list[Exchange]:
    """What the best system of the levers costs whom: how many items it answers better and worse
    than the base, and its gain. Nothing where there is no lever.
    """
    best, base = _roles(accounts).get("best"), accounts.plan.recipe.base
    if best is None:
        return []
    sign = 1 if accounts.metric.higher_is_better else -1
    ours, its = (accounts.metric.aggregate(accounts.statistics[v].mean(0)) for v in (best, base))
    found = {
        e.group: e
        for e in entries
        if (e.variant, e.baseline, e.metric) == (best, base, accounts.metric.name)
    }
    exchanges = []
    for part in ("overall", "tail", "far", "cold"):
        if part not in accounts.rows or part not in found:
            continue
        rows, entry = accounts.rows[part], found[part]
        better, worse = (
            (sign * ours[rows] > sign * its[rows]),
            (sign * ours[rows] < sign * its[rows]),
        )
        low, high = sorted((sign * entry.ci_low, sign * entry.ci_high))
        counts = (len(rows), int(better.sum()), int(worse.sum()))
        exchanges.append(Exchange(best, part, *counts, sign * entry.delta, low, high))
    return exchanges


def _teaching_note(told: Teaching) -> str:
    """What teachers cost, in words."""
    parts = [
        f"{flops(told.flops_marginal)} FLOPs",
        f"{flops(told.flops_full)} with the teachers' own training, which the entries count",
    ]
    if told.program_seconds:
        parts.append(f"{amount(told.program_seconds)} CPU seconds of programs")
    if told.money:
        parts.append(f"{amount(told.money)} paid to servers")
    return (
        f"{told.variant} learned from {told.rows:,} of {told.answers:,} answers of teachers, which "
        f"cost {'; '.join(parts)}."
    )


def _answered(accounts: Accounts, variant: str) -> Answered:
    step = accounts.by_variant[variant].answers[0]
    rows = read_rows(accounts.folder.result(step) / "answers.parquet", "id", "answer")
    given = dict(zip(rows["id"].to_pylist(), rows["answer"].to_pylist(), strict=True))
    scores = accounts.metric.aggregate(accounts.statistics[variant][0]).tolist()
    return Answered(variant, [given[id_] for id_ in accounts.items.ids], scores)


def _header(every: Sequence[Accounts], entries: list[Entry], pending: Sequence[str] = ()) -> Meta:
    accounts, recipe = every[0], every[0].plan.recipe
    counted = accounts.plan.learned is not None
    others = {each.metric.name: each.metric.higher_is_better for each in every[1:]}
    versions = {name: told for name in VERSIONS if (told := _version(name))}
    return Meta(
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
            for g, n in accounts.counts.items()
        ],
        rungs=accounts.rungs(),
        versions={"python": platform.python_version()} | versions,
        bounds=[m.variant for m in accounts.measurements if m.system.bound],
        notes=[] if pending else _notes(accounts, max(entry.seeds for entry in entries)),
        copying={} if pending else accounts.copying(),
        warnings=[] if pending else _warnings(accounts, entries),
        higher=others,
        pending=list(pending),
    )


def _version(package: str) -> str | None:
    """That of a package; None where it is not installed, as torch where servers answer."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
    return [*told, *_project_note(accounts), *_alike(accounts), *trained]


def _project_note(accounts: Accounts) -> list[str]:
    column = accounts.plan.recipe.task.project
    if column is None or "cold" not in accounts.rows:
        return []
    return [
        f"Cold items are of a {column} that nothing was learned from by the rows which the recipe "
        "names; warm ones are the others."
    ]


def _distance_note(accounts: Accounts) -> str:
    asked = accounts.plan.recipe.controls
    if accounts.plan.memory is None:
        return (
            "The recipe names no training rows, so that nothing is looked up and no item is near "
            "or far: name them under `controls`."
        )
    return (
        "Items are near where the similarity of the nearest training item of their group is at "
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
            f"({quantity(len(often), 'distinct one')}"
            "), so that intervals over items are too narrow: name "
            "the column that they share as `cluster` of the task."
        )
    if accounts.plan.memory is not None:
        found = accounts.folder.result(accounts.plan.neighbours(accounts.plan.items))
        if known := read_result(found / "search.json", Search).known:
            told.append(
                f"{known:,} of {len(items):,} test items are among the training items, prompt and "
                "completion: give the test rows a split of their own."
            )
    cut = sum(
        read_result(accounts.folder.result(step) / "answers.json", About).cut
        for m in accounts.measurements
        for step in m.answers
    )
    if cut:
        told.append(
            f"{quantity(cut, 'prompt', 'prompts')}"
            " longer than the model takes lost the beginning, as with "
            "lm-evaluation-harness: give fewer `shots`, or measure models that take more."
        )
    single = [g for g, rows in accounts.rows.items() if len(set(accounts.clusters[rows])) < 2]
    if single:
        told.append(
            f"Nothing is known of the error in {', '.join(single)}: there is one "
            f"{'cluster' if recipe.task.cluster else 'item'}, and intervals have no width."
        )
    tested = [(e.group, e.metric) for e in entries if e.p_holm is not None]
    many = max(Counter(tested).values(), default=0)
    if (least := needed(many)) > accounts.resamples:
        told.append(
            f"{many} comparisons with {accounts.resamples:,} resamples cannot be significant "
            f"after Holm's correction: give the task at least {least:,} `resamples`."
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
