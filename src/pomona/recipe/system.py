"""What a run measures: weights, what they see, how an answer is drawn and which one is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pomona.errors import PomonaError
from pomona.recipe.graph import Node, RunInput, Step
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
class Lists:
    """Lists of markers: `taken_off` makes of pools of answers to items pools of answers without
    them; `prompt` and `answer` are the tokens that they take at most. Where answers are begun with
    lists, `begun` says with which, of items as they are asked and a model.
    """

    taken_off: Callable[[Step, Step], Step]
    prompt: int
    answer: int
    begun: Callable[[Step, Node], Step] | None = None


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
    lists: those of markers that its answers begin with; they are taken off before anything chooses.
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
    lists: Lists | None = None
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

    def __post_init__(self) -> None:
        if self.lists and self.context:
            message = "passages, tools and thoughts come between a prompt and its list of markers"
            raise PomonaError(message, where=self.name, remedy="leave them out of stacks with both")
        if self.lists and self.strategy and (wrong := _reading_lists(self.strategy, self.arbiter)):
            remedy = "choose another strategy in stacks with markers"
            raise PomonaError(wrong, where=self.strategy.name, remedy=remedy)

    @property
    def is_greedy(self) -> bool:
        """One greedy answer, as the model wrote it, and nothing to choose from."""
        return self.strategy is None and self.take is None and self.lists is None

    @property
    def room(self) -> int:
        """Tokens that its answers may have beyond those of the task."""
        return self.lists.answer if self.lists else 0

    @property
    def is_plain(self) -> bool:
        """Nothing but weights."""
        more = self.sees or self.states or self.context or self.answers or self.then
        return self.is_greedy and not more

    def trained(self, weights: Weights, seeds: tuple[int, ...]) -> System:
        """The same with other weights, which are trained once for each seed. Raises PomonaError for
        a system that answers with lists of markers, which such a training does not show.
        """
        if self.lists:
            message = "cannot be trained again: it would forget to begin its answers with lists"
            remedy = "in stacks put markers behind whatever else trains"
            raise PomonaError(message, where=self.name, remedy=remedy)
        return replace(self, weights=weights, seeds=seeds)


@dataclass(frozen=True)
class Measurement:
    """A system to be entered: the steps that answered for it, one for each seed of its training,
    and the model they needed, if any.
    """

    system: System
    answers: tuple[Step, ...]
    model: Node | None
    baselines: tuple[str, ...]

    @property
    def variant(self) -> str:
        """The name of the system."""
        return self.system.name


@dataclass(frozen=True)
class TrainingRun:
    """A model of a size trained for so many tokens; None for a checkpoint that was there before,
    which says itself how it was trained.
    """

    size: str
    tokens: int | None
    model: Step | RunInput


def _reading_lists(strategy: Strategy, arbiter: str | None) -> str | None:
    """Why a strategy cannot choose among answers that begin with lists, None where it can."""
    if strategy.stop is not None:
        return "compares answers while they are drawn, with their lists of markers"
    if strategy.select == "xmbr":
        return "asks for more answers, which would begin with lists of markers"
    judged = strategy.select == "chops" or strategy.utility == "judge"
    if judged and arbiter is None:
        return "is judged by the model that answers, which begins all it says with a list"
    return None


def family(strategy: Strategy) -> Strategy:
    """What pools have in common of which the small ones begin the large ones; those of a ladder do
    not.
    """
    if strategy.stop is not None:
        return _stopping(strategy)
    temperature = strategy.temperature or TEMPERATURE
    n = strategy.n if strategy.pool == "ladder" else 2
    if strategy.pool == "greedy":
        return strategy
    return Strategy(pool=strategy.pool, n=n, temperature=temperature, **strategy.sampling)


def _stopping(strategy: Strategy) -> Strategy:
    """A pool that ends where its answers agree, by what the strategy takes for agreement."""
    drawn = {"stop": strategy.stop, "round": strategy.round, "pool": strategy.pool, "n": strategy.n}
    drawn |= {"temperature": strategy.temperature, **strategy.sampling}
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
