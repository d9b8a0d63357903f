"""How well a model answers in each cell, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.records import as_text
from pomona.stats import MINIMUM, Resamples, interval, value_of
from pomona.synth.targeting.cells import Key, Sorter, read_rows, refuse_nulls, tally
from pomona.synth.targeting.recipe import Answers
from pomona.tasks import Metric, MetricOptions, metric as metric_of

LEAST = 5  # rows or clusters that an interval is of


@dataclass(frozen=True)
class Quality:
    """A metric over all answers and in each cell `[c]`; NaN where there is none. `shortfall` `[c]`
    is how far even the better end of a cell's interval is below the value of all: 0 where it is not
    sure that a cell is weak.
    """

    metric: str
    signature: str
    overall: float
    counts: NDArray[np.int64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    higher_is_better: bool

    @property
    def shortfall(self) -> NDArray[np.float64]:
        """See the class."""
        bound = self.high if self.higher_is_better else self.low
        below = self.overall - bound if self.higher_is_better else bound - self.overall
        return np.where(np.isfinite(below), np.maximum(0, below), 0.0)


@dataclass(frozen=True, eq=False)
class AnswerRows:
    """The cells of answers, and their statistics `[n, k]` by the metric; clusters where there are
    any.
    """

    keys: list[Key]
    statistics: NDArray[np.float64]
    clusters: NDArray[np.object_] | None
    options: Answers


def read_answers(answers: Answers, sorter: Sorter) -> AnswerRows:
    """The answers of a recipe, compared with their references. Raises PomonaError for what is null,
    and a metric that reads no text.
    """
    recipe = sorter.recipe
    more = [answers.answer, answers.reference, *([answers.cluster] if answers.cluster else [])]
    text = answers.text or recipe.text
    texts, columns, table = read_rows(answers, text, recipe, more=more)
    where = str(answers.read().source.where)
    refuse_nulls(table, more, where)
    side = sorter.wanted(sorter.side(texts, columns, table))
    if not side.texts:
        remedy = "widen only, or give answers to these rows"
        raise PomonaError("there are no answers in these cells", where=where, remedy=remedy)
    said, right = (as_text(side.table[name]).to_pylist() for name in more[:2])
    clusters = None
    if answers.cluster is not None:
        clusters = np.array(as_text(side.table[answers.cluster]).to_pylist(), dtype=object)
    statistics = np.asarray(_metric(answers).statistics(said, right), np.float64)
    return AnswerRows(side.keys, statistics, clusters, answers)


def _metric(answers: Answers) -> Metric:
    given = answers.metric
    return metric_of(given.given if isinstance(given, MetricOptions) else given, reads="text")


def quality(rows: AnswerRows, cells: Sequence[Key], seed: int) -> Quality:
    """How good the answers are, over all and in each cell."""
    metric = _metric(rows.options)
    place = {key: at for at, key in enumerate(cells)}
    member = np.array([place[key] for key in rows.keys])
    value, low, high = (np.full(len(cells), np.nan) for _ in range(3))
    for at in np.unique(member):
        mine = np.flatnonzero(member == at)
        value[at] = value_of(metric, rows.statistics[mine])
        clusters = None if rows.clusters is None else rows.clusters[mine]
        drawn = Resamples(len(mine), MINIMUM, seed, clusters)
        if drawn.units >= LEAST and np.isfinite(value[at]):
            low[at], high[at] = interval(metric, rows.statistics[mine], drawn)
    return Quality(
        metric.name, metric.signature, value_of(metric, rows.statistics), tally(rows.keys, cells),
        value, low, high, metric.higher_is_better,
    )  # fmt: skip
