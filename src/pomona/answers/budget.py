"""What may be spent on answers, the account that keeps to it, and models asked within it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pomona.answers.store import Wrapper
from pomona.errors import PomonaError, ResourceError
from pomona.models import Draw, Model, Reply, Request, Spent, prompt_tokens

Forecast = Callable[[int], Spent]
_LONG = 4096  # tokens, about, that take so long to count that others should go on meanwhile


@dataclass(frozen=True)
class Budget:
    """Hard limits; None is no limit.

    Args:
        tokens: Prompt and answer tokens.
        flops: Floating-point operations.
        money: Money; needs --price.
        seconds: Time.

    Raises:
        PomonaError: a limit is not a positive number.
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
        return {name: limit for name, limit in vars(self).items() if limit is not None}


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
class Reservation:
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
    than one sample. What was asked is waited for and kept, but for time: when the seconds are over,
    what is under way is given up. Answers that a store holds count with what they cost when they
    were made.
    """

    def __init__(
        self, budget: Budget | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget, self.spent = budget or Budget(), Spent()
        self._clock, self._started = clock, clock()
        self._turns: set[Reservation] = set()
        self._changed = asyncio.Condition()
        self.waiting = 0  # requests that wait for room
        self.when_waiting: Callable[[], None] = lambda: None  # called when one begins to

    @property
    def met(self) -> str | None:
        """The name of the first limit that is met, None while all hold."""
        used, limits = self._used(self.spent), self.budget.limits
        return next((name for name in limits if used[name] >= limits[name]), None)

    def add(self, spent: Spent, turn: Reservation | None = None) -> None:
        """Note what was spent, for a turn or beside all turns."""
        self.spent += spent
        if turn is not None:
            turn.spent += spent

    @asynccontextmanager
    async def turn(self, forecast: Forecast, wanted: int = 1) -> AsyncIterator[Reservation]:
        """Wait until samples may be asked for, at most `wanted`; `forecast(n)` is the most that n
        cost. Exhausted when a limit is met, also while the block runs and its time is over.
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
        timer = asyncio.timeout(self.left)
        try:
            async with timer:
                yield turn
        except TimeoutError as error:
            if timer.expired():
                raise Exhausted("seconds") from error
            raise
        finally:
            self._turns.discard(turn)
            async with self._changed:
                self._changed.notify_all()

    def _admitted(self, forecast: Forecast, wanted: int) -> Reservation | None:
        if (met := self.met) is not None:
            raise Exhausted(met)
        if not self.budget.limits:
            return Reservation(wanted, Spent())
        if self.holds(forecast(wanted)):
            return Reservation(wanted, forecast(wanted))
        if self._turns:  # what is under way may cost less than expected and leave room
            return None
        count = next((n for n in range(wanted - 1, 1, -1) if self.holds(forecast(n))), 1)
        return Reservation(count, forecast(count))

    def holds(self, more: Spent) -> bool:
        """Whether all limits but that of time hold if `more` is spent, what is under way counted
        with the most it can cost.
        """
        return self.short(more) is None

    def short(self, more: Spent) -> str | None:
        """The name of the first limit that `more` would pass, None where all hold."""
        limits = self.budget.limits
        used, expected = self._used(self.spent), self._used(more)
        left = {
            name: limits[name] - used[name] - expected[name] for name in limits if name != "seconds"
        }
        for turn in self._turns:
            expects, has = self._used(turn.expected), self._used(turn.spent)
            for name in left:
                left[name] -= max(0.0, expects[name] - has[name])
        return next((name for name, rest in left.items() if rest < 0), None)

    @property
    def left(self) -> float | None:
        """Seconds until the time is over, None without a limit of time."""
        limit = self.budget.seconds
        return None if limit is None else limit - (self._clock() - self._started)

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


Came = Callable[[Reply], None]
Result = TypeVar("Result")


async def draw(
    model: Model,
    request: Request,
    samples: Sequence[Draw],
    account: Account,
    came: Came | None = None,
) -> tuple[list[Reply], str | None]:
    """Replies to samples, in their order, and the name of the limit that stopped it, None when all
    are there.

    `came` is called with each reply as it comes.
    """
    came_back: dict[Draw, Reply] = {}

    def keep(reply: Reply) -> None:
        came_back[reply.index, reply.temperature] = reply
        if came is not None:
            came(reply)

    expected = forecaster(model, request)
    if account.budget.limits and prompt_tokens(request) > _LONG:
        await asyncio.to_thread(expected, 1)
    stopped = None
    if account.budget.seconds is not None and model.local:
        # What is computed together comes together: apart, some may come before the time is over.
        work = [_draw(model, request, [sample], account, expected, keep) for sample in samples]
        ends = await asyncio.gather(*work, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
            stopped = stopped or end
    else:
        stopped = await _draw(model, request, samples, account, expected, keep)
    return [came_back[sample] for sample in samples if sample in came_back], stopped


async def _draw(
    model: Model,
    request: Request,
    samples: Sequence[Draw],
    account: Account,
    expected: Forecast,
    came: Came,
) -> str | None:
    """Ask for samples, as many at a time as the account allows; the limit that stopped it."""
    left = list(samples)
    while left:
        try:
            async with (
                account.turn(expected, len(left)) as turn,
                aclosing(model.each(request, left[: turn.count])) as coming,
            ):
                async for reply in coming:
                    account.add(reply.spent, turn)
                    came(reply)
        except Exhausted as met:
            return met.limit
        left = left[turn.count :]
    return None


async def ask(model: Model, request: Request, account: Account) -> Reply:
    """One reply at the request's own temperature. Exhausted when a limit is met."""
    replies, met = await draw(model, request, [(0, request.temperature)], account)
    if met is not None:
        raise Exhausted(met)
    return replies[0]


async def deal(
    models: Sequence[Model],
    request: Request,
    samples: Sequence[Draw],
    account: Account,
    came: Came | None = None,
) -> tuple[list[tuple[Model, Reply]], str | None]:
    """Samples dealt to several models by their index, each reply with its model, in order; and the
    limit that stopped any of them.

    A failure is raised after all others have ended, so that what they were paid for is noted.
    """
    hands = [
        (model, [sample for sample in samples if sample[0] % len(models) == place])
        for place, model in enumerate(models)
    ]
    busy = [(model, hand) for model, hand in hands if hand]
    # Not a TaskGroup, which would cancel the others at the first failure: they are paid for.
    results = await asyncio.gather(
        *(draw(model, request, hand, account, came) for model, hand in busy), return_exceptions=True
    )
    dealt: list[tuple[Model, Reply]] = []
    stopped = None
    for (model, _), result in zip(busy, results, strict=True):
        if isinstance(result, BaseException):
            raise result
        dealt += [(model, reply) for reply in result[0]]
        stopped = stopped or result[1]
    return sorted(dealt, key=lambda pair: pair[1].index), stopped


class MeteredModel(Wrapper):
    """A model as contexts and judges get it: all it does is paid from an account, and Exhausted is
    raised where a limit is met.

    `spent` is what went through this object, and through what `also` gave.
    """

    def __init__(self, model: Model, account: Account) -> None:
        super().__init__(model)
        self._account = account
        self._parts: list[Spent] = []

    @property
    def spent(self) -> Spent:
        """What it cost so far."""
        return sum(self._parts, Spent())

    def also(self, model: Model) -> MeteredModel:
        """Another model that is paid from the same account, and counted here."""
        other = MeteredModel(model, self._account)
        other._parts = self._parts
        return other

    async def reply(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """See the protocol."""
        note = lambda reply: self._parts.append(reply.spent)  # noqa: E731
        replies, met = await draw(self.model, request, samples, self._account, note)
        if met is not None:
            raise Exhausted(met)
        return replies

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """See the protocol."""
        work = partial(self.model.logprobs, request, end=end)
        parts, spent = await self._paid(
            completions, scoring(self.model, request, end=int(end)), work
        )
        return [logs for part in parts for logs in part], spent

    async def vectors(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], Spent]:
        """See the protocol."""
        parts, spent = await self._paid(texts, reading(self.model), self.model.vectors)
        return np.concatenate(parts) if parts else (await self.model.vectors([]))[0], spent

    async def close(self) -> None:
        """Nothing: the model is not this object's."""

    async def _paid(
        self,
        items: Sequence[str],
        price: Callable[[str], Spent],
        work: Callable[[Sequence[str]], Awaitable[tuple[Result, Spent]]],
    ) -> tuple[list[Result], Spent]:
        """What `work` makes of the items, as many at a time as the account allows. Exhausted when a
        limit is met.
        """
        left, parts, total = list(items), [], Spent()
        prices: list[Spent] = []
        if self._account.budget.limits:
            priced = lambda: [price(item) for item in items]  # noqa: E731
            long = sum(map(len, items)) > _LONG
            prices = await asyncio.to_thread(priced) if long else priced()
        while left:
            due = prices[len(items) - len(left) :]
            async with self._account.turn(partial(_first, due), len(left)) as turn:
                part, spent = await work(left[: turn.count])
                self._account.add(spent, turn)
            self._parts.append(spent)
            parts.append(part)
            total += spent
            left = left[turn.count :]
        return parts, total


def _first(prices: Sequence[Spent], count: int) -> Spent:
    return sum(prices[:count], Spent())
