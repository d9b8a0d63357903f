"""Searches find a planted optimum, go on after a kill as if there had been none, and never score a
point twice.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.merge.plan import MergePlan
from pomona.merge.search.space import Space
from pomona.merge.search.trials import Optimum, Score, search

BOWL = Space.of({"a": (0.0, 1.0), "b": (-1.0, 1.0)})
MIXED = Space.of({"a": (0.0, 2.0), "b": [1.0, 2.0, 3.0]})


def plan_of(values: Mapping[str, Any]) -> MergePlan:
    return MergePlan((), (), (), 0, {}, None, dict(values))


@dataclass
class Bowl:
    """Lowest, at 1, where a is 0.7 and b is 0.2; `killed` is the call that ends the process."""

    higher_is_better: bool = False
    signature: str = "bowl"
    killed: int = 0
    seen: list[tuple[Any, ...]] = field(default_factory=list)

    def __call__(self, plan: MergePlan) -> Score:
        self.seen.append(tuple(plan.recipe.values()))
        if len(self.seen) == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = 1 + (plan.recipe["a"] - 0.7) ** 2 + (plan.recipe["b"] - 0.2) ** 2
        return Score(-loss if self.higher_is_better else loss, 10.0, 2)


def shown(found: Optimum) -> Any:
    return found.best.values, [(trial.values, trial.value) for trial in found.trials]


@pytest.mark.parametrize(
    ("method", "trials", "near"),
    [("cma", 60, 1.005), ("optuna", 40, 1.02), ("grid", 36, 1.02), ("random", 60, 1.05)],
)
@pytest.mark.parametrize("higher", [False, True])
def test_a_planted_optimum_is_found(
    tmp_path: Path, method: str, trials: int, near: float, higher: bool
) -> None:
    optimum = search(
        plan_of, BOWL, Bowl(higher), method=method, trials=trials, seed=1, log=tmp_path / "log"
    )
    assert abs(optimum.best.value or 0) < near
    assert len(optimum.trials) <= trials
    assert (optimum.flops, optimum.tokens) == (10.0 * len(optimum.trials), 2 * len(optimum.trials))


@pytest.mark.parametrize("method", ["cma", "optuna", "random", "grid"])
def test_choices_and_ranges_together(tmp_path: Path, method: str) -> None:
    bowl = Bowl()
    optimum = search(plan_of, MIXED, bowl, method=method, trials=30, seed=2, log=tmp_path / "log")
    assert optimum.best.values["b"] == 1.0
    assert len(set(bowl.seen)) == len(bowl.seen) == len(optimum.trials)


@pytest.mark.parametrize("method", ["cma", "optuna", "random", "grid", "greedy"])
def test_a_killed_search_ends_like_a_straight_one(tmp_path: Path, method: str) -> None:
    straight = search(
        plan_of, BOWL, Bowl(), method=method, trials=16, seed=3, log=tmp_path / "straight"
    )
    for call in (1, 4):
        child = os.fork()
        if child == 0:
            search(
                plan_of,
                BOWL,
                Bowl(killed=call),
                method=method,
                trials=16,
                seed=3,
                log=tmp_path / "killed",
            )
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status in (signal.SIGKILL, 0)
    before = (tmp_path / "killed").read_text().splitlines()[1:]
    with (tmp_path / "killed").open("a") as stream:
        stream.write('{"values": {"a": 0.')  # a line the kill cut short
    bowl = Bowl()
    again = search(plan_of, BOWL, bowl, method=method, trials=16, seed=3, log=tmp_path / "killed")
    assert shown(again) == shown(straight)
    assert len(bowl.seen) == len(again.trials) - len(before)
    one, other = (
        [json.loads(line).get("values") for line in (tmp_path / name).read_text().splitlines()]
        for name in ("straight", "killed")
    )
    assert one == other


@pytest.mark.parametrize("method", ["cma", "optuna", "random"])
def test_more_trials_go_on_from_the_log(tmp_path: Path, method: str) -> None:
    first = search(plan_of, BOWL, Bowl(), method=method, trials=8, seed=3, log=tmp_path / "log")
    bowl = Bowl()
    more = search(plan_of, BOWL, bowl, method=method, trials=14, seed=3, log=tmp_path / "log")
    assert shown(more)[1][:8] == shown(first)[1]
    assert len(bowl.seen) == 6


def test_the_middle_is_tried_first(tmp_path: Path) -> None:
    for method in ("cma", "optuna", "random"):
        optimum = search(plan_of, BOWL, Bowl(), method=method, trials=1, log=tmp_path / method)
        assert optimum.best.values == {"a": 0.5, "b": 0.0}


def test_a_small_space_is_searched_to_its_end(tmp_path: Path) -> None:
    space = Space.of({"a": [0.0, 1.0], "b": [0.0, 1.0]})
    for method in ("cma", "optuna", "random", "grid"):
        assert (
            len(
                search(
                    plan_of, space, Bowl(), method=method, trials=50, log=tmp_path / method
                ).trials
            )
            == 4
        )


GOOD = {"german": 3.0, "french": 2.0, "welsh": 1.5, "noise": -4.0}


def soup(plan: MergePlan) -> Score:
    """The mean worth of the chosen experts, with a bonus for each."""
    chosen = [name for name, switch in plan.recipe.items() if switch]
    return Score(sum(GOOD[name] for name in chosen) / len(chosen) + len(chosen))


class Soup:
    signature, higher_is_better = "soup", True

    def __call__(self, plan: MergePlan) -> Score:
        return soup(plan)


def test_greedy_soup_takes_in_what_helps_and_nothing_else(tmp_path: Path) -> None:
    space = Space.of({name: [0.0, 1.0] for name in GOOD})
    optimum = search(plan_of, space, Soup(), method="greedy", trials=50, log=tmp_path / "log")
    assert optimum.best.values == {"german": 1.0, "french": 1.0, "welsh": 1.0, "noise": 0.0}
    assert len(optimum.trials) == len(GOOD) + len(GOOD) - 1
    every = [
        dict(zip(GOOD, bits, strict=True))
        for bits in itertools.product([0.0, 1.0], repeat=4)
        if any(bits)
    ]
    assert optimum.best.value == max(soup(plan_of(values)).value for values in every)


class Fragile(Bowl):
    def __call__(self, plan: MergePlan) -> Score:
        if plan.recipe["a"] < 0.5:
            raise PomonaError(
                "the weights sum to zero", where="model.norm.weight", remedy="choose others"
            )
        return super().__call__(plan) if plan.recipe["a"] < 0.9 else Score(float("nan"))


def test_candidates_that_cannot_be_merged_count_as_the_worst(tmp_path: Path) -> None:
    optimum = search(
        plan_of, BOWL, Fragile(), method="cma", trials=30, seed=1, log=tmp_path / "log"
    )
    problems = {trial.problem for trial in optimum.trials if trial.value is None}
    assert "model.norm.weight: the weights sum to zero — choose others" in problems
    assert optimum.best.values["a"] >= 0.5
    again = search(plan_of, BOWL, Fragile(), method="cma", trials=30, seed=1, log=tmp_path / "log")
    assert shown(again) == shown(optimum)
    with pytest.raises(
        PomonaError,
        match=r"none of 3 candidates could be merged and scored; the last: .*sum to zero",
    ):
        search(
            plan_of,
            Space.of({"a": [0.0, 0.1, 0.2]}),
            Fragile(),
            method="grid",
            trials=5,
            log=tmp_path / "none",
        )


def test_bad_wishes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(
        PomonaError, match='no way of searching called "cmaes" — did you mean "cma"'
    ):
        search(plan_of, BOWL, Bowl(), method="cmaes", log=log)
    with pytest.raises(PomonaError, match="trials: 0 trials find nothing"):
        search(plan_of, BOWL, Bowl(), trials=0, log=log)
    with pytest.raises(
        PomonaError, match="a grid over a, b has at least 4 points, and there are 3 trials"
    ):
        search(plan_of, BOWL, Bowl(), method="grid", trials=3, log=log)
    assert not log.exists()
    search(plan_of, BOWL, Bowl(), trials=1, log=log)
    with pytest.raises(
        PomonaError, match=r"holds the beginning of another search \(objective differ\)"
    ):
        search(plan_of, BOWL, Bowl(signature="other"), trials=1, log=log)


def test_the_global_random_state_is_left_alone(tmp_path: Path) -> None:
    import numpy as np

    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    for method in ("cma", "optuna", "random"):
        search(plan_of, BOWL, Bowl(), method=method, trials=9, log=tmp_path / method)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
