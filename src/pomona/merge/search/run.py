"""`search_merge`: the free parameters of a recipe found on validation items, the best merge
written, and what that bought on others; and what a search would cost.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pomona._version import __version__
from pomona.errors import PomonaError, ResourceError
from pomona.merge.plan import MERGED, MergePlan
from pomona.merge.search.experts import Expert, alone, base_of, uniform
from pomona.merge.search.judge import Judge, OnItems, read_items, refuse_shared
from pomona.merge.search.problem import Problem, files_of
from pomona.merge.search.results import Searched, System, compare_all, ledger_of
from pomona.merge.search.space import SECTIONS
from pomona.merge.search.trials import Optimum, search
from pomona.merge.search.workspace import SearchWorkspace, inputs_of, read_search_recipe
from pomona.models.tensors import check_free
from pomona.stats import value_of
from pomona.tasks import Items

BEST = "searched"


def search_merge(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    models: Mapping[str, Path] | None = None,
    trials: int | None = None,
    device: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **engine: Any,
) -> Searched:
    """Search the free parameters of a recipe against a task, and write the best merge.

    Candidates are merged in memory and scored on the validation items. The best of them is compared
    on the test items, with paired bootstrap intervals per group, with the base, the plain mean of
    the experts and the best expert (chosen on the validation items). A killed search called again
    goes on from `OUT.work` and ends with the same result. `models` and `engine` (memory, threads,
    shard_size) are as in `pomona.merge.merge`; threads are those of the scoring, too. `progress` is
    called with the trials made and all.

    Args:
        recipe: A merge recipe with {search: [low, high]} in place of numbers, and a section
            `search` that names the task.
        out: Folder of the best merge, with search.json, trials.parquet, ledger.json and
            search.html. The same command goes on after a kill.
        trials: Candidates to try, in place of the recipe's.
        device: cpu, cuda, ...
        seed: Seed in place of the recipe's.
        overwrite: Write over folders that are there.

    Raises:
        PomonaError: whatever is wrong with recipe, records or models.
        ResourceError: the disk is full.
    """
    read = read_search_recipe(recipe)
    problem, out = Problem(read.document, trials), Path(out)
    check_free(out, MERGED, overwrite)
    valid, test = _items(problem, read.folder)
    workspace = SearchWorkspace(out, models=models, seed=seed, recipe=read)
    with workspace.locked(**engine):
        judge = Judge.of(problem.settings, device=device, **engine)
        run = _Run(problem, workspace, judge, valid, test)
        searched = run.searched(progress, {**engine, "overwrite": overwrite})
        workspace.clear()
    return searched


def _items(problem: Problem, folder: Path) -> tuple[Items, Items]:
    """The items that are searched on and those that are tested on."""
    settings = problem.settings
    files = files_of(settings, folder)
    valid, test = (read_items(settings, part, files) for part in (settings.valid, settings.test))
    refuse_shared(valid, test)
    return valid, test


@dataclass(frozen=True)
class _Run:
    """One search: its problem, its workspace, its judge, and the items searched and tested on."""

    problem: Problem
    workspace: SearchWorkspace
    judge: Judge
    valid: Items
    test: Items

    def searched(
        self, progress: Callable[[int, int], None] | None, engine: Mapping[str, Any]
    ) -> Searched:
        """Search, compare and write."""
        problem, workspace, judge, test = self.problem, self.workspace, self.judge, self.test
        # What is wrong with models or installation shows here, before hours of trials.
        first = workspace.plan(problem.first())
        judge.ready(first)
        optimum = self._optimum(first, progress)
        recipe = problem.recipe(optimum.best.values)
        best = workspace.plan(recipe)
        rivals = Rivals(problem, workspace, judge)
        systems = rivals.systems(self.valid, test)
        systems[BEST] = replace(
            workspace.score(best, judge, test),
            once_flops=optimum.flops,
            once_tokens=optimum.tokens,
            once_seconds=optimum.seconds,
        )
        searched = Searched(
            workspace.out,
            recipe,
            optimum,
            compare_all(judge.metric, test, systems, BEST, workspace.seed),
            judge.metric.name,
            judge.metric.higher_is_better,
            self._signature(),
            tuple(rivals.notes),
        )
        self._write(searched, systems, best, engine)
        return searched

    def _optimum(self, first: MergePlan, progress: Callable[[int, int], None] | None) -> Optimum:
        problem, workspace, settings = self.problem, self.workspace, self.problem.settings
        merge = {key: value for key, value in problem.document.items() if key not in SECTIONS}
        return search(
            lambda values: workspace.plan(problem.recipe(values)),
            problem.space,
            OnItems(self.judge, self.valid),
            method=settings.method,
            trials=settings.trials,
            seed=workspace.seed,
            log=workspace.work / "trials.jsonl",
            about={"recipe": merge, "inputs": inputs_of(first), "seed": workspace.seed},
            progress=progress,
        )

    def _signature(self) -> str:
        settings = self.problem.settings
        how = f"merge search|method:{settings.method}|trials:{settings.trials}"
        items = f"valid:{len(self.valid)}|test:{len(self.test)}"
        seed, judge = self.workspace.seed, self.judge.signature
        return f"{how}|seed:{seed}|{judge}|{items}|version:{__version__}"

    def _write(
        self,
        searched: Searched,
        systems: Mapping[str, System],
        best: MergePlan,
        engine: Mapping[str, Any],
    ) -> None:
        from pomona.merge.engine.run import merge_plan
        from pomona.merge.search.page import render_search

        base = BASE if BASE in systems else next(iter(systems))
        notes = [
            "The experts' own training is not counted: they were there before the search.",
            *searched.notes,
        ]
        about = {
            "name": searched.out.name,
            "parameters": sum(math.prod(job.shape) for job in best.jobs),
            "seed": self.workspace.seed,
            "signature": searched.signature,
            "created": self.workspace.created(),
            "notes": notes,
        }
        ledger = ledger_of(self.judge.metric, self.test, systems, base, about)
        ledger_path = self.workspace.work / "ledger.json"
        ledger.write(ledger_path)
        told = json.dumps(searched.document(), indent=1, ensure_ascii=False, allow_nan=False)
        extra = {
            "search.json": (told + "\n").encode(),
            "trials.parquet": trials_parquet(searched.optimum),
            "ledger.json": ledger_path.read_bytes(),
            "search.html": render_search(searched).encode(),
        }
        merge_plan(replace(best, extra={**best.extra, **extra}), searched.out, **engine)


def trials_parquet(optimum: Optimum) -> bytes:
    """Every trial as a row: its number, values, score, best score so far, CPU seconds, FLOPs,
    tokens, and why it could not be merged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for number, (trial, best) in enumerate(zip(optimum.trials, optimum.so_far(), strict=True), 1):
        told = {key: value for key, value in asdict(trial).items() if key != "values"}
        rows.append(
            {"trial": number, **trial.values, "score": told.pop("value"), "best": best, **told}
        )
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream, compression="zstd")
    return stream.getvalue()


BASE, UNIFORM = "base", "uniform"


class Rivals:
    """Scores other models than the searched one; what cannot be scored is left out with a note in
    `notes`.
    """

    def __init__(self, problem: Problem, workspace: SearchWorkspace, judge: Judge) -> None:
        self.problem, self.workspace, self.judge = problem, workspace, judge
        self.notes: list[str] = []

    def systems(self, valid: Items, test: Items) -> dict[str, System]:
        """The rivals on the test items, the base first where there is one."""
        document = self.problem.document
        base = self.problem.settings.base or base_of(document)
        systems = {BASE: self._score(BASE, partial(alone, base), test)} if base is not None else {}
        systems[UNIFORM] = self._score(UNIFORM, partial(uniform, document), test)
        chosen = self._best_expert(valid)
        if chosen is not None:
            expert, flops, seconds = chosen
            system = self._score(expert.name, partial(alone, expert.written), test)
            systems[f"expert {expert.name}"] = (
                replace(system, once_flops=flops, once_seconds=seconds) if system else None
            )
        return {name: system for name, system in systems.items() if system is not None}

    def _best_expert(self, valid: Items) -> tuple[Expert, float, float] | None:
        """The best expert on the validation items, with the operations and CPU seconds of finding
        it.
        """
        metric = self.judge.metric
        scored = [
            (expert, self._score(expert.name, partial(alone, expert.written), valid))
            for expert in self.problem.experts
        ]
        known = [(expert, system) for expert, system in scored if system is not None]
        if not known:
            return None
        pick = max if metric.higher_is_better else min
        best, _ = pick(known, key=lambda pair: value_of(metric, pair[1].statistics))
        return (
            best,
            sum(system.flops for _, system in known),
            sum(system.seconds for _, system in known),
        )

    def _score(
        self, name: str, recipe: Callable[[], Mapping[str, Any]], items: Items
    ) -> System | None:
        try:
            return self.workspace.score(self.workspace.plan(recipe()), self.judge, items)
        except ResourceError:
            raise
        except PomonaError as error:
            note = f"{name} is not compared: {error}"
            self.notes += [note] if note not in self.notes else []
            return None


BYTES_PER_TOKEN = 3  # of UTF-8, over many languages
READ_PER_SECOND = 1e9  # bytes merged in memory, on one core
FLOPS_PER_SECOND = {"loss": 4e10, "answers": 2e10}  # of one core
START_SECONDS = 15.0


@dataclass(frozen=True)
class SearchForecast:
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
) -> SearchForecast:
    """What `search_merge` with these arguments would do; the recipe, its records and a first merge
    are checked, nothing is written.

    Raises PomonaError as `search_merge` does before its first trial.
    """
    found = read_search_recipe(recipe)
    problem = Problem(found.document, trials)
    settings = problem.settings
    valid, test = _items(problem, found.folder)
    workspace = SearchWorkspace(Path(out), models=models, seed=seed, recipe=found)
    with workspace.outlined():
        plan = workspace.plan(problem.first(), dry_run=True)
    number = most_trials(problem)
    trial = _flops(plan, valid)
    flops = trial * (number + len(problem.experts)) + 4 * _flops(plan, test)
    read = sum(size for _, size, _ in inputs_of(plan))
    rate = FLOPS_PER_SECOND["loss" if settings.metric == "loss" else "answers"]
    seconds = (
        START_SECONDS + flops / rate + (number + len(problem.experts) + 4) * read / READ_PER_SECOND
    )
    return SearchForecast(
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


def _flops(plan: MergePlan, items: Items) -> float:
    """Two operations a weight and token, prompts and completions."""
    weights = sum(math.prod(job.shape) for job in plan.jobs)
    tokens = (
        sum(len(text.encode()) for text in [*items.prompts, *items.completions]) / BYTES_PER_TOKEN
    )
    return 2.0 * weights * tokens
