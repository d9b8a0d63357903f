"""What a model says is passed on as it is: reasons, refusals, filters and calls; what it cannot do
is refused; and where it is stays with the server.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import openai
import pytest

from pomona.models import Model, ModelError, RetryPolicy, smollm2_path
from pomona.models.http import HttpModel
from pomona.serve.call import told_of

from .conftest import House, Open, Upstream

TOOL = {"type": "function", "function": {"name": "get"}}


def _chunks(text: str) -> list[dict[str, Any]]:
    events = [block[6:] for block in text.strip().split("\n\n") if block.startswith("data: ")]
    return [json.loads(event) for event in events if event != "[DONE]"]


def test_reasons_and_refusals_are_passed_on(house: House, upstream: Upstream) -> None:
    upstream.acts = [{"message": {"content": "4", "reasoning_content": "2 + 2"}}]
    message = house.chat().json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("4", "2 + 2")
    upstream.acts = [{"message": {"content": None, "refusal": "I may not."}}]
    message = house.chat().json()["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "I may not.")
    upstream.acts = [
        {"words": ["4"], "deltas": [{"reasoning_content": "2 + 2"}, {"refusal": "No."}]}
    ]
    deltas = [one["choices"][0]["delta"] for one in _chunks(house.chat(stream=True).text)]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "2 + 2"
    assert [delta["refusal"] for delta in deltas if "refusal" in delta] == ["No."]
    assert "".join(delta.get("content") or "" for delta in deltas) == "4"


def test_a_filter_is_no_stop(house: House, upstream: Upstream) -> None:
    upstream.acts = [{"finish": "content_filter"}]
    last = _chunks(house.chat(stream=True).text)[-1]
    assert last["choices"][0]["finish_reason"] == "content_filter"
    upstream.acts = [{"finish": "content_filter"}]
    assert house.chat().json()["choices"][0]["finish_reason"] == "content_filter"


def test_refused_answers_are_no_candidates(house: House, upstream: Upstream) -> None:
    upstream.acts = [{"message": {"content": None, "refusal": "No."}}, {}]
    found = house.chat(model="fake@hedged5-mbr").json()
    assert found["pomona"]["notes"]["pool"]["refused"] in {1, 4}
    assert len(found["pomona"]["candidates"]) + found["pomona"]["notes"]["pool"]["refused"] == 5
    assert found["choices"][0]["message"]["refusal"] is None
    upstream.acts = [{"message": {"content": None, "refusal": "No."}}] * 2
    found = house.chat(model="fake@hedged5-mbr").json()
    assert found["choices"][0]["message"]["refusal"] == "No."


def test_two_streamed_calls_without_an_index_stay_two(house: House, upstream: Upstream) -> None:
    calls = [{"id": at, "function": {"name": "get", "arguments": "{}"}} for at in "ab"]
    deltas = [{"tool_calls": [call]} for call in calls]
    upstream.acts = [{"words": (), "deltas": deltas, "finish": "tool_calls"}]
    with house.openai() as client:
        stream = client.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": "Go"}],
            stream=True,
            tools=[TOOL],  # type: ignore[list-item]
        )
        told = [call for chunk in stream for call in chunk.choices[0].delta.tool_calls or ()]
    assert [(call.index, call.id, call.function and call.function.name) for call in told] == [
        (0, "a", "get"),
        (1, "b", "get"),
    ]
    assert isinstance(client, openai.OpenAI)


@pytest.mark.skipif(not smollm2_path().is_file(), reason="smollm2 is not in the cache")
def test_a_small_model_refuses_tools_and_counts_exactly(open_house: Open) -> None:
    from pomona.models import load

    house = open_house({"small": load("smollm2"), "tiny": load("ui-xs")})
    for name in ("small", "tiny"):
        for stream in (False, True):
            refused = house.chat(model=name, tools=[TOOL], stream=stream)
            assert refused.status_code == 400
            assert "knows no tools" in refused.json()["error"]["message"]
    said = [{"role": "user", "content": "Repeat exactly: 😀😀😀😀"}]
    for most in range(3, 8):
        given = {"model": "small", "messages": said, "max_tokens": most, "temperature": 0}
        whole = house.chat(**given).json()
        pieces = [
            one["choices"][0]["delta"] for one in _chunks(house.chat(**given, stream=True).text)
        ]
        text = whole["choices"][0]["message"]["content"]
        assert text == "".join(piece.get("content", "") for piece in pieces)
        assert "\ufffd" not in text
        assert whole["usage"]["completion_tokens"] == most


def test_what_belongs_to_a_strategy_is_refused_without_one(house: House) -> None:
    for ours in ({"budget": {"tokens": 5}}, {"candidates": True}):
        refused = house.chat(pomona=ours)
        assert refused.status_code == 400
        assert "belongs to a strategy — name one, as in fake@hedged5-mbr" in refused.text
    assert house.chat(pomona={"budget": {}, "candidates": False}).status_code == 200


def test_usage_is_the_sum_of_what_the_server_counted(house: House, upstream: Upstream) -> None:
    found = house.chat(n=3).json()
    assert found["usage"]["completion_tokens"] == 15
    assert found["pomona"]["spent"]["completion_tokens"] == 15


@pytest.mark.parametrize(
    ("act", "says"),
    [
        ({"message": {"content": 42}}, "message.content must be text, not 42"),
        ({"status": 429, "headers": {"retry-after": "1e400"}}, "status 429"),
    ],
)
def test_a_lie_is_told_with_its_cause_and_without_an_address(
    upstream: Upstream, open_house: Open, act: Any, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pomona.serve")
    model: Model = upstream.model("internal/name", policy=RetryPolicy(attempts=1))
    house = open_house({"fake": model})
    upstream.acts = [act]
    told = house.chat()
    assert says in told.json()["error"]["message"]
    for secret in ("127.0.0.1", str(upstream.port), "internal/name", "http"):
        assert secret not in told.text
    if told.status_code >= 500:
        assert str(upstream.port) in caplog.text


def test_a_server_that_is_away_has_no_address_for_clients(open_house: Open) -> None:
    away = HttpModel("http://127.0.0.1:1/v1#dead", policy=RetryPolicy(attempts=1))
    house = open_house({"away": away})
    for stream in (False, True):
        told = house.chat(model="away", stream=stream)
        assert told.status_code == 502
        assert "127.0.0.1" not in told.text and "http" not in told.text
        assert told.json()["error"]["message"].startswith("away: cannot be reached: ")


@pytest.mark.parametrize(
    "text",
    [
        "certificate is not valid for 'llm.intern.example'",
        "refused by http://llm.intern.example:8000/v1/chat",
        "cannot connect to 10.0.0.7:8000",
        "cannot connect to [fe80::1]:8000",
        "llm.intern.example:8000 closed the connection",
    ],
)
def test_addresses_are_taken_out_of_any_text(text: str) -> None:
    where = "http:http://llm.intern.example:8000/v1#name"
    told = told_of(ModelError(text, status=502, where=where), None)
    for secret in ("intern", "10.0.0.7", "fe80", "8000"):
        assert secret not in told
    bare = ModelError("llm:8000 hung up, says llm", status=502, where="http:http://llm:8000/v1#x")
    assert told_of(bare, None) == "the model: the model hung up, says the model"
