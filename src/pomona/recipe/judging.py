"""Steps in which the answers of systems are compared with the base's, by a judge or by votes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

from pomona.answers import forecaster
from pomona.arena import pair_requests
from pomona.errors import PomonaError, nearest
from pomona.models import Model, Request, Spent
from pomona.recipe.asking import Plan, Priced, most_money
from pomona.recipe.fields import WinRate
from pomona.recipe.graph import Estimate, Node, RunInput, Step
from pomona.recipe.inputs import record_sources
from pomona.recipe.steps import Served
from pomona.recipe.steps.winning import count_wins, judge_wins, read_polls
from pomona.recipe.system import System


class Planned(Plan, Protocol):
    """What steps are compared here."""

    measurements: Callable[..., list[Any]]
    measured: Callable[[System, Step], Any]
    seeded: Callable[[System, int], str]
    called: Callable[[str], str]
    count: Callable[..., float]
    parameters: Callable[[Node], float | None]

    @cached_property
    def items(self) -> Step:
        """The test items."""
        ...

    @cached_property
    def base(self) -> System:
        """What systems are compared with."""
        ...


def judged(plan: Planned) -> list[Any]:
    """The measurements whose answers are compared with the base's. Raises PomonaError for a name
    that is none.
    """
    asked = plan.recipe.task.win_rate
    if asked is None:
        return []
    found = [m for m in plan.measurements() if m.variant != plan.recipe.base]
    if asked.variants is None:
        return [m for m in found if not m.system.bound]
    known = {m.variant: m for m in found}
    names = [plan.called(name) for name in asked.variants]
    for name in names:
        if name not in known:
            message, remedy = f'"{name}" is not measured', nearest(name, known)
            if name == plan.recipe.base:
                message = f'"{name}" is the base, and every win rate is against it'
                remedy = "leave it out: it has 50 %"
            raise PomonaError(message, where="task.win_rate", remedy=remedy)
    return [known[name] for name in dict.fromkeys(names)]


def poll_step(plan: Planned) -> Step | None:
    """The step that reads the votes, by which mistakes in them are told first; None without any."""
    asked = plan.recipe.task.win_rate
    if asked is None or asked.votes is None:
        return None
    sources = dict.fromkeys(record_sources(asked.votes, plan.folder))
    votes = {f"votes-{i:04d}": RunInput(path.name, path) for i, path in enumerate(sources)}
    return plan.step("read the votes", read_polls, {}, votes)


def win_steps(plan: Planned, m: Any) -> list[Step]:
    """The steps that compare the answers of a measurement with the base's, one for each training of
    its system.
    """
    asked = plan.recipe.task.win_rate
    assert asked is not None
    base = plan.measured(plan.base, plan.items).answers[0]
    names = [plan.seeded(m.system, seed) for seed in m.system.seeds]
    if (votes := poll_step(plan)) is not None:
        bases = _called(plan.base, plan.base.seeds[0])
        inputs = {"items": plan.items, "votes": votes, "base": base}
        return [
            plan.step(
                f"count votes on {name}",
                count_wins,
                {"systems": _called(m.system, seed), "bases": bases},
                {**inputs, "answers": answers},
            )
            for name, seed, answers in zip(names, m.system.seeds, m.answers, strict=True)
        ]
    return [
        _judging(plan, asked, name, answers, base)
        for name, answers in zip(names, m.answers, strict=True)
    ]


def _called(system: System, seed: int) -> list[str]:
    """What votes call a system of one training: SYSTEM#SEED, and SYSTEM that of the first one."""
    return [f"{system.name}#{seed}", *([system.name] if seed == system.seeds[0] else [])]


def _judging(plan: Planned, asked: WinRate, name: str, answers: Step, base: Step) -> Step:
    assert asked.judge is not None
    judge, recipe = plan.model(asked.judge), plan.recipe
    params = {
        **plan.answering(),
        "max_new_tokens": recipe.task.max_new_tokens,
        "context": {},
        "models": {"judge": recipe.asked(asked.judge).settings()},
        "template": asked.template,
        "free": asked.free,
        "flips": asked.flips,
        "per_group": asked.per_group,
    }
    items = plan.item_count
    if asked.per_group is not None:
        items = min(items, plan.count("test items", recipe.task, asked.per_group))
    typical = plan.typical
    text = typical.prompt or "\n".join(str(one.get("content")) for one in typical.messages)
    both = pair_requests(text, text, text, template=asked.template, free=asked.free)

    def spent(model: Model) -> Spent:
        return sum((forecaster(model, one)(1) for one in both), Spent())

    def tokens(_: Request) -> tuple[float, float]:
        told = spent(Priced(None))
        return told.prompt_tokens * items, told.completion_tokens * items

    served = isinstance(judge, Served)
    money = most_money(plan, plan.base, [judge], spent)
    weights = None if served else plan.parameters(judge)
    cost = Estimate(
        "generate",
        None if weights is None else 2.0 * weights * sum(tokens(typical)),
        100.0 * items,
        2 * items if served else 0.0,
        None if money is None else money * items / plan.item_count,
        tokens,
    )
    inputs = {"items": plan.items, "answers": answers, "base": base, "judge": judge}
    return plan.step(f"judge {name} by {asked.judge}", judge_wins, params, inputs, cost)
