"""Servers with ways of their own: fields that they refuse by name, and keys that are theirs alone."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.models import Reply, Request
from pomona.models.concurrency import RetryPolicy
from pomona.models.http.client import refused
from pomona.models.http.dialect import Dialect, key_for
from pomona.models.http.model import HttpModel
from pomona.models.request import ModelError

ASK = Request(
    messages=({"role": "user", "content": "Say."},), max_tokens=9, temperature=0.5, seed=3
)
RENAMED = {
    "status": 400, "code": "unsupported_parameter",
    "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
}  # fmt: skip
NO_TEMPERATURE = {
    "status": 400, "code": "unsupported_value",
    "message": "Unsupported value: 'temperature' does not support 0.5 with this model. "
    "Only the default (1) value is supported.",
}  # fmt: skip
NO_OPTIONS = {"status": 400, "message": "Unrecognized request argument supplied: stream_options"}


def ask(fake: Any, use: Callable[[HttpModel], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        model = HttpModel(fake.uri, policy=RetryPolicy(attempts=1), timeout=5.0)
        try:
            return await use(model)
        finally:
            await model.close()

    return asyncio.run(main())


def test_what_a_server_refuses_by_name_is_asked_otherwise_from_then_on(
    fake: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def twice(model: HttpModel) -> list[Reply]:
        return [*await model.reply(ASK, [(0, 0.5)]), *await model.reply(ASK, [(1, 0.5)])]

    fake.acts = [RENAMED, NO_TEMPERATURE]
    with caplog.at_level(logging.WARNING, "pomona.models"):
        replies = ask(fake, twice)
    assert [reply.text for reply in replies] == ["3-0", f"{fake.seen[3]['seed']}-0"]
    for body in fake.seen[2:]:
        assert body["max_completion_tokens"] == 9
        assert not {"max_tokens", "temperature"} & set(body)
    told = "takes no temperature: every answer is drawn at the model's own"
    assert [record.getMessage() for record in caplog.records] == [f"{fake.uri} {told}"]


def test_streams_too(fake: Any) -> None:
    async def read(model: HttpModel) -> list[Any]:
        return [item async for item in model.stream(ASK, [(0, 0.5)])]

    fake.acts = [NO_OPTIONS, RENAMED]
    reply = ask(fake, read)[-1]
    assert reply.text == "one two three four "
    assert [set(body) & {"stream_options", "max_tokens"} for body in fake.seen] == [
        {"stream_options", "max_tokens"}, {"max_tokens"}, set(),
    ]  # fmt: skip


def test_a_server_that_draws_one_answer_is_asked_singly(fake: Any) -> None:
    fake.acts = [{"status": 422, "message": "n: Extra inputs are not permitted"}]
    replies = ask(fake, lambda model: model.reply(ASK, [(0, 0.5), (1, 0.5)]))
    assert len(replies) == 2 and [body.get("n") for body in fake.seen] == [2, None, None]


@pytest.mark.parametrize(
    ("act", "extra"),
    [
        (NO_TEMPERATURE, {"temperature": 0.2}),  # the caller's own is never left out
        ({"status": 400, "message": "max_tokens is too large: 9. It is 8 at most."}, {}),
        ({"status": 400, "message": "temperature: 3 is an unexpected value, above 2"}, {}),
        ({"status": 404, "message": "unknown model temperature"}, {}),
        ({"status": 400, "message": "unknown model seed-1"}, {}),
        ({"status": 400, "message": "Unsupported parameter: 'messages'"}, {}),
    ],
)
def test_other_refusals_stay(fake: Any, act: dict[str, Any], extra: dict[str, Any]) -> None:
    fake.acts = [act]
    with pytest.raises(ModelError, match="refused with status 4"):
        ask(fake, lambda model: model.reply(replace(ASK, extra=extra), [(0, 0.5)]))
    assert len(fake.seen) == 1


def test_the_form_of_other_servers() -> None:
    said = {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}
    error = refused(422, json.dumps(said).encode(), "http://x/v1/")
    dialect, body = Dialect("x"), {"model": "m", "seed": 3}
    assert isinstance(error, ModelError)
    assert dialect.learns(error, body) and dialect.said(body) == {"model": "m"}
    assert not dialect.learns(error, dialect.said(body))  # refused again, it is no longer that


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"message": "no such token", "param": "logit_bias"}, "logit_bias"),
        ({"message": "bad", "param": "tools[0].function"}, "tools"),
        ({"message": "token 9 in logit_bias is out of vocabulary", "param": None}, "logit_bias"),
        ({"message": "logit_bias needs another prompt", "param": "messages"}, None),
        ({"message": "max_tokens is too large for this prompt", "param": "max_tokens"}, None),
        ({"message": "what tools say and where to stop depends on the prompt"}, None),
        ({"message": "top_k is unknown"}, None),  # it was not sent
    ],
)
def test_a_field_that_is_refused_whatever_the_prompt_is(said: Any, field: str | None) -> None:
    error = refused(400, json.dumps({"error": said}).encode(), "http://x/v1/")
    sent = {"messages": [], "max_tokens": 9, "logit_bias": {}, "tools": [], "stop": ["x"]}
    assert isinstance(error, ModelError)
    assert Dialect("x").refused_field(error, sent) == field


def test_each_server_has_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POMONA_API_KEY", "for one alone")
    monkeypatch.setenv("POMONA_API_KEY_LOCALHOST_8001", "eight")
    monkeypatch.setenv("POMONA_API_KEY_LOCALHOST", "any")
    monkeypatch.setenv("POMONA_API_KEY_MY_HOST_ORG", "")
    monkeypatch.setenv("OPENAI_API_KEY", "openai")
    keys = {
        "http://localhost:8001/v1": "eight",
        "http://localhost:8002/v1": "any",
        "https://my-host.org/v1": None,
        "https://api.openai.com/v1": "openai",
        "https://first.org/v1": "for one alone",
        "https://first.org:444/v1": "for one alone",
    }
    assert {url: key_for(url) for url in keys} == keys
    with pytest.raises(PomonaError) as told:
        key_for("https://second.org/v1")
    assert str(told.value) == (
        "second.org: POMONA_API_KEY is the key of first.org, and is sent to no other host — "
        "set POMONA_API_KEY_SECOND_ORG to the key of second.org, or to nothing where it needs none"
    )
