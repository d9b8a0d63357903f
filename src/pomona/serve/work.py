"""What the models do for one request: plain answers, or a strategy's choice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any

from pomona.answers import Account, Answer, together
from pomona.markers import MarkedModel, MarkedReply
from pomona.models import Draw, ModelError, Reply, ReplyPiece, Request, Spent, Token, merged
from pomona.sample import answer
from pomona.sample.context import Context
from pomona.serve.parsing import ParsedRequest
from pomona.web import ApiError, wrong

# The end token after an echo: programs count on one token at least behind the prompt.
_END: Token = {"token": "", "bytes": [], "logprob": None, "top_logprobs": []}


@dataclass(frozen=True)
class ResponseChoice:
    """One answer of the response."""

    text: str
    finish: str
    calls: tuple[Mapping[str, Any], ...] = ()
    tokens: tuple[Token, ...] = ()
    reasoning: str | None = None
    refusal: str | None = None
    markers: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """All answers of a response, what they cost with everything that led to them, and what the
    field `pomona` shall say.
    """

    choices: tuple[ResponseChoice, ...]
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
    model, strategy = parsed.served.model, parsed.strategy
    if parsed.echo:
        return await _echoed(parsed)
    if strategy is None:
        return _checked(parsed, _plain(await together(_pools(parsed))))
    account = Account(parsed.budget)  # one budget for all prompts
    counts = [0] * len(parsed.requests)

    def count(place: int, came: int, of: int) -> None:
        counts[place] = came
        if drawn is not None:
            drawn(Drawn(sum(counts), of * len(counts)))

    ask = partial(answer, models=model, strategy=strategy, budget=account, context=levers)
    answers = [
        ask(request, progress=partial(count, place))
        for place, request in enumerate(parsed.requests)
    ]
    return _checked(parsed, _chosen(parsed, await together(answers)))


async def _echoed(parsed: ParsedRequest) -> Outcome:
    """The response with each prompt before its answers."""
    if parsed.silent:
        empty = (ResponseChoice("", "length"),) * (parsed.n * len(parsed.requests))
        found = Outcome(empty, Spent(), {})
    else:
        found = _checked(parsed, _plain(await together(_pools(parsed))))
    heads: list[tuple[list[Token], Spent]] = [([], Spent())] * len(parsed.requests)
    if parsed.logprobs:
        heads = await together([parsed.served.model.echo(one) for one in parsed.requests])
    spent = sum((cost for _, cost in heads), found.spent)
    if parsed.silent:  # the answers would have paid for reading them
        read = sum(parsed.served.model.tokens(one) for one in parsed.requests)
        spent = replace(spent, prompt_tokens=read)
    choices = []
    for at, choice in enumerate(found.choices):
        request, (tokens, _) = parsed.requests[at // parsed.n], heads[at // parsed.n]
        text = (request.prompt or "") + choice.text
        ended = tokens and choice.finish == "stop" and not request.stop
        tokens = (*tokens, *choice.tokens, *([_END] if ended else ()))
        choices.append(replace(choice, text=text, tokens=tokens))
    return Outcome(tuple(choices), spent, found.pomona | {"spent": asdict(spent)})


def _pools(parsed: ParsedRequest) -> list[Coroutine[Any, Any, list[Reply]]]:
    model = parsed.served.model
    return [model.reply(request, _samples(parsed, request)) for request in parsed.requests]


async def pieces(
    parsed: ParsedRequest, levers: Sequence[Context] = ()
) -> AsyncGenerator[ReplyPiece | Drawn | Outcome, None]:
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
) -> AsyncGenerator[tuple[int, ReplyPiece | Reply], None]:
    """What comes of a prompt, with the number of its choice in the whole response."""
    silent = parsed.logprobs and parsed.served.remote
    stream: Any = parsed.served.model.stream(request, _samples(parsed, request))
    async with aclosing(stream):
        async for item in stream:
            if silent and isinstance(item, ReplyPiece) and item.text:
                if not item.tokens:  # before anything was sent this is still a refusal
                    raise _untold(parsed)
                silent = False
            yield place * parsed.n + item.index, item


async def _awaited(
    parsed: ParsedRequest, levers: Sequence[Context]
) -> AsyncGenerator[ReplyPiece | Drawn | Outcome, None]:
    reports: asyncio.Queue[Drawn | None] = asyncio.Queue()
    task = asyncio.ensure_future(outcome(parsed, levers, reports.put_nowait))
    task.add_done_callback(lambda _: reports.put_nowait(None))
    try:
        while (report := await reports.get()) is not None:
            yield report
        answers = await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for index, choice in enumerate(answers.choices):
        if choice.reasoning:
            yield ReplyPiece("", index, (), choice.reasoning)
        for text in (choice.text,) if choice.tokens else _words(choice.text):
            yield ReplyPiece(text, index, choice.tokens)
    yield answers


def _samples(parsed: ParsedRequest, request: Request) -> list[Draw]:
    return [(index, request.temperature) for index in range(parsed.n)]


def _checked(parsed: ParsedRequest, outcome: Outcome) -> Outcome:
    """The outcome, with the markers of each choice where the model knows some. ApiError where
    log-probabilities were asked for and an answer has none.
    """
    untold = (one.text and not one.tokens and not one.calls for one in outcome.choices)
    if parsed.logprobs and any(untold):
        raise _untold(parsed)
    if not isinstance(parsed.served.model, MarkedModel):
        return outcome
    told = parsed.served.model.told
    markers = [told | dict(one.markers or {"inferred": None}) for one in outcome.choices]
    return replace(outcome, pomona=outcome.pomona | {"markers": markers})


def _untold(parsed: ParsedRequest) -> ApiError:
    why = "a context changed the text" if parsed.context else "its server gives none"
    message = f"there are no log-probabilities of this answer: {why}"
    return wrong("logprobs", message, "unsupported_value")


def _plain(pools: Sequence[Sequence[Reply]]) -> Outcome:
    replies = [reply for pool in pools for reply in pool]
    spent = sum((reply.spent for reply in replies), Spent())
    choices = tuple(_choice(reply.text, reply) for reply in replies)
    logprobs = [reply.logprob for reply in replies]
    return Outcome(choices, spent, {"spent": asdict(spent), "logprobs": logprobs})


def _chosen(parsed: ParsedRequest, answers: Sequence[Answer]) -> Outcome:
    spent = sum((one.spent for one in answers), Spent())
    choices = tuple(_choice(one.text, one.reply) for one in answers)
    shown = [_shown(parsed, one) for one in answers]
    more = {"answers": shown} if len(shown) > 1 else {}
    return Outcome(choices, spent, {**shown[0], "spent": asdict(spent), **more})


def _choice(text: str, reply: Reply) -> ResponseChoice:
    return ResponseChoice(
        text,
        reply.finish_reason,
        reply.tool_calls,
        reply.tokens,
        reply.reasoning,
        reply.refusal,
        reply.notes if isinstance(reply, MarkedReply) else None,
    )


def _shown(parsed: ParsedRequest, one: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "strategy": one.strategy,
        "stopped_by": one.stopped_by,
        "chosen": one.chosen,
        "notes": dict(one.notes),
    }
    if parsed.candidates:
        pairs = zip_longest(one.candidates, one.scores)
        shown["candidates"] = [_candidate(parsed, reply, score) for reply, score in pairs]
    return shown


def _candidate(parsed: ParsedRequest, reply: Reply, score: float | None) -> dict[str, Any]:
    # A model's own name may be a path or an address: clients know it by its name here.
    own = reply.model == parsed.served.model.name
    return {
        "index": reply.index,
        "text": reply.text,
        "score": score,
        "finish_reason": reply.finish_reason,
        "temperature": reply.temperature,
        "logprob": reply.logprob,
        "model": parsed.served.name if own else reply.model,
        "spent": asdict(reply.spent),
        **({"markers": reply.notes} if isinstance(reply, MarkedReply) else {}),
    }


def _words(text: str) -> list[str]:
    """The text in pieces of about ten words, so that clients show it as they show any stream."""
    words = text.split(" ")
    rows = [" ".join(words[at : at + 10]) for at in range(0, len(words), 10)]
    return [*(row + " " for row in rows[:-1]), rows[-1]] if text else []
