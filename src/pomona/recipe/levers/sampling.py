"""The sampling lever: pools that strategies share, and the choice of each strategy."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Annotated

from pydantic import AfterValidator, Field

from pomona.documents import StrictModel
from pomona.errors import PomonaError
from pomona.recipe.fields import Mistakes, Text, Texts, checked
from pomona.recipe.lever import Lever
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.sampling import BOUNDS, RANDOM
from pomona.recipe.system import System, family, pool_name
from pomona.sample import KEPT, Strategy, parse_strategy


def _strategies(names: list[str]) -> list[str]:
    mistakes = ((place, _mistake(names, place)) for place in range(len(names)))
    return checked(names, (((place,), text) for place, text in mistakes if text))


def _mistake(names: list[str], place: int) -> str:
    """What is wrong with one of several strategies, if anything."""
    name = names[place]
    try:
        strategy = parse_strategy(name)
    except PomonaError as error:
        return f"{error.message}: {error.remedy}"
    if strategy.reward in KEPT:
        told = "`pomona sample` and `pomona serve` have it"
        return f'"{strategy.reward}" is of the markers that a request is told: {told}'
    if strategy.n < 2:
        return f'"{name}" has one answer: give a pool of at least 2, such as hedged5-mbr'
    for other in names[:place]:
        # A name before it may be wrong, which is said at its own place.
        with suppress(PomonaError):
            if parse_strategy(other) == strategy:
                return f'"{name}" is there twice'
    return ""


class Samples(StrictModel):
    """Answer with a pool of samples and a choice among them."""

    strategies: Annotated[Texts, AfterValidator(_strategies)] = Field(
        description=(
            "How many answers are drawn and which is taken, by name: hedged5-mbr, "
            "sample16-best, hedged8-mbr-t1-minp0.1, sample16-vote-stop0.6, …"
        )
    )
    judge: Text | None = None
    """The model that judges, for hedged5-chops, hedged5-mbr-judge and the like; the one that
    answers when left out.
    """


class SamplingLever(Lever):
    """Measure every strategy against the base and a random choice from its pool, and what the pool
    could win or lose.
    """

    name, Spec = "sampling", Samples
    spec: Samples

    @classmethod
    def mistakes(cls, spec: Samples, recipe: Recipe) -> Mistakes:
        """A judge behind a server is paid too."""
        if (judge := spec.judge) and recipe.unpriced(judge):
            text = f'a budget of money needs the price of "{judge}": give it under "models"'
            yield ("judge",), text

    def names(self) -> Iterable[str]:
        """Every strategy, and of every pool a random choice and its bounds."""
        return self._variants

    def knows(self, name: str) -> bool:
        """Any strategy that a recipe can hold: a stack draws another pool than the base."""
        return name in self._variants or not _mistake([name], 0)

    def apply(self, name: str, system: System) -> System:
        """The system with a pool of answers, and a choice among them."""
        strategy, how = self._variants.get(name) or (parse_strategy(name), "strategy")
        own, metric = how == "strategy", self.plan.metrics[0]
        kept = system.take if own and strategy.select == "mbr" else None  # a choice among more
        take = kept if own else partial(self.plan.choose, strategy, how)
        judge = metric if own and strategy.select == "mbr" and strategy.utility == metric else None
        chosen = replace(
            system,
            strategy=strategy,
            take=take,
            judge=judge,
            bound=how in BOUNDS,
            arbiter=self.spec.judge,
            answers=None,
        )
        known = f"{pool_name(strategy)}/{RANDOM}"
        return replace(chosen, against=(known,) if own and known in self._variants else ())

    @cached_property
    def _variants(self) -> dict[str, tuple[Strategy, str]]:
        """The strategy behind each name, and how it takes an answer from its pool: pool by pool, as
        the pools are drawn.
        """
        named = {name: parse_strategy(name) for name in self.spec.strategies}
        pools: dict[Strategy, dict[str, Strategy]] = {}
        for strategy in named.values():
            pools.setdefault(family(strategy), {})[strategy.name] = strategy
        variants: dict[str, tuple[Strategy, str]] = {}
        for mine in pools.values():
            variants |= {name: (strategy, "strategy") for name, strategy in mine.items()}
            for strategy in mine.values():
                for other in (RANDOM, *BOUNDS):
                    variants.setdefault(f"{pool_name(strategy)}/{other}", (strategy, other))
        return variants
