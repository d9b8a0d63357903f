"""Log-probabilities as OpenAI's clients read them, whole and streamed, and a refusal where there
are none.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from pomona.models import Request, catalogue, load
from pomona.serve import ServeSettings, open_models

from .conftest import House

PROMPT = "<|fr|>Save the file<|to|>"
SAY: Any = [{"role": "user", "content": PROMPT}]
SMOLLM2 = next(entry for entry in catalogue() if entry.name == "smollm2").present
NAMES = [
    "ui",
    pytest.param(
        "smollm2", marks=pytest.mark.skipif(not SMOLLM2, reason="smollm2 is not on this machine")
    ),
]  # type: ignore[list-item]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    house = House(open_models(["ui=ui-xs", *(["smollm2"] if SMOLLM2 else [])]), ServeSettings())
    yield house
    house.stop()


@pytest.fixture
def client(house: House) -> Iterator[openai.OpenAI]:
    with house.openai() as client:
        yield client


def _spelled(tokens: Any) -> str:
    return b"".join(bytes(token.bytes) for token in tokens).decode()


@pytest.mark.parametrize("name", NAMES)
def test_tokens_of_a_chat_whole_and_streamed(client: openai.OpenAI, name: str) -> None:
    given: dict[str, Any] = {
        "model": name,
        "messages": SAY,
        "max_tokens": 12,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 3,
    }
    choice = client.chat.completions.create(**given).choices[0]
    assert choice.logprobs and choice.logprobs.content
    tokens = choice.logprobs.content
    assert _spelled(tokens) == choice.message.content
    for token in tokens:
        assert [token.token, token.logprob] == [
            token.top_logprobs[0].token,
            token.top_logprobs[0].logprob,
        ]  # it was the likeliest
        assert len(token.top_logprobs) == 3
        assert sorted((other.logprob for other in token.top_logprobs), reverse=True) == [
            other.logprob for other in token.top_logprobs
        ]
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1 + 1e-5
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**given, stream=True)]
    streamed = [
        token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content or ()
    ]
    assert [token.token for token in streamed] == [token.token for token in tokens]
    assert sum(bool(chunk.logprobs) for chunk in chunks) > 1
    for chunk in chunks:
        assert not chunk.logprobs or _spelled(chunk.logprobs.content) == chunk.delta.content


@pytest.mark.parametrize("seed", range(4))
def test_their_sum_is_the_score_of_the_text(client: openai.OpenAI, seed: int) -> None:
    given: dict[str, Any] = {
        "model": "ui",
        "messages": SAY,
        "max_tokens": 12,
        "seed": seed,
        "temperature": 0.8,
    }
    choice = client.chat.completions.create(**given, logprobs=True).choices[0]
    assert choice.logprobs and choice.logprobs.content and choice.message.content
    assert all(token.top_logprobs == [] for token in choice.logprobs.content)

    async def scored() -> Any:
        model = load("ui-xs")
        try:
            return (await model.logprobs(Request(prompt=PROMPT), [choice.message.content or ""]))[
                0
            ][0]
        finally:
            await model.close()

    expected = asyncio.run(scored())
    assert len(expected) == len(choice.logprobs.content)
    assert sum(token.logprob for token in choice.logprobs.content) == pytest.approx(
        float(expected.sum()), abs=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_tokens_of_a_completion(client: openai.OpenAI, name: str) -> None:
    given: dict[str, Any] = {
        "model": name,
        "prompt": PROMPT,
        "max_tokens": 8,
        "temperature": 0,
        "logprobs": 2,
    }
    choice = client.completions.create(**given).choices[0]
    logs = choice.logprobs
    assert logs and logs.tokens and logs.top_logprobs and logs.token_logprobs and logs.text_offset
    assert "".join(logs.tokens) == choice.text
    assert [
        choice.text[at : at + len(token)]
        for at, token in zip(logs.text_offset, logs.tokens, strict=True)
    ] == logs.tokens
    assert all(
        2 <= len(top) <= 3 and top[token] == max(top.values())
        for top, token in zip(logs.top_logprobs, logs.tokens, strict=True)
    )
    streamed = [
        chunk.choices[0].logprobs for chunk in client.completions.create(**given, stream=True)
    ]
    assert [at for one in streamed if one for at in one.text_offset or ()] == logs.text_offset


def test_a_stop_string_ends_the_tokens_too(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {
        "model": "ui",
        "messages": SAY,
        "max_tokens": 12,
        "temperature": 0,
        "logprobs": True,
    }
    whole = client.chat.completions.create(**given).choices[0].message.content or ""
    stop = whole[len(whole) // 2 :][:3]
    for choice in (
        client.chat.completions.create(**given, stop=stop).choices[0],
        *client.chat.completions.create(**given, stop=stop, n=2).choices,
    ):
        assert choice.logprobs
        spelled = _spelled(choice.logprobs.content)
        assert whole.startswith(spelled) and spelled.startswith(choice.message.content or "")
        assert len(spelled) - len(choice.message.content or "") < len(
            (choice.logprobs.content or [])[-1].token
        )


def test_the_choice_of_a_strategy_has_its_tokens(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {
        "model": "ui@hedged3-mbr",
        "messages": SAY,
        "max_tokens": 8,
        "logprobs": True,
        "seed": 1,
    }
    choice = client.chat.completions.create(**given).choices[0]
    assert choice.logprobs and _spelled(choice.logprobs.content) == choice.message.content
    streamed = [chunk.choices[0] for chunk in client.chat.completions.create(**given, stream=True)]
    tokens = [
        token for chunk in streamed if chunk.logprobs for token in chunk.logprobs.content or ()
    ]
    assert _spelled(tokens) == "".join(chunk.delta.content or "" for chunk in streamed)


def test_a_server_behind_ours_is_asked_and_its_tokens_passed_on(
    upstream: Any, open_house: Any
) -> None:
    house = open_house({"fake": upstream.model()})
    upstream.acts = [{"logprobs": True}]
    with house.openai() as client:
        stream = client.chat.completions.create(
            model="fake", messages=SAY, logprobs=True, top_logprobs=4, stream=True
        )
        chunks = [chunk.choices[0] for chunk in stream]
    assert (upstream.seen[0]["logprobs"], upstream.seen[0]["top_logprobs"]) == (True, 4)
    assert [
        token.token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content or ()
    ] == [
        "one ",
        "two ",
        "three ",
        "four",
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_told_is_refused(upstream: Any, open_house: Any, stream: bool) -> None:
    house = open_house({"fake": upstream.model()})
    response = house.chat(logprobs=True, stream=stream)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "logprobs")
    assert (
        "there are no log-probabilities of this answer: its server gives none"
        in response.json()["error"]["message"]
    )


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ({"top_logprobs": 2}, "top_logprobs", "top_logprobs needs logprobs: true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "it must be from 0 to 20"),
        ({"logprobs": 3}, "logprobs", "logprobs must be true or false"),
        (
            {"logprobs": True, "pomona": {"context": "thought"}},
            "logprobs",
            "a context changed the text",
        ),
    ],
)
def test_wrong_wishes_are_named(
    upstream: Any, open_house: Any, given: dict[str, Any], param: str, says: str
) -> None:
    house = open_house({"fake": upstream.model()})
    response = house.chat(**given)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), json.dumps(
        response.json()
    )
    assert says in response.json()["error"]["message"]
