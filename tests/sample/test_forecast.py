"""A forecast is never below what is spent, and close to it where answers are as long as they may
be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pomona.answers import forecaster
from pomona.models import Model, Request, Spent, load, prompt_tokens, wait_for
from pomona.sample import answer, forecast_answer, parse_strategy

ASK = Request(messages=({"role": "user", "content": "<|fr|>Save the page<|to|>"},), max_tokens=12)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    opened = load("ui-xs")
    yield opened
    wait_for(opened.close())


def test_a_pool_costs_at_most_its_forecast(model: Model) -> None:
    most = forecaster(model, ASK)(5)
    spent = wait_for(answer(ASK, model, parse_strategy("hedged5-mbr"))).spent
    assert spent.prompt_tokens == most.prompt_tokens
    assert spent.completion_tokens <= most.completion_tokens == 60
    assert spent.flops <= most.flops < 20 * spent.flops


@pytest.mark.parametrize(
    "name", ["hedged4-best", "hedged4-mbr-embedding", "hedged4-mbr-judge", "hedged3-chops"]
)
def test_scores_embeddings_and_options_are_in_the_forecast(model: Model, name: str) -> None:
    strategy = parse_strategy(name)
    most, found = (
        forecast_answer([model], ASK, strategy, model),
        wait_for(answer(ASK, model, strategy, judge=model)),
    )
    drawn = sum((reply.spent for reply in found.candidates), Spent())
    assert drawn.flops < found.spent.flops <= most.flops
    assert drawn.prompt_tokens < found.spent.prompt_tokens <= most.prompt_tokens


@pytest.mark.parametrize(
    "name", ["greedy", "hedged4-mbr", "hedged4-xmbr", "hedged3-mbr-judge", "hedged4-chops"]
)
def test_judges_and_evidence_are_in_the_forecast(fake: Any, name: str) -> None:
    strategy = parse_strategy(name)
    model = fake(lambda _request, index, _temperature: f"answer {index}", answer=4)
    asked = replace(ASK, max_tokens=8)
    most = forecast_answer([model], asked, strategy)
    spent = asyncio.run(answer(asked, model, strategy)).spent
    assert spent.prompt_tokens <= most.prompt_tokens
    assert spent.completion_tokens <= most.completion_tokens


def test_guesses_cover_messages_prompts_and_tools() -> None:
    assert prompt_tokens(Request(prompt="abcdef")) == 3
    plain = prompt_tokens(ASK)
    assert plain > len("<|fr|>Save the page<|to|>") / 4
    assert (
        prompt_tokens(replace(ASK, tools=({"type": "function", "function": {"name": "look"}},)))
        > plain
    )
    parts = Request(messages=({"role": "user", "content": [{"type": "text", "text": "hello"}]},))
    assert prompt_tokens(parts) > prompt_tokens(
        Request(messages=({"role": "user", "content": None},))
    )
