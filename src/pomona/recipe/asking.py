"""Steps in which models are asked one request at a time, each answer kept: servers, llama.cpp, and
whatever sees passages or tools, stops early, or is judged by a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pomona.answers import forecaster
from pomona.models import (
    Model,
    Request,
    Spent,
    count_parameters,
    gguf_header,
    locate,
    present,
    resolve,
)
from pomona.recipe.asked import is_gguf, is_served
from pomona.recipe.graph import Estimate, Node, RunInput, Step, Tokens
from pomona.recipe.schema import Recipe
from pomona.recipe.steps import Served
from pomona.recipe.steps.asking import draw_asked, judge
from pomona.recipe.system import System, asks, pool_name
from pomona.sample import REWARDS, Strategy, forecast_answer


class Plan(Protocol):
    """What steps are made for here."""

    recipe: Recipe
    folder: Path
    says: Mapping[str, str]
    systems: dict[str, System]
    of_torch: set[str]
    names: dict[Node, str]
    step: Callable[..., Step]
    on: Callable[[str, Step], str]
    model: Callable[[str], Node]
    answering: Callable[[], Mapping[str, Any]]
    estimate: Callable[..., Estimate]

    @cached_property
    def typical(self) -> Request:
        """What models are asked about a test item, for forecasts."""
        ...

    @cached_property
    def item_count(self) -> float:
        """Test items, for estimates."""
        ...

    @cached_property
    def compared(self) -> dict[str, Any]:
        """Parameters of a step that compares answers."""
        ...


def is_asked(system: System, model: Node) -> bool:
    """Whether a system's answers are asked for one by one: else torch draws those to many items at
    once.
    """
    file = isinstance(model, RunInput) and model.path.is_file()
    early = system.strategy is not None and system.strategy.stop is not None
    return isinstance(model, Served) or file or bool(system.context) or early or system.singly


def find_model(plan: Plan, name: str) -> RunInput | Served:
    """A model that is there before the run; a GGUF file is what llama.cpp answers from, unless a
    lever needs torch. Raises PomonaError where there is none.
    """
    uri = resolve(plan.folder, plan.recipe.uri(name))
    if is_served(uri):
        return Served(name, uri, plan.says[uri], plan.recipe.asked(name).wait_for_server)
    if is_gguf(uri) and name not in plan.of_torch:
        path = Path(uri.removeprefix("gguf:")).expanduser()
        path = path if uri.startswith("gguf:") else present(uri)
        gguf_header(path)  # told now where it is none
        return RunInput(name, path)
    return RunInput(name, locate(uri))


def count_weights(plan: Plan, model: RunInput | Served) -> float | None:
    """Weights of a model that was there before; None where nobody told."""
    if isinstance(model, Served):
        return plan.recipe.asked(model.name).parameters
    if model.path.is_file():
        return float(sum(gguf_header(model.path)[1].values()))
    return float(count_parameters(model.path))


def draw_pools(
    plan: Plan,
    system: System,
    asked: Step,
    model: Node,
    pool: Strategy,
    items: Step,
    count: float | None = None,
) -> Step:
    """A pool of answers to every item; for estimates of so many, or of the test's."""
    count = plan.item_count if count is None else count
    told = {other.strategy for other in plan.systems.values()} | {system.strategy}
    best = any(one and one.select == "best" and one.reward in REWARDS for one in told)
    params, inputs = _seen(plan, system)
    params |= {
        "pool": pool.name,
        "extract": pool.extract,
        "logprobs": best,
        "models": {"model": plan.recipe.asked(plan.names.get(model, "")).settings()},
    }
    cost = plan.estimate("generate", model, count, pool.n, system.lists)
    if isinstance(model, Served):
        drawn = lambda own: forecaster(own, plan.typical)(pool.n)  # noqa: E731
        money = most_money(plan, system, [model], drawn, count)
        cost = replace(cost, asked=count * pool.n, money=money)
    if system.context:
        cost = replace(cost, tokens=_unknown)
    inputs |= {"items": asked, "model": model}
    who = system.name if system.context else plan.names.get(model, system.name)
    name = f"ask {who} for {pool_name(pool)}"
    return plan.step(plan.on(name, items), draw_asked, params, inputs, cost)


def judge_pools(
    plan: Plan, system: System, asked: Step, model: Node, n: int, items: Step, pools: Step
) -> Step:
    """One of the first `n` answers of each pool, by a strategy that asks a model."""
    strategy = system.strategy
    assert strategy is not None
    whole = replace(strategy, n=n)
    params, inputs = _seen(plan, system)
    by_judge = judge_of(plan, system) is not None
    who: dict[str, Node] = {}
    if system.arbiter is None or not by_judge:
        who["model"] = model
    if system.arbiter is not None:
        who["judge"] = plan.model(system.arbiter)
    params |= {
        "strategy": whole.name,
        **plan.compared,
        "models": {
            name: plan.recipe.asked(plan.names.get(node, "")).settings()
            for name, node in who.items()
        },
    }
    inputs |= {"items": asked, "pools": pools, **who}

    def choosing(first: Model, arbiter: Model | None = None) -> Spent:
        drawn = forecaster(first, plan.typical)(n)
        told = forecast_answer([first], plan.typical, whole, arbiter)
        return Spent(
            told.prompt_tokens - drawn.prompt_tokens,
            told.completion_tokens - drawn.completion_tokens,
            money=told.money - drawn.money,
        )

    def tokens(_: Request) -> Tokens:
        spent = choosing(*(Priced(None) for _ in who))
        count = plan.item_count
        return spent.prompt_tokens * count, spent.completion_tokens * count

    cost = Estimate(
        "generate",
        None,
        200.0 * plan.item_count,
        plan.item_count,
        most_money(plan, system, list(who.values()), choosing),
        _unknown if system.context else tokens,
    )
    of = "" if system.name == strategy.name else f" of {system.name}"
    name = f"choose {strategy.name}{of}"
    return plan.step(plan.on(name, items), judge, params, inputs, cost)


def _unknown(_: Request) -> Tokens:
    """Of requests that carry what is not known before."""
    return None, None


class Priced(Model):
    """Stands for a model in forecasts, and is not asked."""

    abilities = frozenset({"generate"})

    def __init__(self, price: Sequence[float] | None) -> None:
        self._price = price or (0.0, 0.0)

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """See `Model`."""
        told = super().cost(prompt, answer, samples)
        tokens = (told.prompt_tokens, told.completion_tokens)
        money = sum(n * price for n, price in zip(tokens, self._price, strict=True)) / 1e6
        return replace(told, money=money)


def most_money(
    plan: Plan,
    system: System,
    models: Sequence[Node],
    spent: Callable[..., Spent],
    count: float | None = None,
) -> float | None:
    """What all test items, or so many others, cost at most by what one does; None where a server
    has no price, and where what requests carry is not known before. What computes here is paid
    nothing.
    """
    asked = {node: plan.recipe.asked(plan.names.get(node, "")) for node in models}
    served = [node for node in models if isinstance(node, Served)]
    if not served:
        return 0.0
    if system.context or any(asked[node].price is None for node in served):
        return None
    count = plan.item_count if count is None else count
    return spent(*(Priced(asked[node].price) for node in models)).money * count


def is_judged(system: System) -> bool:
    """Whether a model is asked for a system's choice."""
    return system.take is None and system.strategy is not None and asks(system.strategy)


def judge_of(plan: Plan, system: System) -> Node | None:
    """The model that judges which of a system's answers is taken; None where none does."""
    strategy = system.strategy
    if strategy is None or system.take is not None or system.weights is None:
        return None
    if strategy.select != "chops" and strategy.utility != "judge":
        return None
    if system.arbiter is not None:
        return plan.model(system.arbiter)
    return system.weights(system.seeds[0])


def _seen(plan: Plan, system: System) -> tuple[dict[str, Any], dict[str, Node]]:
    """Parameters and inputs of what a request carries."""
    options: dict[str, Any] = {}
    code: dict[str, str] = {}
    inputs: dict[str, Node] = {}
    for seen in system.context:
        options |= _together(options, seen.options)
        code |= seen.code
        if seen.index is not None:
            inputs["index"] = seen.index
    params = {
        **plan.answering(),
        "max_new_tokens": plan.recipe.task.max_new_tokens + system.room,
        "context": options,
        "code": code,
    }
    return params, inputs


def _together(options: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    lists = {name: [*options.get(name, ()), *v] for name, v in more.items() if isinstance(v, list)}
    return {**more, **lists}
