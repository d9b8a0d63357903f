"""What a search would cost, from the sizes of model and items alone: nothing is timed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.merge._plan import Plan
from pomona.merge.search.bench import Bench, inputs_of, read_document
from pomona.merge.search.judge import read_items, refuse_shared
from pomona.merge.search.problem import Problem
from pomona.merge.search.settings import files_of
from pomona.tasks.items import Items

BYTES_PER_TOKEN = 3  # of UTF-8, over many languages
READ_PER_SECOND = 1e9  # bytes merged in memory, on one core
FLOPS_PER_SECOND = {"loss": 4e10, "answers": 2e10}  # of one core
START_SECONDS = 15.0


@dataclass(frozen=True)
class Forecast:
    """Trials, free parameters, items, the operations of a trial and of all the work, and seconds on
    one core; estimates.
    """

    method: str
    trials: int
    free: tuple[str, ...]
    valid: int
    test: int
    flops_per_trial: float
    flops: float
    seconds: float
    read: int
    notes: tuple[str, ...]


def forecast(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    models: Mapping[str, Path] | None = None,
    trials: int | None = None,
    seed: int | None = None,
) -> Forecast:
    """What `search_merge` with these arguments would do; the recipe, its records and a first merge
    are checked, nothing is written.

    Raises PomonaError as `search_merge` does before its first trial.
    """
    document, folder = read_document(recipe)
    problem = Problem(document, trials)
    settings = problem.settings
    files = files_of(settings.task, folder)
    valid, test = (
        read_items(settings.task, settings.valid, files),
        read_items(settings.task, settings.task.test, files),
    )
    refuse_shared(valid, test)
    bench = Bench(Path(out), models=models, seed=seed, document=document)
    plan = bench.plan(problem.first(), dry_run=True)
    number = most_trials(problem)
    trial = _flops(plan, valid)
    flops = trial * (number + len(problem.experts)) + 4 * _flops(plan, test)
    read = sum(size for _, size, _ in inputs_of(plan))
    rate = FLOPS_PER_SECOND["loss" if settings.task.metric == "loss" else "answers"]
    seconds = (
        START_SECONDS + flops / rate + (number + len(problem.experts) + 4) * read / READ_PER_SECOND
    )
    return Forecast(
        settings.method,
        number,
        tuple(problem.space.names),
        len(valid),
        len(test),
        trial,
        flops,
        seconds,
        read,
        plan.notes,
    )


def most_trials(problem: Problem) -> int:
    """The candidates a search tries at most: as many as asked for, or as there are."""
    asked = problem.settings.trials
    if problem.greedy:
        return min(asked, 2 * len(problem.experts) - 1)
    if all(free.choices for free in problem.space.free):
        return min(asked, math.prod(len(free.choices) for free in problem.space.free))
    return asked


def _flops(plan: Plan, items: Items) -> float:
    """Two operations a weight and token, prompts and completions."""
    weights = sum(math.prod(job.shape) for job in plan.jobs)
    tokens = (
        sum(len(text.encode()) for text in [*items.prompts, *items.completions]) / BYTES_PER_TOKEN
    )
    return 2.0 * weights * tokens
