"""What the models do for one request: plain answers, or a strategy's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from pomona.answers import Account, Answer
from pomona.models import Draw, ModelError, Piece, Reply, Request, Spent, Token, merged
from pomona.sample import answer
from pomona.sample.context import Context
from pomona.serve.parsing import ParsedRequest
from pomona.web import ApiError


@dataclass(frozen=True)
class Choice:
    """One answer of the response."""

    text: str
    finish: str
    calls: tuple[Mapping[str, Any], ...] = ()
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """All answers of a response, what they cost with everything that led to them, and what the
    field `pomona` shall say.
    """

    choices: tuple[Choice, ...]
    spent: Spent
    pomona: dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """How many candidates of how many a strategy has so far."""

    count: int
    of: int


async def outcome(
    parsed: ParsedRequest,
    levers: Sequence[Context] = (),
    drawn: Callable[[Drawn], None] | None = None,
) -> Outcome:
    """The whole response. `drawn` is called as a strategy's candidates come. Raises what the models
    raise.
    """
    if parsed.strategy is None:
        return _checked(
            parsed, _plain(await _all([_replies(parsed, request) for request in parsed.requests]))
        )
    account, counts = (
        Account(parsed.budget),
        [0] * len(parsed.requests),
    )  # one budget for all prompts

    def count(place: int, came: int, of: int) -> None:
        counts[place] = came
        if drawn is not None:
            drawn(Drawn(sum(counts), of * len(counts)))

    works = [
        _answer(parsed, place, account, levers, partial(count, place))
        for place in range(len(counts))
    ]
    return _checked(parsed, _chosen(parsed, await _all(works)))


async def pieces(
    parsed: ParsedRequest, levers: Sequence[Context] = ()
) -> AsyncGenerator[Piece | Drawn | Outcome, None]:
    """The response as it grows, its choices mixed, then the whole of it. A strategy tells what it
    has drawn, then its choice at once.
    """
    if parsed.strategy is not None:
        async for item in _awaited(parsed, levers):
            yield item
        return
    replies: dict[int, Reply] = {}
    streams = [_numbered(parsed, place, request) for place, request in enumerate(parsed.requests)]
    async with aclosing(merged(streams)) as coming:
        async for number, item in coming:
            if isinstance(item, Reply):
                replies[number] = item
            else:
                yield replace(item, index=number)
    if len(replies) < parsed.n * len(streams):
        raise ModelError("its stream ended without an answer", status=502, where=parsed.served.name)
    yield _checked(parsed, _plain([[replies[number] for number in sorted(replies)]]))


async def _numbered(
    parsed: ParsedRequest, place: int, request: Request
) -> AsyncGenerator[tuple[int, Piece | Reply], None]:
    """What comes of a prompt, with the number of its choice in the whole response."""
    silent = parsed.logprobs and parsed.served.remote
    stream: Any = parsed.served.model.stream(request, _samples(parsed, request))
    async with aclosing(stream):
        async for item in stream:
            if silent and isinstance(item, Piece):
                if not item.tokens:  # before anything was sent this is still a refusal
                    raise _untold(parsed)
                silent = False
            yield place * parsed.n + item.index, item


async def _awaited(
    parsed: ParsedRequest, levers: Sequence[Context]
) -> AsyncGenerator[Piece | Drawn | Outcome, None]:
    reports: asyncio.Queue[Drawn | None] = asyncio.Queue()
    task = asyncio.ensure_future(outcome(parsed, levers, reports.put_nowait))
    task.add_done_callback(lambda _: reports.put_nowait(None))
    try:
        while (report := await reports.get()) is not None:
            yield report
        found = await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for index, choice in enumerate(found.choices):
        if choice.tokens:
            yield Piece(choice.text, index, choice.tokens)
            continue
        for text in _words(choice.text):
            yield Piece(text, index)
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


async def _replies(parsed: ParsedRequest, request: Request) -> list[Reply]:
    return await parsed.served.model.reply(request, _samples(parsed, request))


def _samples(parsed: ParsedRequest, request: Request) -> list[Draw]:
    return [(index, request.temperature) for index in range(parsed.n)]


async def _answer(
    parsed: ParsedRequest,
    place: int,
    account: Account,
    levers: Sequence[Context],
    came: Callable[[int, int], None],
) -> Answer:
    assert parsed.strategy is not None
    model, request = parsed.served.model, parsed.requests[place]
    return await answer(
        request, model, parsed.strategy, budget=account, context=levers, progress=came
    )


def _checked(parsed: ParsedRequest, found: Outcome) -> Outcome:
    """The outcome, unless log-probabilities were asked for and an answer has none."""
    if parsed.logprobs and any(
        choice.text and not choice.tokens and not choice.calls for choice in found.choices
    ):
        raise _untold(parsed)
    return found


def _untold(parsed: ParsedRequest) -> ApiError:
    why = "a context changed the text" if parsed.context else "its server gives none"
    return ApiError(
        400,
        f"there are no log-probabilities of this answer: {why}",
        param="logprobs",
        code="unsupported_value",
    )


def _plain(pools: Sequence[Sequence[Reply]]) -> Outcome:
    replies = [reply for pool in pools for reply in pool]
    spent = sum((reply.spent for reply in replies), Spent())
    choices = tuple(
        Choice(reply.text, reply.finish_reason, reply.tool_calls, reply.tokens) for reply in replies
    )
    return Outcome(
        choices, spent, {"spent": asdict(spent), "logprobs": [reply.logprob for reply in replies]}
    )


def _chosen(parsed: ParsedRequest, answers: Sequence[Answer]) -> Outcome:
    spent = sum((one.spent for one in answers), Spent())
    choices = []
    for one in answers:
        taken = one.candidates[one.chosen]
        choices.append(Choice(one.text, taken.finish_reason, taken.tool_calls, taken.tokens))
    shown = [_shown(one, parsed.candidates) for one in answers]
    return Outcome(
        tuple(choices),
        spent,
        {**shown[0], "spent": asdict(spent), **({"answers": shown} if len(shown) > 1 else {})},
    )


def _shown(one: Answer, candidates: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "strategy": one.strategy,
        "stopped_by": one.stopped_by,
        "chosen": one.chosen,
        "notes": dict(one.notes),
    }
    if candidates:
        scores = [*one.scores, *[None] * (len(one.candidates) - len(one.scores))]
        found["candidates"] = [
            _candidate(reply, score) for reply, score in zip(one.candidates, scores, strict=False)
        ]
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
    return (
        [row if at == len(rows) - 1 else row + " " for at, row in enumerate(rows)] if text else []
    )
