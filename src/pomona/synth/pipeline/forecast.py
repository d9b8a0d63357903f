"""What a run will cost, told from a few of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.synth.pipeline.inputs import Input, InputRow, Survey
from pomona.synth.pipeline.judging import Judging, TestItems
from pomona.synth.pipeline.pool import Pool
from pomona.synth.pipeline.recipe import SynthRecipe
from pomona.synth.pipeline.tally import COSTS, TOKENS, Costs, Tally, add_costs
from pomona.synth.rewards import PaidReward, RewardsSpec, reward_from
from pomona.synth.teachers import Assignment

_COUNTED = 200  # rows of which prompts are counted
_LOOKED = 20_000  # rows of which copies are looked for


@dataclass(frozen=True)
class Forecast:
    """What all rows will cost, by the teachers of `piloted` of them: `teachers` has by name what is
    in `COSTS`, null where it is not known, and `seconds` is about how long all of it takes. Where
    none was asked these are the most that they can cost.
    """

    rows: int
    piloted: int
    teachers: Mapping[str, Mapping[str, float | None]]
    seconds: float | None
    budget: Mapping[str, float] = field(default_factory=dict)
    rewards: Mapping[str, float | None] = field(default_factory=lambda: dict.fromkeys(COSTS, 0))

    @property
    def total(self) -> dict[str, float | None]:
        """All teachers and rewards together."""
        every = [*self.teachers.values(), self.rewards]
        each = [one for one in every if any(v != 0 for v in one.values())]
        known = {kind: [one[kind] for one in each] for kind in COSTS}
        return {
            kind: None if None in values else sum(value or 0 for value in values)
            for kind, values in known.items()
        }

    def beyond(self) -> list[str]:
        """The limits of the budget that the run is expected to meet."""
        total = self.total
        total["tokens"] = sum(total[kind] or 0 for kind in TOKENS)
        total["seconds"] = self.seconds
        return [name for name, most in self.budget.items() if (total[name] or 0) > most]

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "rows": self.rows,
            "pilot": self.piloted,
            "teachers": {name: dict(one) for name, one in self.teachers.items()},
            "rewards": dict(self.rewards),
            "total": self.total,
            "seconds": self.seconds,
            "beyond_budget": self.beyond(),
        }


def distinct(
    recipe: SynthRecipe, rows: Input, survey: Survey, tests: TestItems
) -> NDArray[np.bool_]:
    """Which rows are asked about, bool `[n]`: no near copies of earlier ones or of a test's, where
    the recipe leaves these out. Of many rows the first are looked at, and stand for all.
    """
    judging = Judging(recipe, None, Tally(), tests)
    apart = np.ones(min(survey.count, _LOOKED), bool)
    for row in islice(rows.rows(), len(apart)):
        asked = row.asked
        if judging.repeats(asked.lang, asked.text) or tests.alike([asked.text])[0]:
            apart[row.place] = False
        else:
            judging.accept(asked.lang, asked.text, "", first=True)
    return apart


def sampled(survey: Survey, count: int, apart: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """The places of so many rows that stand for all (those that are apart): by language and length
    in order, in equal steps from the middle of the first.
    """
    order = np.lexsort((np.arange(survey.count), survey.lengths, survey.langs))
    if apart is not None:
        beyond = order >= len(apart)
        order = order[beyond | apart[np.where(beyond, 0, order)]]
    count = min(count, len(order))
    steps = (np.arange(count) + 0.5) * len(order) / max(1, count)
    return np.sort(order[steps.astype(np.intp)])


def chosen_rows(rows: Input, places: NDArray[np.intp]) -> Iterator[InputRow]:
    """The rows at these places."""
    wanted = set(places.tolist())
    return (row for row in rows.rows() if row.place in wanted)


def forecast(
    survey: Survey,
    places: NDArray[np.intp],
    share: float,
    pilot: Tally,
    seconds: float,
    budget: Mapping[str, float],
) -> Forecast:
    """What a pilot on these places tells of all rows: of the share of them that is asked about."""
    factor = share * survey.count / max(1, len(places))
    teachers = {
        name: {kind: _grown(one.costs[kind], factor) for kind in COSTS}
        for name, one in pilot.teachers.items()
    }
    rewards = {kind: _grown(pilot.rewards[kind], factor) for kind in COSTS}
    return Forecast(survey.count, len(places), teachers, seconds * factor, budget, rewards)


def bounds(recipe: SynthRecipe, pool: Pool, rows: Input, survey: Survey) -> Forecast:
    """The most that all rows can cost where nothing is asked: answers of full length, of all
    teachers that may be asked, and to judge these. What programs take is not known before.
    """
    places = sampled(survey, _COUNTED)
    asked = [row.asked for row in chosen_rows(rows, places)]
    factor = survey.count / len(places)
    teachers: dict[str, dict[str, float | None]] = {}
    for name in recipe.routed:
        if name in pool.teachers:
            mine = [row for row in asked if pool.teachers[name].knows(row)]
            most = pool.teachers[name].at_most(mine)
            teachers[name] = {kind: _grown(most[kind], factor) for kind in COSTS}
    limits = recipe.budget.model_dump(exclude_none=True)
    rewards = {kind: _grown(value, factor) for kind, value in _judged(recipe, pool, asked).items()}
    return Forecast(survey.count, 0, teachers, None, limits, rewards)


def _judged(recipe: SynthRecipe, pool: Pool, rows: Sequence[Assignment]) -> Costs:
    """The most that it costs to judge the answers of all teachers to rows."""
    costs: Costs = dict.fromkeys(COSTS, 0)
    paid = {} if recipe.rewards is None else recipe.rewards.paid
    if not paid:
        return costs
    known = [pool.teachers[name] for name in recipe.routed if name in pool.teachers]
    answers = [pair for one in known for pair in one.answers(rows)]
    for name, spec in paid.items():
        reward = reward_from(RewardsSpec.model_validate({name: spec}))
        assert isinstance(reward, PaidReward)
        add_costs(costs, asdict(reward.at_most(answers)))
    return costs


def _grown(value: float | None, factor: float) -> float | None:
    if value is None:
        return None
    return round(value * factor) if isinstance(value, int) else value * factor
