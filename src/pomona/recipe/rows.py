"""The rows of a recipe as steps: which tables become items, and how many these will be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pomona.errors import PomonaError, nearest
from pomona.models import Request
from pomona.recipe.fields import HarnessPart
from pomona.recipe.graph import Estimate, Node, RunInput, Step, Work
from pomona.recipe.inputs import check_groups, check_names, group_counts, record_sources
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.controls import find_neighbours
from pomona.recipe.steps.scoring import make_task_items
from pomona.recipe.steps.tables import RECORDS, make_table, rejectable
from pomona.tasks import fields_of

if TYPE_CHECKING:
    from pomona.tasks.harness import HarnessMetric, HarnessTask

GUESS = 1000.0  # items, where counting takes too long
NEIGHBOURS = 16  # that are looked up for an item; who uses fewer takes the first
FEW = 200  # rows from which the length of prompts is told


@dataclass
class Tables:
    """The steps of a recipe, built once each, and those that make its items."""

    recipe: Recipe
    folder: Path
    _steps: dict[str, Step] = field(default_factory=dict, kw_only=True)
    _counts: dict[tuple[Any, ...], Mapping[str, int] | None] = field(
        default_factory=dict, kw_only=True
    )

    def step(
        self,
        name: str,
        work: Work,
        params: Mapping[str, Any],
        inputs: Mapping[str, Node],
        estimate: Estimate = Estimate(),  # noqa: B008 - frozen
        billed: frozenset[str] = frozenset(),
    ) -> Step:
        """A step, or one made before that does the same, whatever its name."""
        step = Step(name, work, params, inputs, estimate, billed)
        return self._steps.setdefault(step.key, step)

    def on(self, name: str, items: Step) -> str:
        """Name of a step over items, which says so where they are not those of the test."""
        return name if items is self.items else f"{name} on {items.name}"

    def table(
        self,
        name: str,
        spec: Any,
        per_group: int | None = None,
        work: Work = make_table,
        beside: Mapping[str, Node] | None = None,
        **more: Any,
    ) -> Step:
        """The items of `spec` (task, train or pretrain): its records and conditions over those of
        `data`. What else `work` makes of them gets inputs `beside` the records, and `more`
        parameters.
        """
        data = self.recipe.data
        params = {
            "prompt": data.prompt,
            "options": data.options,
            "completion": data.completion,
            "group": data.group,
            "source": data.source,
            "cluster": getattr(spec, "cluster", None),
            "project": self.recipe.task.project,
            "groups": data.groups,
            "where": {**data.where, **spec.where},
            "per_group": per_group,
            "on_error": data.on_error,
            **more,
        }
        sources = record_sources(spec.records or data.records, self.folder)
        self.group_counts(name, spec)
        inputs: dict[str, Node] = dict(beside or {})
        inputs |= {f"{RECORDS}{i:04d}": RunInput(path.name, path) for i, path in enumerate(sources)}
        return self.step(name, work, params, inputs)

    @cached_property
    def harness(self) -> HarnessTask | None:
        """The task of lm-evaluation-harness that is measured, if it is one."""
        part = self.recipe.task.harness
        return self._opened(part) if part else None

    @cached_property
    def _validating(self) -> HarnessTask | None:
        wanted = self.recipe.validation
        return self._opened(wanted.harness) if wanted and wanted.harness else None

    @property
    def tasks(self) -> dict[str, HarnessTask]:
        """The open tasks of lm-evaluation-harness by their signatures."""
        return {task.signature: task for task in (self.harness, self._validating) if task}

    def _opened(self, part: HarnessPart) -> HarnessTask:
        from pomona.tasks.harness import harness_task

        path, recipe = self.folder / part.task, self.recipe
        task = harness_task(
            path if path.suffix in {".yaml", ".yml"} else part.task,
            shots=part.shots,
            limit=part.limit,
            group=part.group,
            cluster=recipe.task.cluster,
            chat=recipe.chat,
            unsafe=part.unsafe,
        )
        check_names(task.items.groups, task.name)
        asks = task.requests() if task.needs == "generate" else []
        if any(len(draws) > 1 or draws[0][1] for _, draws in asks):
            message = "draws its answers (do_sample, repeats), and a recipe by its strategies"
            remedy = "set do_sample: false and repeats: 1, and name strategies under `sampling`"
            raise PomonaError(message, where=part.task, remedy=remedy)
        return task

    def _task_items(self, name: str, task: HarnessTask, part: HarnessPart) -> Step:
        params = {"task": task.signature, "group": part.group, "cluster": self.recipe.task.cluster}
        return self.step(name, make_task_items, params, {})

    @cached_property
    def harness_metrics(self) -> list[HarnessMetric]:
        """The metrics of that task which count. Raises PomonaError for one that it has not, and for
        one that cannot be resampled.
        """
        task, part = self.harness, self.recipe.task.harness
        assert task is not None and part is not None
        known = {one.name: one for one in task.metrics}
        named = part.metrics or [name for name, one in known.items() if one.additive]
        for name in named:
            if name not in known:
                message = f'has no metric "{name}"'
                raise PomonaError(message, where=part.task, remedy=nearest(name, known))
            _ = known[name].stored.sums  # raises where there are none
        if not named:
            remedy = "name a metric with another aggregation in its file"
            raise PomonaError("has no metric that can be resampled", where=part.task, remedy=remedy)
        return [known[name] for name in named]

    @cached_property
    def converses(self) -> bool:
        """Whether the prompts are conversations: a column of messages and nothing else."""
        data, columns = self.recipe.data, fields_of(self.recipe.data.prompt)
        if len(columns) != 1 or not data.records:
            return False
        from pomona import records

        sources = record_sources(self.recipe.task.records or data.records, self.folder)
        errors = "stop" if data.on_error == "stop" else "drop"  # the table's step writes rejects
        with rejectable(data.on_error):
            schema = records.read([str(path) for path in sources], on_error=errors).schema
        name = columns.pop()
        return name in schema.names and pa.types.is_list(schema.field(name).type)

    @cached_property
    def items(self) -> Step:
        """The test items."""
        if self.harness and (part := self.recipe.task.harness):
            return self._task_items("test items", self.harness, part)
        return self.table("test items", self.recipe.task, self.recipe.task.per_group)

    @cached_property
    def validation(self) -> Step:
        """The items on which choices are made."""
        wanted = self.recipe.validation
        assert wanted is not None  # the schema asks for it where something is chosen
        if self._validating and wanted.harness:
            return self._task_items("validation items", self._validating, wanted.harness)
        return self.table("validation items", wanted, wanted.per_group)

    @cached_property
    def training(self) -> Step:
        """The items that levers train on."""
        train = self.recipe.train
        assert train is not None  # the schema asks for it where a lever trains
        return self.table("training items", train, train.per_group)

    @cached_property
    def learned(self) -> Step | None:
        """The items that groups are counted in, from head to tail, where any are named."""
        pretrain = self.recipe.pretrain
        if self.recipe.train:
            return self.training
        return self.table("pretraining items", pretrain) if pretrain else self.memory

    @cached_property
    def memory(self) -> Step | None:
        """What the base may have learned from; None where the recipe names nothing."""
        return self.table(*self._remembered) if self._remembered else None

    @cached_property
    def _remembered(self) -> tuple[str, Any] | None:
        """Name and rows of the memory: all training items, however few of them the levers use."""
        asked, train = self.recipe.controls, self.recipe.train
        learned = train or self.recipe.pretrain
        if asked.records or asked.where is not None:
            where = (learned.where if learned else {}) if asked.where is None else asked.where
            records = asked.records or (learned.records if learned else None)
            return "items to look up", asked.model_copy(update={"where": where, "records": records})
        name = "pretraining items" if train is None else "training items"
        limited = train is not None and train.per_group is not None
        return (f"all {name}" if limited else name, learned) if learned else None

    def neighbours(self, items: Step) -> Step:
        """The nearest items of the memory to each of some items."""
        assert self.memory is not None
        params = {"neighbours": NEIGHBOURS}
        inputs = {"items": items, "memory": self.memory}
        name = self.on("find the nearest items", items)
        return self.step(name, find_neighbours, params, inputs)

    @cached_property
    def memory_count(self) -> float:
        """Items of the memory, for estimates."""
        return self.count(*self._remembered, None) if self._remembered else 0.0

    @cached_property
    def training_count(self) -> float:
        """Training items, for estimates."""
        train = self.recipe.train
        return self.count("training items", train, train.per_group) if train else 0.0

    @cached_property
    def item_count(self) -> float:
        """Test items, for estimates."""
        if self.harness:
            return float(len(self.harness.items))
        return self.count("test items", self.recipe.task, self.recipe.task.per_group)

    @cached_property
    def typical(self) -> Request:
        """What models are asked about a test item, for forecasts: of those first in the table, the
        prompt of middle length.
        """
        longest = self.recipe.task.max_new_tokens
        if self.harness and self.harness.needs == "generate":
            longest = max(request.max_tokens for request, _ in self.harness.requests())
        prompts = self.harness.items.prompts if self.harness else self._first_prompts()
        middle = sorted(prompts, key=len)[len(prompts) // 2] if prompts else ""
        return Request(prompt=middle, max_tokens=longest)

    def _first_prompts(self) -> list[str]:
        from pomona import records

        data, task = self.recipe.data, self.recipe.task
        sources = record_sources(task.records or data.records, self.folder)
        rows = records.read([str(path) for path in sources], on_error="drop")
        rows = rows.where(**{**data.where, **task.where}).select(*fields_of(data.prompt))
        return [data.prompt.format_map(row) for row in rows.head(FEW).to_table().to_pylist()]

    def count(self, name: str, spec: Any, per_group: int | None) -> float:
        """Items of the table `name`, for estimates."""
        counts = self.group_counts(name, spec)
        if counts is None:
            return GUESS
        wanted = self.recipe.data.groups or counts
        return float(sum(min(counts[group], per_group or counts[group]) for group in wanted))

    def group_counts(self, name: str, spec: Any) -> Mapping[str, int] | None:
        """Rows of each group of a table, see `table`; None where counting takes too long. Raises
        PomonaError for values, columns and groups that no row has.
        """
        data = self.recipe.data
        where = {**data.where, **spec.where}
        sources = record_sources(spec.records or data.records, self.folder)
        key = (*sources, repr(where))
        if key not in self._counts:
            columns = (getattr(spec, "cluster", None), self.recipe.task.project, data.options)
            self._counts[key] = group_counts(name, sources, data, where, columns)
        return self._counts[key]

    def require_groups(self, groups: Iterable[str], where: str) -> None:
        """Raise PomonaError for a group without training items."""
        counts = self.group_counts("training items", self.recipe.train)
        if counts is not None:
            check_groups(groups, counts, where)
