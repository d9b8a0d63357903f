"""The most that a request can cost, before it is made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from pomona.models.chat.errors import ModelError
from pomona.models.chat.protocol import ChatModel, Request, Spent
from pomona.sample.strategy import Strategy

_PER_MESSAGE = 16  # tokens a chat template puts around a message, at most
_SYSTEM = 32  # and what it adds by itself
_BYTES_PER_TOKEN = 3
_JUDGING = 120  # tokens of what a judge is told


def forecast(model: ChatModel, request: Request, samples: int = 1) -> Spent:
    """What `samples` full-length answers to the request cost at most, the prompt read once; see `forecaster`."""
    return forecaster(model, request)(samples)


def forecaster(model: ChatModel, request: Request) -> Callable[[int], Spent]:
    """From a number of samples to what full-length answers cost.

    The prompt's tokens are counted where the tokenizer is at hand (torch), else guessed from its bytes, rather too high.
    FLOPs and money are 0 where the model has no shape or no price.
    """

    @cache
    def prompt() -> int:
        return _counted(model, request) or prompt_tokens(request)

    return lambda samples: _cost(model, prompt(), request.max_tokens, samples)


def forecast_answer(models: Sequence[ChatModel], request: Request, strategy: Strategy, judge: ChatModel | None = None) -> Spent:
    """The most that an answer by a strategy costs: its whole pool, further evidence and what is asked of the judge.

    Scoring and embedding are not in it, nor in what answers say they cost.
    """
    hands = [len(range(place, strategy.n, len(models))) for place in range(len(models))]
    total = Spent()
    for model, count in zip(models, hands, strict=True):
        if count:
            total += forecast(model, request, count)
    arbiter, asked = judge or models[0], prompt_tokens(request)
    if strategy.select == "xmbr":
        total += forecast(models[0], request, strategy.evidence)
    if strategy.select == "chops":
        written = 40 * strategy.items
        total += _cost(arbiter, asked + _JUDGING, written) + _cost(arbiter, asked + strategy.n * request.max_tokens + written + _JUDGING, 8)
    if strategy.utility == "judge":
        further = strategy.evidence if strategy.select == "xmbr" else 0
        pairs = strategy.n * (strategy.n - 1) // 2 + strategy.n * further
        total = sum((_cost(arbiter, asked + 2 * request.max_tokens + _JUDGING, 8) for _ in range(pairs)), total)
    return total


def _cost(model: ChatModel, prompt: int, answer: int, samples: int = 1) -> Spent:
    """What full-length answers cost after a prompt of so many tokens, which is read once."""
    meter = _found(model, "_meter")
    if meter is None:
        return Spent(prompt, answer * samples, estimated=True)
    first = meter.spent(context=prompt, prompt_tokens=prompt, completion_tokens=answer, estimated=True)
    later = meter.spent(context=prompt, prompt_tokens=0, completion_tokens=answer, estimated=True)
    more = samples - 1
    return first + Spent(0, later.completion_tokens * more, later.flops * more, later.money * more, estimated=True)


def prompt_tokens(request: Request) -> int:
    """A guess of the tokens of a request's prompt, from its bytes."""
    if request.prompt is not None:
        return _tokens(request.prompt) + 1
    tools = _tokens(json.dumps([dict(tool) for tool in request.tools], default=str)) if request.tools else 0
    return _SYSTEM + tools + sum(_tokens(_content(message.get("content"))) + _PER_MESSAGE for message in request.messages)


def _content(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content or "", ensure_ascii=False, default=str)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)


def _counted(model: ChatModel, request: Request) -> int | None:
    template = _found(model, "_template")
    try:
        return None if template is None else len(template.encode(request)[1])
    except ModelError:  # the model itself will say so
        return None


def _found(model: Any, name: str) -> Any:
    """An attribute of the model, looked for behind wrappers such as `Stored`."""
    while model is not None:
        if (value := getattr(model, name, None)) is not None:
            return value
        model = getattr(model, "model", None)
    return None
