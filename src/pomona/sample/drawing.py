"""Asking models within an account: what comes is noted at once, and nothing is asked once a limit is met."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.models.chat.protocol import ChatModel, Gradual, Reply, Request, Spent
from pomona.sample.budget import Account, Exhausted
from pomona.sample.forecast import forecaster

Sample = tuple[int, float]


async def draw(model: ChatModel, request: Request, samples: Sequence[Sample], account: Account) -> tuple[list[Reply], str | None]:
    """Replies to samples, in their order, and the name of the limit that stopped it, None when all are there."""
    left, replies, expected = list(samples), [], forecaster(model, request)
    while left:
        try:
            async with account.turn(expected, len(left)) as turn:
                found = {}
                async with aclosing(_each(model, request, left[: turn.count])) as coming:
                    async for reply in coming:
                        account.add(reply.spent, turn)
                        found[reply.index, reply.temperature] = reply
                replies += [found[sample] for sample in left[: turn.count]]
        except Exhausted as met:
            return replies, met.limit
        left = left[turn.count :]
    return replies, None


async def ask(model: ChatModel, request: Request, account: Account) -> Reply:
    """One reply at the request's own temperature. Exhausted when a limit is met."""
    replies, met = await draw(model, request, [(0, request.temperature)], account)
    if met is not None:
        raise Exhausted(met)
    return replies[0]


async def deal(
    models: Sequence[ChatModel], request: Request, samples: Sequence[Sample], account: Account
) -> tuple[list[tuple[ChatModel, Reply]], str | None]:
    """Samples dealt to several models by their index, each reply with its model, in order; and the limit that stopped any of them.

    A failure is raised after all others have ended, so that what they were paid for is noted.
    """
    hands = [[sample for sample in samples if sample[0] % len(models) == place] for place in range(len(models))]
    busy = [(model, hand) for model, hand in zip(models, hands, strict=True) if hand]
    results = await asyncio.gather(*(draw(model, request, hand, account) for model, hand in busy), return_exceptions=True)
    dealt: list[tuple[ChatModel, Reply]] = []
    stopped = None
    for (model, _), result in zip(busy, results, strict=True):
        if isinstance(result, BaseException):
            raise result
        dealt += [(model, reply) for reply in result[0]]
        stopped = stopped or result[1]
    return sorted(dealt, key=lambda pair: pair[1].index), stopped


class Accounted:
    """A model as contexts get it: its replies are paid from an account, and Exhausted is raised where a limit is met.

    `spent` is what went through this object.
    """

    def __init__(self, model: ChatModel, account: Account) -> None:
        self.model, self.spent, self._account = model, Spent(), account
        self.name, self.identity, self.abilities = model.name, model.identity, model.abilities

    async def reply(self, request: Request, samples: Sequence[Sample]) -> list[Reply]:
        """See the protocol."""
        replies, met = await draw(self.model, request, samples, self._account)
        for reply in replies:
            self.spent += reply.spent
        if met is not None:
            raise Exhausted(met)
        return replies

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """See the protocol; the answer comes in one piece."""
        reply = (await self.reply(request, [(0, request.temperature)]))[0]
        yield reply.text
        yield reply

    async def score(self, request: Request, completions: Sequence[str]) -> list[NDArray[np.float32]]:
        """The model's own."""
        return await self.model.score(request, completions)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The model's own."""
        return await self.model.embed(texts)

    async def close(self) -> None:
        """Nothing: the model is not this object's."""


async def _each(model: ChatModel, request: Request, samples: Sequence[Sample]) -> AsyncGenerator[Reply, None]:
    if isinstance(model, Gradual):
        replies: Any = model.each(request, samples)
        async with aclosing(replies):
            async for reply in replies:
                yield reply
        return
    for reply in await model.reply(request, samples):
        yield reply
