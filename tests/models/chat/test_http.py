"""What a user of a server sees: right answers, honest counts, and errors that say whose fault it
is.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.models.concurrency import Rate, RetryPolicy, wait_for
from pomona.models.http import client
from pomona.models.http.model import HttpModel
from pomona.models.loading import load
from pomona.models.model import Model
from pomona.models.request import ModelError, Reply, ReplyPiece, Request

ASK = Request(
    messages=({"role": "user", "content": "Say a number."},), max_tokens=9, temperature=0.5, seed=3
)
QUICK = RetryPolicy(attempts=4, first=0.01, longest=0.02, total=3.0)


def ask(fake: Any, use: Callable[[HttpModel], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    async def main() -> Any:
        model = HttpModel(fake.uri, **{"policy": QUICK, "timeout": 5.0, **settings})
        try:
            return await use(model)
        finally:
            await model.close()

    return asyncio.run(main())


def pool(
    model: HttpModel, request: Request = ASK, temperatures: tuple[float, ...] = (0.5,)
) -> Coroutine[Any, Any, list[Reply]]:
    return model.reply(request, list(enumerate(temperatures)))


async def streamed(model: HttpModel, request: Request = ASK) -> list[str | Reply]:
    """The texts of the pieces, then the reply."""
    coming = model.stream(request, [(0, request.temperature)])
    return [item.text if isinstance(item, ReplyPiece) else item async for item in coming]


def test_a_request_is_an_openai_request_and_extra_goes_through(fake: Any) -> None:
    request = replace(ASK, stop=("\n",), top_p=0.9, min_p=0.1, extra={"repetition_penalty": 1.1})
    request = replace(request, top_k=5, presence_penalty=-0.5, logit_bias={7: -1.0})
    reply = ask(fake, lambda model: pool(model, request))[0]
    assert fake.seen == [
        {
            "model": "fake",
            "messages": [{"role": "user", "content": "Say a number."}],
            "max_tokens": 9,
            "temperature": 0.5,
            "seed": 3,
            "top_p": 0.9,
            "min_p": 0.1,
            "stop": ["\n"],
            "repetition_penalty": 1.1,
            "top_k": 5,
            "presence_penalty": -0.5,
            "logit_bias": {"7": -1.0},
        }
    ]
    assert (reply.text, reply.model, reply.index, reply.temperature) == ("3-0", "fake", 0, 0.5)
    assert (reply.spent.prompt_tokens, reply.spent.completion_tokens, reply.spent.estimated) == (
        7,
        5,
        False,
    )


def test_the_pool_is_one_request_a_temperature(fake: Any) -> None:
    replies = ask(fake, lambda model: pool(model, ASK, (0.0, 0.8, 0.8, 0.8)))
    assert sorted((body["temperature"], body.get("n", 1)) for body in fake.seen) == [
        (0.0, 1),
        (0.8, 3),
    ]
    assert [(reply.index, reply.temperature) for reply in replies] == [
        (0, 0.0),
        (1, 0.8),
        (2, 0.8),
        (3, 0.8),
    ]
    assert len({reply.text for reply in replies}) == 4
    assert sum(reply.spent.prompt_tokens for reply in replies) == 14  # two requests read it


def test_missing_choices_are_asked_singly_with_seeds_of_their_own(fake: Any) -> None:
    fake.acts = [{"most": 2}]
    replies = ask(fake, lambda model: pool(model, ASK, (0.5,) * 5))
    assert [body.get("n", 1) for body in fake.seen] == [5, 1, 1, 1]
    assert len({body["seed"] for body in fake.seen}) == 4
    assert len({reply.text for reply in replies}) == 5


@pytest.mark.parametrize(
    "act", [{"status": 429}, {"status": 500}, {"status": 503}, {"status": 408}, {"status": 409}]
)
def test_what_may_pass_is_tried_again(fake: Any, act: dict[str, Any]) -> None:
    fake.acts = [act, act]
    assert ask(fake, pool)[0].text == "3-0"
    assert len(fake.seen) == 3


@pytest.mark.parametrize(
    "raw",
    [b"<html>busy</html>", b"[1]", b'{"error": {"message": "out of memory"}}', b'{"choices": []}'],
)
def test_a_lie_with_status_200_is_a_failure(fake: Any, raw: bytes) -> None:
    fake.acts = [{"raw": raw}]
    assert ask(fake, pool)[0].text == "3-0"
    fake.acts = [{"raw": raw}] * 4
    with pytest.raises(ModelError, match="failed 4 times") as failed:
        ask(fake, pool)
    assert failed.value.status == 502


def test_retry_after_in_seconds_is_obeyed(fake: Any) -> None:
    fake.acts = [{"status": 429, "headers": {"Retry-After": "0.5"}}]
    ask(fake, pool)
    assert fake.times[1] - fake.times[0] >= 0.5


def test_retry_after_as_a_date_is_obeyed(fake: Any) -> None:
    when = datetime.now(UTC) + timedelta(seconds=2)
    fake.acts = [{"status": 503, "headers": {"Retry-After": format_datetime(when, usegmt=True)}}]
    ask(fake, pool)
    assert fake.times[1] - fake.times[0] >= 0.5


def test_retry_after_past_the_policy_gives_up_at_once(fake: Any) -> None:
    fake.acts = [{"status": 429, "headers": {"Retry-After": "3600"}}]
    with pytest.raises(ModelError, match="failed once, the last time: status 429: no") as failed:
        ask(fake, pool)
    assert (failed.value.status, failed.value.upstream, failed.value.retry_after) == (
        429,
        429,
        3600,
    )
    assert len(fake.seen) == 1


@pytest.mark.parametrize(
    ("status", "ours"), [(400, 400), (401, 502), (403, 502), (404, 404), (422, 422)]
)
def test_what_cannot_succeed_is_asked_once(fake: Any, status: int, ours: int) -> None:
    fake.acts = [{"status": status, "message": "unknown model", "code": "nope"}]
    with pytest.raises(ModelError, match=f"refused with status {status}: unknown model") as failed:
        ask(fake, pool)
    assert (failed.value.status, failed.value.upstream, failed.value.code) == (ours, status, "nope")
    assert len(fake.seen) == 1


def test_a_server_that_hangs_is_a_504_and_one_that_is_away_a_502(fake: Any) -> None:
    fake.acts = [{"delay": 0.6}] * 2
    short = RetryPolicy(attempts=2, first=0.01, total=3.0)
    with pytest.raises(ModelError, match="no answer in time") as failed:
        ask(fake, pool, timeout=0.2, policy=short)
    assert failed.value.status == 504
    fake.port = 9  # nobody listens there
    with pytest.raises(ModelError, match=r"cannot be reached: .* — check that") as failed:
        ask(fake, pool, policy=short)
    assert failed.value.status == 502


def test_signs_of_life_are_no_answer(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_SIGNS", 0.1)
    fake.acts = [{"delay": 0.6}]
    with pytest.raises(ModelError, match=r"no whole answer within 0\.2 s, 0\.1 times the"):
        ask(fake, pool, timeout=2.0)
    assert len(fake.seen) == 1


def test_where_another_address_leads_is_told_and_not_gone_to(fake: Any) -> None:
    fake.acts = [{"status": 307, "headers": {"location": "file:///etc/passwd"}}]
    with pytest.raises(ModelError, match='307: it leads to "file:///etc/passwd" — give the add'):
        ask(fake, pool)
    assert len(fake.seen) == 1


def test_what_was_paid_for_comes_before_the_error_of_another(fake: Any) -> None:
    async def use(model: HttpModel) -> list[Reply]:
        found = []
        with pytest.raises(ModelError, match="refused"):
            async for reply in model.each(ASK, [(0, 0.0), (1, 0.7)]):
                found.append(reply)
        return found

    fake.acts = [{"status": 400}, {"delay": 0.2}]
    assert len(ask(fake, use)) == 1


def test_streaming_gives_pieces_then_the_reply(fake: Any) -> None:
    *pieces, reply = ask(fake, streamed)
    assert pieces == ["one ", "two ", "three ", "four "]
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish_reason, reply.spent.completion_tokens) == (
        "one two three four ",
        "length",
        4,
    )


def test_a_cut_stream_goes_on_where_it_was(fake: Any) -> None:
    fake.acts = [{"cut": 0}, {"cut": 2}, {"status": 500}]
    *pieces, reply = ask(fake, streamed)
    assert pieces == ["one ", "two ", "three ", "four "]
    assert reply.text == "one two three four "


def test_a_cut_stream_whose_repetition_differs_is_an_error(fake: Any) -> None:
    fake.acts = [{"cut": 2}, {"words": ["one", "zwei"]}]
    with pytest.raises(
        ModelError, match="cut after 8 characters, and the repeated answer differs"
    ) as failed:
        ask(fake, streamed)
    assert failed.value.status == 502


def test_options_are_asked_as_a_schema_and_checked(fake: Any) -> None:
    request = replace(ASK, options=("A", "B"))
    fake.acts = [{"texts": ['{"answer": "B"}']}, {"texts": [" A\n"]}, {"texts": ["neither"]}]
    assert [ask(fake, lambda model: pool(model, request))[0].text for _ in range(2)] == ["B", "A"]
    assert fake.seen[0]["response_format"]["json_schema"]["schema"]["properties"]["answer"][
        "enum"
    ] == ["A", "B"]
    with pytest.raises(ModelError, match="none of the options"):
        ask(fake, lambda model: pool(model, request))


@pytest.mark.parametrize(("counted", "estimated"), [(30, True), (10, True)])
def test_usage_is_corrected_where_one_choice_was_counted(
    fake: Any, counted: int, estimated: bool
) -> None:
    texts = [
        "a word and another one, and one more",
        "a word and another one, and one less",
        "a word and another two, and one less",
    ]
    fake.acts = [{"texts": texts, "usage": {"prompt_tokens": 7, "completion_tokens": counted}}]
    replies = ask(fake, lambda model: pool(model, ASK, (0.5,) * 3))
    assert [reply.spent.completion_tokens for reply in replies] == [10, 10, 10]
    assert all(reply.spent.estimated == estimated for reply in replies)


def test_without_usage_tokens_are_estimated_and_with_a_tokenizer_counted(
    fake: Any, checkpoints: dict[str, Path]
) -> None:
    fake.acts = [{"usage": None, "texts": ["save the draft"]}, {"texts": ["save the draft"]}]
    assert ask(fake, pool)[0].spent.estimated
    spent = ask(fake, pool, tokenizer=str(checkpoints["llama"]), price=(1e6, 2e6))[0].spent
    assert (spent.prompt_tokens, spent.completion_tokens, spent.estimated, spent.money) == (
        7,
        4,
        False,
        15.0,
    )


def test_concurrency_and_rate_are_kept(fake: Any) -> None:
    async def use(model: HttpModel) -> None:
        await asyncio.gather(*(pool(model) for _ in range(12)))

    fake.acts = [{"delay": 0.02}] * 12
    ask(fake, use, concurrency=3)
    assert fake.most_at_once == 3


def test_the_key_is_sent_and_never_shown(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-others")
    ask(fake, pool)
    assert "authorization" not in fake.headers[0]
    monkeypatch.setenv("POMONA_API_KEY", "sk-secret")
    fake.acts = [{}, {"status": 401}]
    ask(fake, pool)
    assert fake.headers[1]["authorization"] == "Bearer sk-secret"
    with pytest.raises(ModelError) as failed:
        ask(fake, pool)
    assert "secret" not in f"{failed.value} {failed.value.__cause__!r}"


def test_a_client_that_leaves_ends_the_request(fake: Any) -> None:
    async def use(model: HttpModel) -> float:
        task = asyncio.ensure_future(pool(model))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - started

    fake.acts = [{"delay": 0.5}]
    assert ask(fake, use) < 0.3


def test_embeddings_are_unit_vectors_in_order(fake: Any) -> None:
    vectors, spent = ask(fake, lambda model: model.vectors(["a", "b"]))
    np.testing.assert_allclose(vectors, [[1.0, 0.0], [0.6, 0.8]], rtol=1e-6)
    assert spent.prompt_tokens == 4 and spent.estimated
    fake.acts = [{"usage": {"prompt_tokens": 6}}]
    _, spent = ask(fake, lambda model: model.vectors(["a", "b"]), price=(1e6, 1e6))
    assert (spent.prompt_tokens, spent.completion_tokens, spent.money, spent.estimated) == (
        6,
        0,
        6.0,
        False,
    )


def legacy(text: str) -> dict[str, Any]:
    logs = {
        "tokens": list(text),
        "token_logprobs": [-0.5] * len(text),
        "top_logprobs": [{letter: -0.5, "z": -2.0} for letter in text],
    }
    return {"text": text, "finish_reason": "stop", "logprobs": logs}


def test_log_probabilities_are_read_from_both_forms(fake: Any) -> None:
    spelled = {
        "token": "é",
        "bytes": [195, 169],
        "logprob": -0.25,
        "top_logprobs": [{"token": "é", "bytes": [195, 169], "logprob": -0.25}] * 3,
    }
    chat = {
        "message": {"content": "é"},
        "finish_reason": "stop",
        "logprobs": {"content": [spelled]},
    }
    fake.acts = [
        {"raw": json.dumps({"choices": [chat]})},
        {"raw": json.dumps({"choices": [legacy("ab")]})},
    ]
    reply = ask(fake, lambda model: pool(model, replace(ASK, logprobs=2)))[0]
    assert (fake.seen[0]["logprobs"], fake.seen[0]["top_logprobs"]) == (True, 2)
    assert (
        reply.tokens == ({**spelled, "top_logprobs": spelled["top_logprobs"][:2]},)
        and reply.logprob == -0.25
    )
    reply = ask(fake, lambda model: pool(model, Request(prompt="x", logprobs=0)))[0]
    assert fake.seen[1]["logprobs"] == 1
    assert [(token["token"], token["bytes"], token["top_logprobs"]) for token in reply.tokens] == [
        ("a", [97], []),
        ("b", [98], []),
    ]
    assert reply.logprob == -1.0


def test_several_samples_stream_side_by_side_and_missing_ones_come_singly(fake: Any) -> None:
    fake.acts = [{"streams": 2}, {"cut": 2}]

    async def use(model: HttpModel) -> list[ReplyPiece | Reply]:
        return [item async for item in model.stream(ASK, [(0, 0.5), (1, 0.5), (2, 0.5)])]

    items = ask(fake, use)
    replies = {item.index: item.text for item in items if isinstance(item, Reply)}
    assert replies == dict.fromkeys(range(3), "one two three four ")
    for index, text in replies.items():
        assert (
            "".join(
                item.text for item in items if isinstance(item, ReplyPiece) and item.index == index
            )
            == text
        )
    order = [item.index for item in items if isinstance(item, ReplyPiece)]
    assert order[:4] == [0, 1, 0, 1]
    assert [body.get("n", 1) for body in fake.seen] == [3, 1, 1]


def test_tool_calls_come_back(fake: Any) -> None:
    raw = (
        b'{"choices": [{"finish_reason": "tool_calls", "message": {"content": null, "tool_calls": '
        b'[{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]}}]}'
    )
    fake.acts = [{"raw": raw}]
    reply = ask(
        fake,
        lambda model: pool(
            model, replace(ASK, tools=({"type": "function", "function": {"name": "add"}},))
        ),
    )[0]
    assert (reply.text, reply.finish_reason, reply.tool_calls[0]["function"]["name"]) == (
        "",
        "tool_calls",
        "add",
    )


@pytest.mark.parametrize("uri", ["http://127.0.0.1/v1", "http://#x"])
def test_an_address_without_a_model_says_what_to_write(uri: str) -> None:
    with pytest.raises(PomonaError, match="write http://HOST/v1#NAME"):
        load(uri)


def test_a_wrong_request_never_leaves(fake: Any) -> None:
    with pytest.raises(ModelError, match="max_tokens is 0") as failed:
        ask(fake, lambda model: pool(model, replace(ASK, max_tokens=0)))
    assert failed.value.status == 400
    assert fake.seen == []


def test_a_server_gives_its_replies_as_they_come(fake: Any) -> None:
    async def main() -> None:
        model = load(fake.uri, rate=Rate(requests=60))
        assert type(model).each is not Model.each
        assert model.identity == fake.uri.replace("http:", "http:http:", 1)
        await model.close()

    asyncio.run(main())


def test_a_server_is_a_model_for_programs_that_wait(fake: Any) -> None:
    model = load(fake.uri, chat=True)
    pools = model.generate(["save", "delete"], n=2, temperature=[0.0, 0.8], max_new_tokens=4)
    assert [[sample.text != "" for sample in pool] for pool in pools] == [[True, True]] * 2
    assert {body["messages"][0]["content"] for body in fake.seen} == {"save", "delete"}
    assert {body["temperature"] for body in fake.seen} == {0.0, 0.8}
    with pytest.raises(PomonaError, match=r'cannot "score" — score with torch: open .* as hf:PATH'):
        model.score(["save"], ["page"])
    with pytest.raises(PomonaError, match="2 temperatures for n=3 samples"):
        model.generate(["save"], n=3, temperature=[0.0, 0.8])
    wait_for(model.close())
