"""Servers that lie: whatever they say is an answer or an error of status 502 with the place, and
never a crash, a hang or a silent loss.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.models.concurrency import RetryPolicy, retry_after
from pomona.models.http.client import usage_of
from pomona.models.http.model import HttpModel
from pomona.models.request import ModelError, Reply, ReplyPiece, Request

ASK = Request(messages=({"role": "user", "content": "Say a number."},), max_tokens=9, logprobs=1)
ONCE = RetryPolicy(attempts=1)


def model_of(*bodies: bytes, status: int = 200, headers: Any = None) -> HttpModel:
    """A model whose server says these bodies, one a request, the last for ever."""
    left = list(bodies)

    def answer(_: httpx.Request) -> httpx.Response:
        body = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(status, content=body, headers=headers)

    model = HttpModel("http://10.1.2.3:8000/v1#fake", policy=ONCE)
    model.client._client = httpx.AsyncClient(
        base_url=model.client.base, transport=httpx.MockTransport(answer)
    )
    return model


def whole(answer: Any, request: Request = ASK, n: int = 1) -> list[Reply]:
    raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return asyncio.run(model_of(raw).reply(request, [(at, 0.0) for at in range(n)]))


def streamed(*events: Any, end: str = "\n\n", request: Request = ASK) -> list[ReplyPiece | Reply]:
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    raw = "".join(f"data: {text}{end}" for text in (*texts, "[DONE]")).encode()

    async def main() -> list[ReplyPiece | Reply]:
        return [item async for item in model_of(raw).stream(request, [(0, 0.0)])]

    return asyncio.run(main())


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": "one"}, "finish_reason": "stop", **fields}]}


def chunk(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, **fields}]}


END = chunk(delta={}, finish_reason="stop")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (choice(message="hi"), 'choices[0].message must be an object, not "hi"'),
        (choice(message={"content": 42}), "choices[0].message.content must be text, not 42"),
        (choice(message={"content": ["a"]}), 'message.content must be text, not ["a"]'),
        (choice(finish_reason={"type": "stop"}), "finish_reason must be text, not {"),
        (choice(index="0"), 'choices[0].index must be a whole number, not "0"'),
        (choice(index=-1), "choices[0].index must be greater than or equal to 0, not -1"),
        (choice(message={"tool_calls": {}}), "message.tool_calls must be a list, not {}"),
        (choice(message={"tool_calls": ["x"]}), 'tool_calls[0] must be an object, not "x"'),
        (choice(message={"tool_calls": [{"id": 7}]}), "tool_calls[0].id must be text, not 7"),
        (choice(logprobs={"content": [{"token": 1, "logprob": 0}]}), "token must be text, not 1"),
        (choice(logprobs={"content": [{"token": "a", "bytes": [256]}]}), "less than or equal"),
        (choice(logprobs={"tokens": ["a"], "token_logprobs": ["x"]}), "token_logprobs[0] must"),
        ({"choices": "hi"}, 'choices must be a list, not "hi"'),
        ({"choices": [None]}, "choices[0] must be an object, not null"),
    ],
)
def test_a_malformed_answer_is_a_502_with_the_place(answer: Any, says: str) -> None:
    with pytest.raises(ModelError, match="its answer is malformed") as failed:
        whole(answer)
    assert says in failed.value.message
    assert failed.value.status == 502


@pytest.mark.parametrize(
    "event",
    [
        chunk(delta="hi"),
        chunk(delta={"content": 42}),
        {"choices": [{"index": "0", "delta": {"content": "a"}}]},
        {"choices": [{"index": 1, "delta": {"content": "a"}}]},
        chunk(delta={}, finish_reason=["stop"]),
        chunk(delta={"tool_calls": [{"index": "0"}]}),
    ],
)
def test_a_malformed_event_is_a_502_with_the_place(event: Any) -> None:
    with pytest.raises(ModelError, match="its answer is malformed: ") as failed:
        streamed(chunk(delta={"content": "a "}), event, END)
    assert failed.value.status == 502


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"choices": [NaN]}', "it holds NaN"),
        (b'{"usage": 1e999}', "1e999 is too large"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": "\xff"}', "it is not UTF-8"),
    ],
)
def test_what_json_has_not_is_a_502_with_the_cause(raw: bytes, says: str) -> None:
    with pytest.raises(ModelError, match="failed once") as failed:
        whole(raw)
    assert says in failed.value.message
    assert failed.value.status == 502
    if raw.isascii():
        with pytest.raises(ModelError, match="an event is not JSON") as failed:
            streamed(raw.decode())
        assert failed.value.status == 502


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"Sav\ud83d", "Sav\ufffd"),
        (r"\uDE00ab\ud83d\uDE00", "\ufffdab😀"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\\ud83d \n", "\\ud83d \n"),
    ],
)
def test_half_a_character_is_not_asked_for_again(written: str, read: str) -> None:
    reply = whole(f'{{"choices": [{{"message": {{"content": "{written}"}}}}]}}'.encode())
    assert [one.text for one in reply] == [read]


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
def test_only_line_feeds_and_carriage_returns_end_a_line(end: str) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    plain = json.dumps(chunk(delta={"content": text}), ensure_ascii=False)
    *pieces, reply = streamed(plain, END, end=end)
    assert [piece.text for piece in pieces] == [text]
    assert isinstance(reply, Reply) and reply.text == text


@given(st.data())
def test_a_stream_is_the_same_however_it_is_cut(data: Any) -> None:
    texts = data.draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4))
    end = data.draw(st.sampled_from(["\n\n", "\r\n\r\n", "\r\r", "\n\r\n"]))
    events = [json.dumps(chunk(delta={"content": text})) for text in texts]
    raw = "".join(f"data: {e}{end}" for e in (*events, json.dumps(END), "[DONE]")).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    async def content() -> Any:
        for part in parts:
            yield part

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=content())

    async def main() -> str:
        model = model_of(b"")
        model.client._client = httpx.AsyncClient(
            base_url=model.client.base, transport=httpx.MockTransport(answer)
        )
        return [item async for item in model.stream(ASK, [(0, 0.0)])][-1].text

    if all(not 0xD800 <= ord(letter) <= 0xDFFF for text in texts for letter in text):
        assert asyncio.run(main()) == "".join(texts)


def called(*pieces: Any) -> list[tuple[str, str, str]]:
    events = [chunk(delta={"tool_calls": [piece]}) for piece in pieces]
    reply = streamed(*events, chunk(delta={}, finish_reason="tool_calls"))[-1]
    assert isinstance(reply, Reply)
    return [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in reply.tool_calls
    ]


def test_a_new_id_is_a_new_call_with_an_index_or_without() -> None:
    def piece(id: str | None, name: str | None, arguments: str, **more: Any) -> Any:
        told = {"id": id} if id else {}
        return {**told, **more, "function": {"name": name, "arguments": arguments}}

    two = [("a", "get", '{"x": 1}'), ("b", "get", '{"x": 2}')]
    whole_ones = piece("a", "get", '{"x": 1}'), piece("b", "get", '{"x": 2}')
    assert called(*whole_ones) == two
    in_pieces = [piece("a", "get", '{"x"'), piece(None, None, ": 1}")]
    assert called(*in_pieces, piece("b", "get", '{"x"'), piece(None, None, ": 2}")) == two
    assert called(*({**each, "index": 0} for each in whole_ones)) == two
    mixed = [piece("a", "get", '{"x"', index=0), piece("b", "get", '{"x": 2}', index=1)]
    assert called(*mixed, piece(None, None, ": 1}", index=0)) == two
    repeated = [piece("a", "get", '{"x"'), piece("a", "get", ": 1}"), whole_ones[1]]
    assert called(*repeated) == two
    nameless = [piece(None, "get", '{"x": 1}'), piece(None, "get", '{"x": 2}')]
    assert called(*nameless) == [("", *rest) for _, *rest in two]


def test_reasons_refusals_and_filters_are_kept() -> None:
    said = {"content": None, "refusal": "I may not."}
    reply = whole(choice(message=said))[0]
    assert (reply.text, reply.refusal, reply.answered) == ("", "I may not.", False)
    reply = whole(choice(finish_reason="content_filter"))[0]
    assert (reply.text, reply.finish_reason, reply.answered) == ("one", "content_filter", False)
    reply = whole(choice(message={"content": "4", "reasoning_content": "2 + 2"}))[0]
    assert (reply.text, reply.reasoning, reply.answered) == ("4", "2 + 2", True)
    *pieces, reply = streamed(
        chunk(delta={"reasoning_content": "2 "}),
        chunk(delta={"reasoning": "+ 2"}),
        chunk(delta={"content": "4"}),
        END,
    )
    assert [(piece.text, piece.reasoning) for piece in pieces] == [
        ("", "2 "),
        ("", "+ 2"),
        ("4", ""),
    ]
    assert isinstance(reply, Reply) and (reply.text, reply.reasoning) == ("4", "2 + 2")
    reply = streamed(chunk(delta={"refusal": "I may "}), chunk(delta={"refusal": "not."}), END)[-1]
    assert isinstance(reply, Reply) and reply.refusal == "I may not."
    with pytest.raises(ModelError, match='ended it with finish_reason "error"'):
        whole(choice(finish_reason="error"))


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 7, "completion_tokens": -5},
        {"prompt_tokens": 10**30, "completion_tokens": 5},
        {"prompt_tokens": 7, "completion_tokens": 1e300},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": "7", "completion_tokens": 5},
        {"prompt_tokens": 0, "completion_tokens": 5},
        {"prompt_tokens": 7},
    ],
)
def test_absurd_usage_is_unknown(usage: Any) -> None:
    assert usage_of({"usage": usage}) is None
    spent = whole({**choice(), "usage": usage})[0].spent
    assert spent.estimated and spent.prompt_tokens > 0 and spent.completion_tokens > 0


@given(st.lists(st.text(max_size=40), min_size=2, max_size=8), st.integers(1, 400))
def test_the_tokens_of_several_choices_add_up(texts: list[str], counted: int) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    each = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
    usage = {"prompt_tokens": 3, "completion_tokens": counted}
    replies = whole({"choices": each, "usage": usage}, n=len(texts))
    total = sum(reply.spent.completion_tokens for reply in replies)
    # A server that counted the first choice alone is told by its number, and then all are more.
    assert total >= counted if any(texts) else total > 0


def test_seventeen_tokens_are_seventeen() -> None:
    each = [
        {"message": {"content": f"answer number {at}"}, "finish_reason": "stop"} for at in range(3)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 17}
    replies = whole({"choices": each, "usage": usage}, n=3)
    assert sum(reply.spent.completion_tokens for reply in replies) == 17


@pytest.mark.parametrize("value", ["1e400", "inf", "nan", "-inf", "soon", "", None, "Fri, 99 Foo"])
def test_a_retry_after_that_says_nothing_usable(value: str | None) -> None:
    assert retry_after(value) is None
    model = model_of(b"{}", status=429, headers={"Retry-After": value} if value else None)
    with pytest.raises(ModelError, match="status 429") as failed:
        asyncio.run(model.reply(ASK, [(0, 0.0)]))
    assert (failed.value.status, failed.value.retry_after) == (429, None)


@pytest.mark.parametrize(
    "data",
    [
        [],
        "hi",
        [{"index": 0, "embedding": [1.0]}] * 2,
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": ["1"]}, {"index": 1, "embedding": [1.0]}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": [1e300]}, {"index": 1, "embedding": [1.0]}],
    ],
)
def test_embeddings_that_are_none(data: Any) -> None:
    with pytest.raises(ModelError, match="its answer is malformed") as failed:
        asyncio.run(model_of(json.dumps({"data": data}).encode()).vectors(["a", "b"]))
    assert failed.value.status == 502


def test_a_request_that_is_no_json_never_leaves() -> None:
    for request in (
        Request(prompt="\ud800"),
        Request(prompt="a", extra={"x": float("nan")}),
        Request(prompt="a", extra={"x": object()}),
    ):
        with pytest.raises(ModelError, match="cannot be written as JSON") as failed:
            asyncio.run(model_of(b"{}").reply(request, [(0, 0.0)]))
        assert failed.value.status == 400


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from(["", "hi", "0", "stop", "length", "error"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["index", "content", "id", "text", "message"]), inner)
    ),
    max_leaves=6,
)
GOOD = {
    "choices": [
        {
            "index": 0,
            "message": {
                "content": "one",
                "refusal": None,
                "reasoning_content": "a",
                "tool_calls": [
                    {"index": 0, "id": "a", "function": {"name": "get", "arguments": "{}"}}
                ],
            },
            "delta": {"content": "one", "tool_calls": [{"id": "a", "function": {"name": "get"}}]},
            "text": None,
            "finish_reason": "stop",
            "logprobs": {
                "content": [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}],
                "tokens": ["a"],
                "token_logprobs": [-1.0],
                "top_logprobs": [{"a": -1.0}],
            },
        }
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 5},
    "error": None,
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from places(inner, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    items = dict(value) if isinstance(value, dict) else list(value)
    items[path[0]] = changed(value[path[0]], path[1:], new)
    return items


@st.composite
def lies(draw: Any) -> Any:
    """A good answer with some of it changed."""
    answer: Any = GOOD
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places(answer))))
        answer = changed(answer, path, draw(JSON))
    return answer


@settings(max_examples=30)
@given(lies(), lies(), st.randoms(use_true_random=False))
def test_whatever_a_server_says_is_an_answer_or_an_error(
    one: Any, two: Any, chance: random.Random
) -> None:
    raw = json.dumps(one).encode()
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in (one, two)) + "data: [DONE]\n\n"
    cut = stream.encode()[: chance.randint(0, len(stream))]

    async def main() -> None:
        for request in (ASK, Request(prompt="x", options=("one", "two"))):
            for body in (raw, raw[:-1], cut):
                with suppress(PomonaError):
                    for reply in await model_of(body).reply(request, [(0, 0.0), (1, 0.0)]):
                        assert isinstance(reply.text, str) and reply.spent.prompt_tokens >= 0
            for body in (stream.encode(), cut):
                with suppress(PomonaError):
                    async for item in model_of(body).stream(request, [(0, 0.0)]):
                        assert isinstance(item.text, str)
        with suppress(PomonaError):
            await model_of(raw).vectors(["a"])

    asyncio.run(asyncio.wait_for(main(), 10))
