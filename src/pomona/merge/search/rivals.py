"""What a searched merge is compared with on the held-out items: the base, the plain mean of the
experts, and the best expert alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pomona.errors import PomonaError, ResourceError
from pomona.merge.search.bench import Bench
from pomona.merge.search.contrast import System
from pomona.merge.search.experts import Expert, alone, base_of, uniform
from pomona.merge.search.judge import Judge
from pomona.merge.search.problem import Problem
from pomona.tasks.bootstrap import value_of
from pomona.tasks.items import Items

BASE, UNIFORM = "base", "uniform"


class Rivals:
    """Scores other models than the searched one; what cannot be scored is left out with a note in
    `notes`.
    """

    def __init__(self, problem: Problem, bench: Bench, judge: Judge) -> None:
        self.problem, self.bench, self.judge = problem, bench, judge
        self.notes: list[str] = []

    def systems(self, valid: Items, test: Items) -> dict[str, System]:
        """The rivals on the test items, the base first where there is one."""
        document = self.problem.document
        base = self.problem.settings.base or base_of(document)
        found = {BASE: self._score(BASE, partial(alone, base), test)} if base is not None else {}
        found[UNIFORM] = self._score(UNIFORM, partial(uniform, document), test)
        chosen = self._best_expert(valid)
        if chosen is not None:
            expert, flops, seconds = chosen
            system = self._score(expert.name, partial(alone, expert.written), test)
            found[f"expert {expert.name}"] = (
                replace(system, once_flops=flops, once_seconds=seconds) if system else None
            )
        return {name: system for name, system in found.items() if system is not None}

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
            return self.bench.score(self.bench.plan(recipe()), self.judge, items)
        except ResourceError:
            raise
        except PomonaError as error:
            note = f"{name} is not compared: {error}"
            self.notes += [note] if note not in self.notes else []
            return None
