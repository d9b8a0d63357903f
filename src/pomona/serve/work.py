"""What the models do for one request: plain answers, or a strategy's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

from pomona.models.chat.errors import ModelError
from pomona.models.chat.protocol import Reply, Request, Spent
from pomona.sample.answer import Answer, answer
from pomona.sample.budget import Account
from pomona.sample.context.protocol import Context
from pomona.sample.strategy import Strategy
from pomona.serve.asked import Asked


@dataclass(frozen=True)
class Choice:
    """One answer of the response."""

    text: str
    finish: str
    calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """All answers of a response, what they cost with everything that led to them, and what the field `pomona` shall say."""

    choices: tuple[Choice, ...]
    spent: Spent
    pomona: dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """Text that the choice `index` goes on with."""

    index: int
    text: str


async def outcome(asked: Asked, levers: Sequence[Context] = ()) -> Outcome:
    """The whole response. Raises what the models raise."""
    if asked.strategy is None:
        return _plain(await _all([_replies(asked, request) for request in asked.requests]))
    account = Account(asked.budget)  # one budget for all prompts
    return _chosen(asked, await _all([_answer(asked, request, asked.strategy, account, levers) for request in asked.requests]))


async def pieces(asked: Asked, levers: Sequence[Context] = ()) -> AsyncGenerator[Piece | Outcome, None]:
    """The response as it grows, then the whole of it. Where there is something to wait for, the text comes at once after it."""
    if asked.strategy is None and asked.n == 1 and len(asked.requests) == 1:
        stream: Any = asked.served.model.stream(asked.requests[0])
        reply = None
        async with aclosing(stream):
            async for item in stream:
                if isinstance(item, Reply):
                    reply = item
                else:
                    yield Piece(0, item)
        if reply is None:
            raise ModelError("its stream ended without an answer", status=502, where=asked.served.name)
        yield _plain([[reply]])
        return
    found = await outcome(asked, levers)
    for index, choice in enumerate(found.choices):
        for text in _words(choice.text):
            yield Piece(index, text)
    yield found


async def _all(works: Sequence[Any]) -> list[Any]:
    if len(works) == 1:
        return [await works[0]]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _replies(asked: Asked, request: Request) -> list[Reply]:
    return await asked.served.model.reply(request, [(index, request.temperature) for index in range(asked.n)])


async def _answer(asked: Asked, request: Request, strategy: Strategy, account: Account, levers: Sequence[Context]) -> Answer:
    return await answer(request, asked.served.model, strategy, budget=account, context=levers)


def _plain(pools: Sequence[Sequence[Reply]]) -> Outcome:
    replies = [reply for pool in pools for reply in pool]
    spent = sum((reply.spent for reply in replies), Spent())
    choices = tuple(Choice(reply.text, reply.finish_reason, reply.tool_calls) for reply in replies)
    return Outcome(choices, spent, {"spent": asdict(spent), "logprobs": [reply.logprob for reply in replies]})


def _chosen(asked: Asked, answers: Sequence[Answer]) -> Outcome:
    spent = sum((one.spent for one in answers), Spent())
    choices = []
    for one in answers:
        taken = one.candidates[one.chosen]
        choices.append(Choice(one.text, taken.finish_reason, taken.tool_calls))
    shown = [_shown(one, asked.candidates) for one in answers]
    return Outcome(tuple(choices), spent, {**shown[0], "spent": asdict(spent), **({"answers": shown} if len(shown) > 1 else {})})


def _shown(one: Answer, candidates: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"strategy": one.strategy, "stopped_by": one.stopped_by, "chosen": one.chosen, "notes": dict(one.notes)}
    if candidates:
        scores = [*one.scores, *[None] * (len(one.candidates) - len(one.scores))]
        found["candidates"] = [_candidate(reply, score) for reply, score in zip(one.candidates, scores, strict=False)]
    return found


def _candidate(reply: Reply, score: float | None) -> dict[str, Any]:
    return {
        "index": reply.index,
        "text": reply.text,
        "score": score,
        "finish_reason": reply.finish_reason,
        "temperature": reply.temperature,
        "logprob": reply.logprob,
        "model": reply.model,
        "spent": asdict(reply.spent),
    }


def _words(text: str) -> list[str]:
    """The text in pieces of about ten words, so that clients show it as they show any stream."""
    words = text.split(" ")
    rows = [" ".join(words[at : at + 10]) for at in range(0, len(words), 10)]
    return [row if at == len(rows) - 1 else row + " " for at, row in enumerate(rows)] if text else []
