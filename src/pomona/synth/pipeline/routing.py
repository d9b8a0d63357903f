"""The policy of a recipe, and what rewards and routes learn on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pomona.answers import Budget
from pomona.errors import PomonaError
from pomona.synth.pipeline.asking import Asking, Draw, Helper
from pomona.synth.pipeline.case import Case
from pomona.synth.pipeline.inputs import Input
from pomona.synth.pipeline.judging import parts_of
from pomona.synth.pipeline.pool import Pool
from pomona.synth.pipeline.recipe import SynthRecipe
from pomona.synth.rewards import Reward, RewardsSpec, RoundTrip, reward_from
from pomona.synth.routing import (
    Every,
    Fixed,
    Learned,
    Policy,
    Pool as Answers,
    Random,
    Router,
    Single,
    learn_router,
    measure_fixed,
)
from pomona.synth.teachers import Candidate, Lesson


class Guides:
    """The reward and the policy of a recipe. Where one of them learns, all teachers answer the
    validation rows first; what these cost is in the tally of `asking`.
    """

    def __init__(self, recipe: SynthRecipe, pool: Pool, folder: Path, asking: Asking) -> None:
        self._recipe, self._pool, self._folder, self.asking = recipe, pool, folder, asking
        self._answers: list[Candidate] | None = None
        self._rewards: list[Reward] = []
        self.reward = self._fitted(recipe.rewards) if recipe.rewards else None
        self.policy = self._policy()
        for reward in self._rewards:
            asking.tally.charge(parts_of(reward), asking.counted)

    def close(self) -> None:
        """Close what rewards have open."""
        for reward in self._rewards:
            for part in parts_of(reward):
                getattr(part, "close", lambda: None)()

    def forget(self) -> None:
        """Have rewards ask anew what a pilot asked: whoever is asked counts it."""
        for part in parts_of(self.reward) if self.reward is not None else ():
            if isinstance(part, RoundTrip):
                part.forget()

    def _fitted(self, spec: RewardsSpec) -> Reward:
        # Later others ask, of whom each knows what is left of the budget.
        teachers = {n: Helper(n, self._pool, lambda: self.asking) for n in self._pool.teachers}
        store = self._folder / "rewards.db"
        reward = reward_from(spec, teachers=teachers, store=store, left=self._left)
        self._rewards.append(reward)
        if self._recipe.validation is None:
            return reward
        if spec.scale == "deviation" and len(spec.chosen) > 1:
            return reward.fit(self.answers)
        return reward.fit(self._human()) if spec.length_ratio else reward

    def _left(self) -> tuple[Budget | None, str | None]:
        return self.asking.left()

    def _human(self) -> list[Candidate]:
        """Validation rows with what humans answered, for what learns from these alone."""
        assert self._recipe.validation is not None
        asked = (row.asked for row in Input(self._recipe.validation).rows())
        return [
            Candidate(row, Lesson(row.id, row.reference, "human", None))
            for row in asked
            if row.reference
        ]

    @property
    def answers(self) -> list[Candidate]:
        """What all teachers answer to the validation rows."""
        if self._answers is None:
            assert self._recipe.validation is not None
            cases = [Case(row) for row in Input(self._recipe.validation).rows()]
            wanted: dict[Draw, Sequence[Case]] = {}
            for name in self._names():
                mine = [one for one in cases if self._pool.teachers[name].knows(one.row.asked)]
                if mine:
                    wanted[name, 0] = mine
            self.asking.ask(wanted)
            self._answers = [one for case in cases for one in case.candidates]
            if not self._answers:
                remedy = "look at the teachers, or at the rows of `validation`"
                raise PomonaError("no row was answered", where="validation", remedy=remedy)
        return self._answers

    def _names(self) -> list[str]:
        names = [name for name in self._recipe.routed if name in self._pool.teachers]
        if not names:
            told = "; ".join(f"{name} {why}" for name, why in self._pool.absent.items())
            raise PomonaError(f"no teacher is left: {told}", where="route", remedy="add one")
        return names

    def _policy(self) -> Policy:
        route, names = self._recipe.route, self._names()
        if route.by == "single":
            return Single(names[0])
        if route.by == "random":
            return Random(names, self._recipe.seed)
        if route.by in ("reward", "all"):
            return Every(names, "best" if route.by == "reward" else "all")
        if route.by == "fixed" and route.table is not None:
            return Fixed(route.table, names)
        if route.router is not None:
            router = Router.load(route.router)
            if missing := [one for one in router.teachers if one not in self._recipe.teachers]:
                told = f"knows teachers that the recipe has not: {', '.join(missing)}"
                raise PomonaError(told, where=route.router, remedy="name them under teachers")
            return Learned(router)
        spec = (
            route.rewards or self._recipe.rewards or RewardsSpec.model_validate({"reference": True})
        )
        reward = self._fitted(spec)
        pool = Answers.of(self.answers)
        scores = reward.score(pool.candidates)
        return (
            measure_fixed(pool, scores)
            if route.by == "fixed"
            else Learned(learn_router(pool, scores))
        )
