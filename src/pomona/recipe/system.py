"""What a run measures: weights, what they see, how an answer is drawn and which one is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pomona.recipe.graph import Node, Step
from pomona.sample import TEMPERATURE, Strategy

Weights = Callable[[int], Node]
See = Callable[[Step], Step]
Take = Callable[[int, Step, Step], Step]
Then = Callable[[Step, Step, int], Step]


@dataclass(frozen=True)
class States:
    """A datastore of a model's states, looked up at every token: `store` makes it of the model,
    `settings` are those of `pomona.memory.Interpolation`.
    """

    store: Callable[[Node], Step]
    settings: Mapping[str, float]


@dataclass(frozen=True)
class System:
    """A name in the ledger and everything its answers come from. A lever makes one out of another
    by `dataclasses.replace`.

    name, lever: what the entries say; the one that applies a lever sets both.
    weights: from the seed of a training to the model; None where no model is asked.
    seeds: those that the weights are trained with; one where nothing is.
    sees: what happens to the items before they are asked, one after the other: step to step, with
        other prompts.
    states: those of the model that are looked up at every token.
    strategy: how many answers are drawn, and which is taken; one greedy answer where it is None.
    take: the choice where it is not the strategy's own: from the number of answers that it may
        choose from, the items and the pools to answers.
    then: what happens to the answers, one after the other: from items, answers and the seed of the
        weights to answers.
    answers: from items to answers, where no model is asked.
    against: the variants it is compared with, beside the base and the system it was made from.
    bound: no system can reach it, because the references choose.
    judge: the metric that the choice optimises, if it does.
    """

    name: str
    lever: str
    weights: Weights | None = None
    seeds: tuple[int, ...] = (0,)
    sees: tuple[See, ...] = ()
    states: States | None = None
    strategy: Strategy | None = None
    take: Take | None = None
    then: tuple[Then, ...] = ()
    answers: See | None = None
    against: tuple[str, ...] = ()
    bound: bool = False
    judge: Any = None

    @property
    def is_greedy(self) -> bool:
        """One greedy answer, and nothing to choose from."""
        return self.strategy is None and self.take is None

    @property
    def is_plain(self) -> bool:
        """Nothing but weights."""
        more = self.sees or self.states or self.answers or self.then
        return self.is_greedy and not more

    def trained(self, weights: Weights, seeds: tuple[int, ...]) -> System:
        """The same with other weights, which are trained once for each seed."""
        return replace(self, weights=weights, seeds=seeds)


def family(strategy: Strategy) -> Strategy:
    """What pools have in common of which the small ones begin the large ones; those of a ladder do
    not.
    """
    temperature = strategy.temperature or TEMPERATURE
    n = strategy.n if strategy.pool == "ladder" else 2
    pool, top_p, min_p = strategy.pool, strategy.top_p, strategy.min_p
    if pool == "greedy":
        return strategy
    return Strategy(pool=pool, n=n, temperature=temperature, top_p=top_p, min_p=min_p)


def pool_name(strategy: Strategy) -> str:
    """The pool's part of a strategy's name: hedged5, sample16-t1-minp0.1."""
    temperature = None if strategy.temperature == TEMPERATURE else strategy.temperature
    pool = replace(family(strategy), n=strategy.n, temperature=temperature)
    return pool.name.replace("-first", "")
