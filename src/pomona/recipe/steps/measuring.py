"""What answers are compared with, and by which metrics: the task's own, or those of a task of
lm-evaluation-harness, whose package knows what is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pomona.recipe.steps import StepContext
from pomona.tasks import Items, Metric, metric, metrics

if TYPE_CHECKING:
    from pomona.tasks.harness import HarnessMetric, HarnessTask

Statistics = NDArray[np.float64]
CHRF = "chrf"


def task_of(step: StepContext, items: Items) -> HarnessTask | None:
    """The open task of lm-evaluation-harness that has these items; None where they are rows."""
    tasks = step.runtime.tasks.values()
    return next((task for task in tasks if items.ids[0] in task.items.ids), None)


@dataclass(frozen=True)
class Measures:
    """The metrics of a step's task, the first of which leads, and what is right of its items."""

    items: Items
    given: Sequence[Any]
    metrics: Sequence[Metric]
    task: HarnessTask | None = None

    @classmethod
    def of(cls, step: StepContext, items: Items) -> Measures:
        """By the step's parameter "metrics"."""
        given, task = step.params["metrics"], task_of(step, items)
        if task is None:
            return cls(items, given, metrics(given, references=items.reference_count))
        named = {one.name: one for one in task.metrics}
        return cls(items, given, [named[name] for name in given], task)

    @property
    def between(self) -> Metric:
        """What compares two answers: the metric that leads, or chrF where that knows no texts but
        those of its task.
        """
        return metric(CHRF if self.task else self.given[0])

    def statistics(self, read: Mapping[str, Sequence[Any]]) -> list[Statistics]:
        """Of each metric `[n, k]`, from what it reads of all items."""
        if self.task is None:
            right = {"logprobs": self.items.completions}  # a text's own, others are no help
            every = self.items.references
            return [
                one.statistics(read[one.reads], right.get(one.reads, every)) for one in self.metrics
            ]
        mine: Sequence[HarnessMetric] = self.metrics  # type: ignore[assignment]
        results = self.task.results(read[mine[0].reads], self.items.ids)
        return [one.rows(results) for one in mine]

    def leading(self, answers: Sequence[str]) -> Statistics:
        """Statistics `[n, k]` of the metric that leads."""
        return self._of(answers, range(len(self.items)))

    def utilities(self, pools: Sequence[Sequence[str]]) -> list[Statistics]:
        """What the metric that leads gives to each of several answers to each item, `[n][k]`,
        turned so that more is better.
        """
        lead, flat = self.metrics[0], [answer for pool in pools for answer in pool]
        rows = [row for row, pool in enumerate(pools) for _ in pool]
        sign = 1 if lead.higher_is_better else -1
        values = sign * lead.aggregate(self._of(flat, rows))
        return np.split(values, np.cumsum([len(pool) for pool in pools])[:-1])

    def _of(self, answers: Sequence[str], rows: Sequence[int]) -> Statistics:
        right = self.items.ids if self.task else self.items.references
        return self.metrics[0].statistics(list(answers), [right[row] for row in rows])
