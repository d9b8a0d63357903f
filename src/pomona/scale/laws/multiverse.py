"""The same runs by every choice that somebody might defend: which parameters count, in what the
loss is measured and which is least, which runs and checkpoints are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.scale.laws.budget import Budget
from pomona.scale.laws.checks import untuned
from pomona.scale.laws.fitting import Fitted
from pomona.scale.laws.held_out import Procedure, held_out
from pomona.scale.laws.huber import Loss
from pomona.scale.runs import Runs

Floats = NDArray[np.float64]
LOSSES = {"huber": Loss(), "squares": Loss(delta=10.0), "over-estimates x5": Loss(above=5.0)}
_HIGHEST = 0.02  # of the runs, left out by their loss
TIMES = 10.0  # the largest run's compute: where choices are compared


@dataclass(frozen=True)
class Cell:
    """One universe. `params_ahead` and `loss_ahead` of the best model for `TIMES` the largest
    compute, the loss in its `measure`; `error` of the held-out largest runs. None where the runs do
    not tell; `note` says why.
    """

    counting: str
    measure: str
    loss: str
    runs: str
    checkpoints: str
    n: int
    E: float | None = None
    alpha: float | None = None
    beta: float | None = None
    exponent: float | None = None
    exponent_low: float | None = None
    exponent_high: float | None = None
    params_ahead: float | None = None
    loss_ahead: float | None = None
    error: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Multiverse:
    """All cells, and how far they are apart: the lowest and highest exponent, and where 95 % of all
    their resamples lie; the lowest and highest loss ahead, of cells in the measure of the fit.
    """

    cells: Sequence[Cell]
    exponent: tuple[float, float] | None
    exponent_interval: tuple[float, float] | None
    loss_ahead: tuple[float, float] | None
    flops_ahead: float


def multiverse(runs: Runs, procedure: Procedure) -> Multiverse:
    """Fit every universe."""
    ahead = TIMES * float(runs.flops.max())
    cells, drawn = [], []
    for (counting, measure, loss), checkpoints, (name, chosen) in _universes(runs, procedure):
        about = (counting, measure, loss, name, checkpoints, len(chosen))
        mine = replace(procedure, loss=LOSSES[loss])
        try:
            cell, law = _cell(chosen.counting(counting), mine, Cell(*about), ahead)
        except PomonaError as error:
            cells.append(Cell(*about, note=error.message))
            continue
        cells.append(cell)
        if cell.exponent is not None and procedure.resamples:
            drawn.append(law.exponents())
    known = [cell.exponent for cell in cells if cell.exponent is not None]
    losses = [
        cell.loss_ahead
        for cell in cells
        if cell.loss_ahead is not None and cell.measure == runs.measure
    ]
    ends = np.quantile(np.concatenate(drawn), [0.025, 0.975]).tolist() if drawn else None
    return Multiverse(
        cells,
        (min(known), max(known)) if known else None,
        (ends[0], ends[1]) if ends else None,
        (min(losses), max(losses)) if losses else None,
        ahead,
    )


def _universes(runs: Runs, procedure: Procedure) -> Iterator[Any]:
    several = "checkpoint" in runs.more
    kept = [("final", final(runs)), ("all", runs)] if several else [("all", runs)]
    for checkpoints, part in kept:
        for measure in (runs.measure, *runs.measures):
            chosen = list(_choices(part.by(measure), procedure))
            for counting, loss in product(["params", *runs.counts], LOSSES):
                for one in chosen:
                    yield (counting, measure, loss), checkpoints, one


def _choices(runs: Runs, procedure: Procedure) -> Iterator[tuple[str, Runs]]:
    yield "all", runs
    if "learning_rate" in runs.more and len(best := tuned(runs)) < len(runs):
        yield "best learning rate", best
    highest = max(1, round(_HIGHEST * len(runs)))
    told = "loss" if highest == 1 else f"{highest} losses"
    yield f"without the highest {told}", runs.take(without_highest(runs, highest))
    try:
        law = replace(procedure, resamples=0).fit(runs, None)
    except PomonaError:
        return
    flagged = [row for row, _ in untuned(runs, law)]
    if flagged:
        yield "without under-tuned", runs.take(np.delete(np.arange(len(runs)), flagged))


def _cell(runs: Runs, procedure: Procedure, cell: Cell, ahead: float) -> tuple[Cell, Fitted]:
    clusters = runs.clusters()
    law = procedure.fit(runs, clusters)
    budget = Budget(ahead)
    best = budget.best(law.law.form, law.law.values[None])
    told = {name: getattr(law.law, name) for name in ("E", "alpha", "beta", "exponent")}
    lost = bool({"alpha", "beta"} & set(law.at_bound))
    told |= dict.fromkeys([*law.at_bound, *(["E", "exponent"] if lost else [])])
    ends = (None, None) if lost else law.interval(law.exponents()) or (None, None)
    judged = held_out(replace(procedure, resamples=0), runs, clusters)
    note = f"the runs do not tell {', '.join(law.at_bound)}" if law.at_bound else None
    found = replace(
        cell,
        **told,
        exponent_low=ends[0],
        exponent_high=ends[1],
        params_ahead=float(np.exp(best[0])),
        loss_ahead=float(budget.losses(law.law.form, law.law.values[None], best[:, None])[0, 0]),
        error=judged.error,
        note=note,
    )
    return found, law


def final(runs: Runs) -> Runs:
    """The last checkpoint of each training."""
    last: dict[Any, int] = {}
    for row, key in enumerate(runs.trainings()):
        if key not in last or runs.more["checkpoint"][row] > runs.more["checkpoint"][last[key]]:
            last[key] = row
    return runs.take(np.array(sorted(last.values())))


def tuned(runs: Runs) -> Runs:
    """Of trainings that differ in the learning rate alone, the one with the lowest loss."""
    least: dict[Any, int] = {}
    keys = runs.keys("family", "size", "params", "tokens", "seed", "unique_tokens", "checkpoint")
    for row, key in enumerate(keys):
        if key not in least or runs.loss[row] < runs.loss[least[key]]:
            least[key] = row
    return runs.take(np.array(sorted(least.values())))


def without_highest(runs: Runs, number: int) -> NDArray[np.intp]:
    """The rows of all runs but those of the highest losses."""
    return np.sort(np.argsort(runs.loss, kind="stable")[: len(runs) - number])
