"""What a run measures: weights, what they see, how an answer is drawn and which one is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pomona.recipe.graph import Node, Step
from pomona.sample import REWARDS, TEMPERATURE, Strategy

Weights = Callable[[int], Node]
See = Callable[[Step], Step]
Answer = Callable[[Step, int], Step]
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
class Seen:
    """What a model sees beside its prompt: `options` of `pomona.sample.context.open_contexts`, the
    index of passages, where one is searched, and hashes of a user's code behind it.
    """

    options: Mapping[str, Any]
    index: Step | None = None
    code: Mapping[str, str] = field(default_factory=dict)


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
    context: passages, tools and the like, which its requests carry and its answers are read with.
    strategy: how many answers are drawn, and which is taken; one greedy answer where it is None.
    arbiter: the model that judges, where the strategy asks one; its own when None.
    take: the choice where it is not the strategy's own: from the number of answers that it may
        choose from, the items and the pools to answers.
    then: what happens to the answers, one after the other: from items, answers and the seed of the
        weights to answers.
    answers: from items and the seed of the weights to answers, where they come in another way, as
        those of controls.
    singly: whether its prompts are conversations, each of which is asked by itself.
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
    context: tuple[Seen, ...] = ()
    strategy: Strategy | None = None
    arbiter: str | None = None
    take: Take | None = None
    then: tuple[Then, ...] = ()
    answers: Answer | None = None
    singly: bool = False
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
        more = self.sees or self.states or self.context or self.answers or self.then
        return self.is_greedy and not more

    def trained(self, weights: Weights, seeds: tuple[int, ...]) -> System:
        """The same with other weights, which are trained once for each seed."""
        return replace(self, weights=weights, seeds=seeds)


def family(strategy: Strategy) -> Strategy:
    """What pools have in common of which the small ones begin the large ones; those of a ladder do
    not.
    """
    if strategy.stop is not None:
        return _stopping(strategy)
    temperature = strategy.temperature or TEMPERATURE
    n = strategy.n if strategy.pool == "ladder" else 2
    pool, top_p, min_p = strategy.pool, strategy.top_p, strategy.min_p
    if pool == "greedy":
        return strategy
    return Strategy(pool=pool, n=n, temperature=temperature, top_p=top_p, min_p=min_p)


def _stopping(strategy: Strategy) -> Strategy:
    """A pool that ends where its answers agree, by what the strategy takes for agreement."""
    drawn = {"stop": strategy.stop, "round": strategy.round, "pool": strategy.pool, "n": strategy.n}
    drawn |= {name: getattr(strategy, name) for name in ("temperature", "top_p", "min_p")}
    if strategy.select == "vote":
        return Strategy(select="vote", extract=strategy.extract, **drawn)
    if strategy.select in {"mbr", "xmbr"} and strategy.utility in {"chrf", "bleu"}:
        return Strategy(select="mbr", utility=strategy.utility, **drawn)
    return Strategy(**drawn)


def asks(strategy: Strategy) -> bool:
    """Whether models are asked for its choice."""
    judged = strategy.select in {"xmbr", "chops"} or strategy.utility in {"embedding", "judge"}
    return judged or strategy.reward not in REWARDS


def pool_name(strategy: Strategy) -> str:
    """The pool's part of a strategy's name: hedged5, sample16-t1-minp0.1."""
    temperature = None if strategy.temperature == TEMPERATURE else strategy.temperature
    pool = replace(family(strategy), n=strategy.n, temperature=temperature)
    return pool.name.replace("-first", "")
