"""`plan_targets`: where data and answers are thin or weak, how much to ask for, and what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona._version import __version__
from pomona.errors import GateFailed, PomonaError
from pomona.files import atomic_directory, check_into, check_ours, json_text
from pomona.places import check_outputs
from pomona.records import NamedRows, write
from pomona.stats import largest_remainder, wilson
from pomona.synth.targeting.cells import Key, Side, Sorter, read_rows, tally
from pomona.synth.targeting.measuring import AnswerRows, Quality, quality, read_answers
from pomona.synth.targeting.planning import lacking, shares_asked, target_shares
from pomona.synth.targeting.prompts import Candidates, Chosen, choose, read_pool
from pomona.synth.targeting.recipe import DISTANCE, LENGTH, TargetsRecipe, load_targets
from pomona.synth.targeting.results import Cell, Plan
from pomona.workspace import refuse_changed, stamp

KIND = "a plan of targets"
CELLS, PLAN, PROMPTS = "cells.csv", "plan.json", "prompts.parquet"
PAGE = "index.html"
_MOST = 20_000  # cells

Progress = Callable[[int, int], None]


def plan_targets(
    recipe: str | Path | TargetsRecipe,
    out: str | Path,
    *,
    page: Path | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Find where training data is thin, and where a model's answers are weak, say how many rows to
    ask for in each cell, and pick prompts for them from a pool.

    Cells are made by columns, by lengths and by the distance to the training data. What is asked
    for goes to what lacks most of its target share and, where answers and references are given, to
    cells whose metric is surely below that of all. No prompt is a near copy of a test's text.

    Args:
        recipe: The recipe, a YAML file.
        out: Folder of cells.csv, plan.json and, where there is a pool, prompts.parquet, which a
            recipe of `pomona synth run` reads.
        page: Folder for a page with heat maps.
        progress: Called with the parts done and all.

    Raises:
        PomonaError: the recipe or a table is wrong, a cell would be made of nothing, or OUT is
            something else.
        GateFailed: there is a pool, and no prompt for any row that is asked for.
    """
    told = recipe if isinstance(recipe, TargetsRecipe) else load_targets(recipe)
    folder, named = Path(out), [] if isinstance(recipe, TargetsRecipe) else [str(recipe)]
    inputs = [*named, *_paths(told)]
    outputs = {"the plan": folder, "--page": page}
    check_outputs(outputs, inputs, folders=list(outputs))
    check_ours(folder, KIND)
    if page is not None:
        check_into(page, [PAGE])
    before = stamp(inputs)
    plan, prompts = _planned(told, progress)
    refuse_changed(before, stamp(inputs), folder)
    if plan.asked and plan.chosen == 0:
        why = "; ".join(plan.notes)
        remedy = "add texts to the pool that these groups lack"
        raise GateFailed(f"no prompt was found: {why}", where="pool", remedy=remedy)
    with atomic_directory(folder, KIND) as made:
        write(pa.Table.from_pylist(plan.table()), made / CELLS)
        (made / PLAN).write_text(json_text(plan.to_json()), encoding="utf-8")
        if prompts is not None:
            write(prompts, made / PROMPTS)
    if page is not None:
        from pomona.synth.targeting.page import write_page

        write_page(plan, page)
    return plan


def _parts(recipe: TargetsRecipe) -> list[NamedRows]:
    given = (recipe.training, recipe.demand, recipe.answers, recipe.pool, *recipe.test)
    return [one for one in given if one is not None]


def _paths(recipe: TargetsRecipe) -> list[str]:
    return list(dict.fromkeys(path for part in _parts(recipe) for path in part.read().paths))


@dataclass(frozen=True, eq=False)
class _Seen:
    """All rows of a recipe in their cells, how much is asked for in all groups by the rest of the
    cell, and which cells there are.
    """

    training: Side
    demand: Side | None
    answers: AnswerRows | None
    candidates: Candidates | None
    pooled: Counter[Key]
    cells: list[Key]


def _planned(recipe: TargetsRecipe, progress: Progress | None) -> tuple[Plan, pa.Table | None]:
    seen = _seen(recipe, progress)
    counts = tally(seen.training.keys, seen.cells)
    wanted = None if seen.demand is None else tally(seen.demand.keys, seen.cells)
    good = None if seen.answers is None else quality(seen.answers, seen.cells, recipe.seed)
    shares = target_shares(recipe, seen.cells, counts, wanted, seen.pooled)
    lacks = lacking(shares, counts, recipe.rows)
    parts = shares_asked(lacks, _weak(good, wanted, len(seen.cells)), recipe.weakness)
    asked = largest_remainder(parts, recipe.rows, counts)
    _tell(progress, 4)
    chosen = None
    if seen.candidates is not None:
        per = {cell: int(n) for cell, n in zip(seen.cells, asked, strict=True)}
        chosen = choose(seen.candidates, per, recipe, _tests(recipe))
    total = max(1, int(counts.sum()))
    cells = [
        Cell(
            cell, int(counts[at]), float(counts[at] / total), float(shares[at]), float(lacks[at]),
            int(asked[at]), **_demanded(seen.demand, recipe, cell), **_measured(good, at),
            available=None if chosen is None else chosen.available[cell],
            chosen=None if chosen is None else chosen.taken[cell],
        )
        for at, cell in enumerate(seen.cells)
    ]  # fmt: skip
    _tell(progress, 5)
    plan = Plan(
        recipe.by, cells, recipe.rows, _signature(recipe, good), recipe.seed,
        None if good is None else good.metric, None if good is None else good.overall,
        {} if chosen is None else dict(chosen.passed), _notes(cells, chosen, good),
        recipe.model_dump(mode="json"),
    )  # fmt: skip
    return plan, None if chosen is None else chosen.table


def _tell(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress(done, 5)


def _seen(recipe: TargetsRecipe, progress: Progress | None) -> _Seen:
    texts, columns, table = read_rows(recipe.training, recipe.text, recipe)
    if not texts and recipe.group not in recipe.only:
        where = ", ".join(recipe.training.rows)
        raise PomonaError("there is no training data", where=where, remedy="change training")
    memory: dict[str, list[str]] = {}
    for group, text in zip(columns[recipe.group], texts, strict=True):
        memory.setdefault(group, []).append(text)
    sorter = Sorter(recipe, memory)
    training = sorter.wanted(sorter.side(texts, columns, table, known=True))
    _tell(progress, 1)
    demand, pooled = None, Counter[Key]()
    if recipe.demand is not None:
        # Of other groups nobody knows here how far they are from what
        everywhere = DISTANCE not in recipe.by
        asked = read_rows(recipe.demand, recipe.text, recipe, everywhere=everywhere)
        whole = sorter.side(*asked)
        pooled.update(key[1:] for key in whole.keys)
        demand = sorter.measured(sorter.wanted(whole))
    _tell(progress, 2)
    answers = None if recipe.answers is None else read_answers(recipe.answers, sorter)
    keys = [*training.keys, *(demand.keys if demand else ()), *(answers.keys if answers else ())]
    _tell(progress, 3)
    candidates = None
    if recipe.pool is not None:
        candidates = read_pool(recipe.pool, sorter, _groups(recipe, keys))
        keys += candidates.side.keys
    return _Seen(training, demand, answers, candidates, pooled, _cells(recipe, sorter, keys))


def _groups(recipe: TargetsRecipe, keys: Sequence[Key]) -> list[str]:
    """The groups that there are or that the recipe names, in order."""
    return sorted({key[0] for key in keys} | set(recipe.only.get(recipe.group, ())))


def _cells(recipe: TargetsRecipe, sorter: Sorter, keys: Sequence[Key]) -> list[Key]:
    """Every group with all that any group has, in order."""
    groups = _groups(recipe, keys)
    made = {LENGTH: sorter.lengths, DISTANCE: ["far", "middle", "near"]}
    places = [{name: at for at, name in enumerate(made.get(name, ()))} for name in recipe.by[1:]]

    def place(rest: Key) -> list[tuple[int, str]]:
        return [(of.get(value, len(of)), value) for of, value in zip(places, rest, strict=True)]

    rests = sorted({key[1:] for key in keys}, key=place)
    if len(groups) * len(rests) > _MOST:
        message = f"{len(groups):,} groups with {len(rests):,} cells each are too many"
        raise PomonaError(message, where="by", remedy="leave a column out, or use only")
    return [(group, *rest) for group, rest in product(groups, rests)]


def _weak(
    good: Quality | None, demand: NDArray[np.int64] | None, cells: int
) -> NDArray[np.float64]:
    """How far each cell `[c]` is surely below all, by how much of it is asked for."""
    if good is None:
        return np.zeros(cells)
    return good.shortfall * (good.counts if demand is None else np.maximum(demand, 1))


def _demanded(demand: Side | None, recipe: TargetsRecipe, cell: Key) -> dict[str, Any]:
    if demand is None or demand.similarity is None:
        return {}
    mine = [row for row, key in enumerate(demand.keys) if key == cell]
    if not mine:
        return {"demand": 0}
    far = int((demand.similarity[mine] < recipe.far).sum())
    low, high = wilson(far, len(mine))
    ends = {"far_low": float(low), "far_high": float(high)}
    return {"demand": len(mine), "far": far / len(mine), **ends}


def _measured(good: Quality | None, at: int) -> dict[str, Any]:
    if good is None:
        return {}

    def known(values: NDArray[np.float64]) -> float | None:
        return float(values[at]) if np.isfinite(values[at]) else None

    weak = bool(good.shortfall[at] > 0) if known(good.low) is not None else None
    return {
        "answers": int(good.counts[at]), "value": known(good.value), "ci_low": known(good.low),
        "ci_high": known(good.high), "weak": weak,
    }  # fmt: skip


def _tests(recipe: TargetsRecipe) -> list[str]:
    found: list[str] = []
    for test in recipe.test:
        column = test.read().require(test.text).select(test.text).to_table().column(0)
        found += [text for text in column.to_pylist() if isinstance(text, str)]
    return found


def _notes(cells: Sequence[Cell], chosen: Chosen | None, good: Quality | None) -> list[str]:
    notes = []
    if not any(cell.asked for cell in cells):
        notes.append("no cell lacks any of its target share, and nothing is surely weak")
    if good is not None and not any(cell.weak for cell in cells):
        notes.append("no cell is surely weaker than all together: all goes to what is thin")
    if chosen is not None:
        notes += [f"prompts that were {why}: {count:,}" for why, count in chosen.passed.items()]
        short = sum(cell.asked - (cell.chosen or 0) for cell in cells)
        if short:
            notes.append(f"the pool has no prompts for {short:,} of the rows that are asked for")
    return notes


def _signature(recipe: TargetsRecipe, good: Quality | None) -> str:
    target = recipe.target if isinstance(recipe.target, str) else f"T{recipe.target.temperature:g}"
    parts = [
        "synth targets",
        f"by:{','.join(recipe.by)}",
        f"target:{target}",
        f"rows:{recipe.rows}",
        *([f"weakness:{recipe.weakness:g}", f"metric:{good.metric}"] if good else []),
        f"seed:{recipe.seed}",
        f"version:{__version__}",
    ]
    return "|".join(parts)
