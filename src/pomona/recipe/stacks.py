"""Levers on top of each other: those that a recipe names, and one that is chosen on other items
than those of the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pomona.errors import PomonaError, nearest
from pomona.ledger import Axis
from pomona.recipe.costs import Costs, less
from pomona.recipe.graph import RunFolder, Step
from pomona.recipe.lever import Lever
from pomona.recipe.plan import RunPlan
from pomona.recipe.schema import RESAMPLES
from pomona.recipe.steps.results import read_statistics
from pomona.recipe.steps.tables import read_items
from pomona.recipe.system import Measurement, System
from pomona.stats import Resamples, compare

STACK = "stack"
JOIN = " + "


def add_stacks(plan: RunPlan, levers: Sequence[Lever]) -> None:
    """Measure every step of the stacks that the recipe names."""
    for place, names in enumerate(plan.recipe.stacks):
        add_stack(plan, levers, names, f"stacks[{place}]")


def add_stack(plan: RunPlan, levers: Sequence[Lever], names: Sequence[str], where: str) -> None:
    """Measure the levers on top of each other, each step against the base and the step before; on
    top of another size where the first name is that.
    """
    rungs = [rung.model for rung in plan.recipe.ladder or []]
    system, above = plan.base, list(names)
    if names[0] in rungs:
        system, above = plan.rung(names[0]), list(names[1:])
    for depth, name in enumerate(above, start=len(names) - len(above)):
        before = system
        system = stacked(levers, system, name, where)
        if depth:
            system = replace(system, against=(before.name,))
        plan.measure(system)


def stacked(levers: Sequence[Lever], system: System, name: str, where: str) -> System:
    """A lever's variant on top of a system. Raises PomonaError for one that no lever makes."""
    lever = next((lever for lever in levers if lever.knows(name)), None)
    if lever is None:
        known = [name for lever in levers for name in lever.names()]
        message = f'no lever of this recipe makes "{name}"'
        raise PomonaError(message, where=where, remedy=nearest(name, known))
    made = lever.apply(name, system)
    first = system.name == lever.plan.recipe.base
    called = name if first else f"{system.name}{JOIN}{name}"
    return replace(made, name=called, lever=lever.name if first else STACK)


@dataclass(frozen=True)
class Trial:
    """A lever tried on top of the stack so far, on the validation items: gain over the stack with
    its interval, turned so that positive is better, and costs beyond the stack and beyond the base.
    """

    step: int
    name: str
    gain: float
    ci_low: float
    ci_high: float
    extra: float | None
    beyond_base: float | None
    chosen: bool = False


class Chosen:
    """The stack that a recipe chooses step by step. `pending` gives the steps that must be finished
    before it can go on; what it decides depends on them alone, so that a killed run decides the
    same again.
    """

    def __init__(self, plan: RunPlan, levers: Sequence[Lever], folder: RunFolder) -> None:
        self.plan, self.levers, self.folder = plan, levers, folder
        self.path: list[str] = []
        self.trials: list[Trial] = []
        self.asked: list[Step] = []

    def pending(self) -> Iterator[list[Step]]:
        """Steps to finish, level by level; at the end the path is entered in the plan."""
        spec, plan = self.plan.recipe.stack, self.plan
        if spec is None:
            return
        self._costs = Costs(plan, self.folder, plan.validation)
        now = plan.measured(plan.base, plan.validation)
        yield self._ask([plan.items, *now.answers])
        self._items = read_items(self.folder.result(plan.validation))
        self._refuse_shared()
        names = spec.among or self._all()
        while len(self.path) < spec.steps and (left := [n for n in names if n not in self.path]):
            tried = {name: plan.measured(self._on(now, name), plan.validation) for name in left}
            yield self._ask([step for m in tried.values() for step in m.answers])
            trials = [self._tried(name, m, now) for name, m in tried.items()]
            fit = [trial for trial in trials if self._fits(trial)]
            best = max(fit, key=_worth, default=None)
            self.trials += [replace(trial, chosen=trial is best) for trial in trials]
            if best is None:
                break
            self.path.append(best.name)
            now = tried[best.name]
        if self.path:
            add_stack(plan, self.levers, self.path, "stack")

    def _ask(self, steps: list[Step]) -> list[Step]:
        self.asked += steps
        return steps

    def _all(self) -> list[str]:
        """Every variant of the levers that the base was measured with, but for their controls."""
        systems = self.plan.systems
        names = [name for lever in self.levers for name in lever.names() if name in systems]
        against = {other for name in names for other in systems[name].against}
        return [name for name in names if name not in against and not systems[name].bound]

    def _on(self, now: Measurement, name: str) -> System:
        return stacked(self.levers, now.system, name, "stack.among")

    def _refuse_shared(self) -> None:
        test = set(read_items(self.folder.result(self.plan.items)).ids)
        if shared := len(test & set(self._items.ids)):
            message = f"{shared:,} of {len(self._items):,} validation items are test items"
            raise PomonaError(message, where="validation", remedy="give other rows a `where`")

    def _tried(self, name: str, m: Measurement, now: Measurement) -> Trial:
        task, seed = self.plan.recipe.task, self.plan.recipe.seed
        clusters = np.array(self._items.clusters, dtype=object) if task.cluster else None
        draws = Resamples(len(self._items), task.resamples or RESAMPLES, seed, clusters)
        measure = self.plan.metric(0, self._items.reference_count)
        ours, before = (
            np.stack([self._statistics(step) for step in each.answers]) for each in (m, now)
        )
        difference = compare(measure, ours, before, draws)
        gain, *bounds = (
            sign * value
            for sign in (1 if measure.higher_is_better else -1,)
            for value in (difference.delta, difference.ci_low, difference.ci_high)
        )
        beyond, before_it = (self._costs.extra(one, self._axis) for one in (m, now))
        extra = less(beyond, before_it)
        return Trial(len(self.path) + 1, name, gain, min(bounds), max(bounds), extra, beyond)

    @property
    def _axis(self) -> Axis:
        spec = self.plan.recipe.stack
        assert spec is not None  # it is what asks for a choice
        return spec.cost

    def _statistics(self, step: Step) -> np.ndarray:
        return read_statistics(self.folder.result(step) / "statistics.npy", len(self._items))

    def _fits(self, trial: Trial) -> bool:
        spec = self.plan.recipe.stack
        assert spec is not None
        within = spec.budget is None or (
            trial.beyond_base is not None and trial.beyond_base <= spec.budget
        )
        return trial.ci_low > 0 and within

    def to_json(self) -> dict[str, Any]:
        """The path, and everything that was tried on the way."""
        return {"path": self.path, "trials": [asdict(trial) for trial in self.trials]}


def _worth(trial: Trial) -> tuple[float, float]:
    """Gain for what it costs more; what costs nothing more comes first, what is not known last."""
    if trial.extra is None:
        return -1.0, trial.gain
    return (trial.gain / trial.extra if trial.extra > 0 else np.inf), trial.gain
