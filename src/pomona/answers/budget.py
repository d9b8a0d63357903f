"""What answers may cost: forecasts, budgets, and the account that keeps to one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import cache

from pomona.errors import PomonaError, ResourceError
from pomona.models import Model, Request, Spent

Forecast = Callable[[int], Spent]


@dataclass(frozen=True)
class Budget:
    """Limits on prompt and answer tokens together, FLOPs, money and seconds of wall time; None is
    no limit.

    A PomonaError for a limit that is not a positive number.
    """

    tokens: int | None = None
    flops: float | None = None
    money: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is not None and not 0 < limit < math.inf:
                remedy = "give a positive number, or leave it out for no limit"
                raise PomonaError(f"{name} is {limit}", where="budget", remedy=remedy)

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None}


class BudgetSpent(ResourceError):
    """A budget was spent before there was any answer. `limit` is the name of the limit that was
    met.
    """

    def __init__(self, limit: str) -> None:
        super().__init__(
            "was spent before the first answer", where=f"the budget of {limit}", remedy="raise it"
        )
        self.limit = limit


class Exhausted(Exception):
    """A limit is met, and nothing more may be asked. `limit` is its name."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


@dataclass(eq=False)
class Turn:
    """A request under way: `count` samples may be asked; `expected` is the most they may cost,
    `spent` what came so far.
    """

    count: int
    expected: Spent
    spent: Spent = field(default_factory=Spent)


class Account:
    """Adds up what answers cost and lets requests go as long as a budget holds. Belongs to one
    event loop.

    Requests go at the same time where all of them fit even if each costs the most it can. Near a
    limit they go one by one, of as few samples as fit, at least one: so the limit is passed by less
    than one sample. What was asked is always waited for and kept. Answers that a store holds count
    with what they cost when they were made.
    """

    def __init__(
        self, budget: Budget | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget, self.spent = budget or Budget(), Spent()
        self._clock, self._started = clock, clock()
        self._turns: set[Turn] = set()
        self._changed = asyncio.Condition()
        self.waiting = 0  # requests that wait for room
        self.when_waiting: Callable[[], None] = lambda: None  # called when one begins to

    @property
    def met(self) -> str | None:
        """The name of the first limit that is met, None while all hold."""
        used, limits = self._used(self.spent), self.budget.limits
        return next((name for name in limits if used[name] >= limits[name]), None)

    def add(self, spent: Spent, turn: Turn | None = None) -> None:
        """Note what was spent, for a turn or beside all turns."""
        self.spent += spent
        if turn is not None:
            turn.spent += spent

    @asynccontextmanager
    async def turn(self, forecast: Forecast, wanted: int = 1) -> AsyncIterator[Turn]:
        """Wait until samples may be asked for, at most `wanted`; `forecast(n)` is the most that n
        cost. Exhausted when a limit is met.
        """
        async with self._changed:
            while (turn := self._admitted(forecast, wanted)) is None:
                self.waiting += 1
                self.when_waiting()
                try:
                    await self._changed.wait()
                finally:
                    self.waiting -= 1
            self._turns.add(turn)
        try:
            yield turn
        finally:
            self._turns.discard(turn)
            async with self._changed:
                self._changed.notify_all()

    def _admitted(self, forecast: Forecast, wanted: int) -> Turn | None:
        if (met := self.met) is not None:
            raise Exhausted(met)
        if not self.budget.limits:
            return Turn(wanted, Spent())
        if self.holds(forecast(wanted)):
            return Turn(wanted, forecast(wanted))
        if self._turns:  # what is under way may cost less than expected and leave room
            return None
        count = next((n for n in range(wanted - 1, 1, -1) if self.holds(forecast(n))), 1)
        return Turn(count, forecast(count))

    def holds(self, more: Spent) -> bool:
        """Whether all limits but that of time hold if `more` is spent, what is under way counted
        with the most it can cost.
        """
        limits = self.budget.limits
        used, expected = self._used(self.spent), self._used(more)
        left = {
            name: limits[name] - used[name] - expected[name] for name in {*limits} - {"seconds"}
        }
        for turn in self._turns:
            expects, has = self._used(turn.expected), self._used(turn.spent)
            for name in left:
                left[name] -= max(0.0, expects[name] - has[name])
        return all(rest >= 0 for rest in left.values())

    def _used(self, spent: Spent) -> dict[str, float]:
        tokens = spent.prompt_tokens + spent.completion_tokens
        return {
            "tokens": tokens,
            "flops": spent.flops,
            "money": spent.money,
            "seconds": self._clock() - self._started,
        }


def forecaster(model: Model, request: Request) -> Callable[[int], Spent]:
    """From a number of samples to what full-length answers cost.

    The prompt's tokens are counted where the tokenizer is at hand (torch), else guessed from its
    bytes, rather too high. FLOPs and money are 0 where the model has no shape or no price. A model
    that scores compares its options by scoring all of them.
    """
    prompt = cache(lambda: model.tokens(request))
    if request.options and "score" in model.abilities:
        price = scoring(model, request, end=1)
        return lambda _: sum(map(price, request.options), Spent())
    steering = request.steer.flops if request.steer else 0.0
    return lambda samples: (
        model.cost(prompt(), request.max_tokens, samples)
        + Spent(flops=steering * request.max_tokens * samples, estimated=True)
    )


def scoring(model: Model, request: Request, *, end: int = 0) -> Callable[[str], Spent]:
    """From a completion, with so many end tokens, to what scoring it after the request costs."""
    prompt = cache(lambda: model.tokens(request))
    steering = request.steer.flops if request.steer else 0.0

    def price(completion: str) -> Spent:
        tokens = model.tokens(Request(prompt=completion)) + end
        return (
            model.cost(prompt(), tokens) + Spent(flops=steering * tokens) if completion else Spent()
        )

    return price


def reading(model: Model) -> Callable[[str], Spent]:
    """From a text to what its embedding costs at most."""
    return lambda text: model.cost(model.tokens(Request(prompt=text)))
