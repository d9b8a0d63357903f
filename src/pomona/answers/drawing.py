"""Asking models within an account: what comes is noted at once, and nothing is asked once a limit
is met.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pomona.answers.budget import Account, Exhausted, forecaster, reading, scoring
from pomona.answers.store import Wrapper
from pomona.models import Draw, Model, Reply, Request, Spent

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
    left, replies, expected = list(samples), [], forecaster(model, request)
    while left:
        try:
            async with account.turn(expected, len(left)) as turn:
                came_back = {}
                async with aclosing(model.each(request, left[: turn.count])) as coming:
                    async for reply in coming:
                        account.add(reply.spent, turn)
                        came_back[reply.index, reply.temperature] = reply
                        if came is not None:
                            came(reply)
                replies += [came_back[sample] for sample in left[: turn.count]]
        except Exhausted as met:
            return replies, met.limit
        left = left[turn.count :]
    return replies, None


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
        self, request: Request, completions: Sequence[str]
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """See the protocol."""
        work = partial(self.model.logprobs, request)
        parts, spent = await self._paid(completions, scoring(self.model, request), work)
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
        prices = [price(item) for item in items] if self._account.budget.limits else []
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
