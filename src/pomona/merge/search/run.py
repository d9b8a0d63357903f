"""`search_merge`: the free parameters of a recipe found on validation items, the best merge
written, and what that bought on others.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pomona._version import __version__
from pomona.merge._plan import Plan
from pomona.merge.search.bench import Bench, inputs_of, read_document, refuse_existing
from pomona.merge.search.contrast import System, compare_all, documents, ledger_of
from pomona.merge.search.core import Found, search
from pomona.merge.search.judge import Judge, OnItems, read_items, refuse_shared
from pomona.merge.search.problem import Problem
from pomona.merge.search.rivals import BASE, Rivals
from pomona.merge.search.settings import files_of
from pomona.merge.search.space import SECTIONS
from pomona.tasks.bootstrap import Comparison
from pomona.tasks.items import Items

BEST = "searched"


@dataclass(frozen=True)
class Searched:
    """A finished search: the recipe of the best merge, its values and validation score, and what
    the held-out items say of it.

    `contrasts` has the best against each other system, per group: base, uniform merge and the best
    expert alone.
    """

    out: Path
    recipe: Mapping[str, Any]
    found: Found
    contrasts: Mapping[str, Mapping[str, Comparison]]
    metric: str
    higher_is_better: bool
    signature: str
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As it is written to `search.json`."""
        return {
            "signature": self.signature,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "values": dict(self.found.best.values),
            "valid": self.found.best.value,
            "trials": len(self.found.trials),
            "flops": self.found.flops,
            "tokens": self.found.tokens,
            "seconds": self.found.seconds,
            "test": documents(self.contrasts),
            "recipe": dict(self.recipe),
            "notes": list(self.notes),
            "version": __version__,
        }


def search_merge(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    models: Mapping[str, Path] | None = None,
    trials: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **engine: Any,
) -> Searched:
    """Search the free parameters of a merge recipe by its section `search`, and write the best
    merge to the folder `out`.

    Candidates are merged in memory and scored on the validation items. The best of them is compared
    on the test items, with paired bootstrap intervals per group, with the base, the plain mean of
    the experts and the best expert (chosen on the validation items). Beside the checkpoint `out`
    gets `search.json`, `trials.parquet`, `ledger.json` and `search.html`. A killed search called
    again goes on from `OUT.work` and ends with the same result. `engine` are options of
    `pomona.merge.merge`: memory, threads, shard_size. Raises PomonaError for whatever is wrong with
        recipe, records or models, and ResourceError when the disk is full.
    """
    document, folder = read_document(recipe)
    problem, out = Problem(document, trials), Path(out)
    refuse_existing(out, overwrite)
    task = problem.settings.task
    files = files_of(task, folder)
    valid, test = (
        read_items(task, problem.settings.valid, files),
        read_items(task, task.test, files),
    )
    refuse_shared(valid, test)
    bench = Bench(out, models=models, seed=seed, document=document)
    with bench.locked():
        searched = _searched(
            problem,
            bench,
            Judge.of(task, device=device, **engine),
            valid,
            test,
            progress,
            {**engine, "overwrite": overwrite},
        )
        bench.clear()
    return searched


def _searched(
    problem: Problem,
    bench: Bench,
    judge: Judge,
    valid: Items,
    test: Items,
    progress: Callable[[int, int], None] | None,
    engine: Mapping[str, Any],
) -> Searched:
    first = bench.plan(problem.first())
    judge.ready(first)
    found = _found(problem, bench, OnItems(judge, valid), first, progress)
    recipe = problem.recipe(found.best.values)
    best = bench.plan(recipe)
    rivals = Rivals(problem, bench, judge)
    systems = rivals.systems(valid, test)
    mine = bench.score(best, judge, test)
    systems[BEST] = replace(
        mine, once_flops=found.flops, once_tokens=found.tokens, once_seconds=found.seconds
    )
    searched = Searched(
        bench.out,
        recipe,
        found,
        compare_all(judge.metric, test, systems, BEST, bench.seed),
        judge.metric.name,
        judge.metric.higher_is_better,
        _signature(problem, bench, judge, valid, test),
        tuple(rivals.notes),
    )
    _write(searched, bench, judge, test, systems, best, engine)
    return searched


def _found(
    problem: Problem,
    bench: Bench,
    objective: OnItems,
    first: Plan,
    progress: Callable[[int, int], None] | None,
) -> Found:
    merge = {key: value for key, value in problem.document.items() if key not in SECTIONS}
    about = {"recipe": merge, "inputs": inputs_of(first), "seed": bench.seed}
    settings = problem.settings
    return search(
        lambda values: bench.plan(problem.recipe(values)),
        problem.space,
        objective,
        method=settings.method,
        trials=settings.trials,
        seed=bench.seed,
        log=bench.work / "trials.jsonl",
        about=about,
        progress=progress,
    )


def _signature(problem: Problem, bench: Bench, judge: Judge, valid: Items, test: Items) -> str:
    settings = problem.settings
    how = f"merge search|method:{settings.method}|trials:{settings.trials}|seed:{bench.seed}"
    return f"{how}|{judge.signature}|valid:{len(valid)}|test:{len(test)}|version:{__version__}"


def _write(
    searched: Searched,
    bench: Bench,
    judge: Judge,
    test: Items,
    systems: Mapping[str, System],
    best: Plan,
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
        "seed": bench.seed,
        "signature": searched.signature,
        "created": bench.created(),
        "notes": notes,
    }
    ledger = ledger_of(judge.metric, test, systems, base, about)
    ledger_path = bench.work / "ledger.json"
    ledger.write(ledger_path)
    extra = {
        "search.json": (
            json.dumps(searched.document(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        ).encode(),
        "trials.parquet": trials_parquet(searched.found),
        "ledger.json": ledger_path.read_bytes(),
        "search.html": render_search(searched).encode(),
    }
    merge_plan(replace(best, extra={**best.extra, **extra}), searched.out, **engine)


def trials_parquet(found: Found) -> bytes:
    """Every trial as a row: its number, values, score, best score so far, CPU seconds, FLOPs,
    tokens, and why it could not be merged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for number, (trial, best) in enumerate(zip(found.trials, found.so_far(), strict=True), 1):
        told = {key: value for key, value in asdict(trial).items() if key != "values"}
        rows.append(
            {"trial": number, **trial.values, "score": told.pop("value"), "best": best, **told}
        )
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream, compression="zstd")
    return stream.getvalue()
