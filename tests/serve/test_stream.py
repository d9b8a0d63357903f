"""Streams: chunks as the official client reads them, signs of life, errors in the midst, and
clients that leave.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import openai
import pytest

from pomona.models import Model

SAY: Any = [{"role": "user", "content": "Say something."}]


def _events(text: str) -> list[str]:
    return [block[6:] for block in text.strip().split("\n\n") if block.startswith("data: ")]


def test_the_official_client_streams_and_gets_the_usage(house: Any) -> None:
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key="none") as client:
        stream = client.chat.completions.create(
            model="fake", messages=SAY, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        == "one two three four"
    )
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "stop"]
    assert chunks[-1].usage is not None
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 11)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_asynchronous_client_streams_too(house: Any) -> None:
    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="none") as client:
            stream = await client.completions.create(model="fake", prompt="Go", stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream])

    assert asyncio.run(run()) == "one two three four"


def test_several_choices_are_streamed_each_with_its_index(house: Any) -> None:
    chunks = [json.loads(data) for data in _events(house.chat(stream=True, n=2).text)[:-1]]
    texts = ["", ""]
    for chunk in chunks:
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["one two three four"] * 2
    order = [
        chunk["choices"][0]["index"]
        for chunk in chunks
        if chunk["choices"][0]["delta"].get("content")
    ]
    assert order == [0, 1] * 4
    assert sum(chunk["choices"][0]["finish_reason"] == "stop" for chunk in chunks) == 2


def test_tool_calls_come_in_a_stream(house: Any, upstream: Any) -> None:
    half = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"at"'},
    }
    rest = {"index": 0, "function": {"arguments": ': "sky"}'}}
    upstream.acts.append(
        {
            "words": (),
            "deltas": [{"tool_calls": [half]}, {"tool_calls": [rest]}],
            "finish": "tool_calls",
        }
    )
    chunks = [
        json.loads(data)["choices"][0]
        for data in _events(house.chat(stream=True, tools=[_tool()]).text)[:-1]
    ]
    calls = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", ())]
    assert [(call["index"], call["function"]["arguments"]) for call in calls] == [
        (0, '{"at": "sky"}')
    ]
    assert chunks[-1]["finish_reason"] == "tool_calls"


def _tool() -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look"}}


def test_a_strategy_that_waits_says_that_it_is_alive_then_streams_its_choice(
    upstream: Any, open_house: Any
) -> None:
    house = open_house({"fake": upstream.model()}, keep_alive=0.05)
    upstream.acts = [{"delay": 0.2}] * 2
    text = house.chat(model="fake@hedged5-mbr", stream=True).text
    assert text.startswith(": still at work\n\n")
    events = _events(text)
    told = [json.loads(data).get("pomona") for data in events[:-2]]
    assert [one["drawn"] for one in told if one and one["of"] == 5] == [1, 2, 3, 4, 5]
    assert events[-1] == "[DONE]"
    assert (
        "".join(json.loads(data)["choices"][0]["delta"].get("content", "") for data in events[:-1])
        == "answer 0"
    )
    assert len(json.loads(events[-2])["pomona"]["candidates"]) == 5


def test_a_failure_before_the_first_word_has_its_status(house: Any, upstream: Any) -> None:
    upstream.acts = [{"status": 500}] * 2
    response = house.chat(stream=True)
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "upstream_failed"


def test_a_failure_in_the_midst_is_an_error_event_and_no_done(
    new_house: Any, upstream: Any
) -> None:
    upstream.acts = [{"cut": 2}, {"words": ("other ", "words")}]
    response = new_house.chat(stream=True)
    events = _events(response.text)
    assert response.status_code == 200
    error = json.loads(events[-1])["error"]
    assert error["type"] == "server_error"
    assert "the repeated answer differs" in error["message"]
    assert "[DONE]" not in response.text
    upstream.acts = [{"cut": 2}, {"words": ("other ", "words")}]
    with (
        openai.OpenAI(base_url=f"{new_house.url}/v1", api_key="none") as client,
        pytest.raises(openai.APIError, match="the repeated answer differs"),
    ):
        list(client.chat.completions.create(model="fake", messages=SAY, stream=True))
    _until(lambda: 'status="502"} 2' in new_house.client.get("/metrics").text)


def test_a_client_that_leaves_a_stream_stops_the_upstream(new_house: Any, upstream: Any) -> None:
    upstream.acts = [{"words": ("word ",) * 5000, "pause": 0.01}]
    given = {"model": "fake", "messages": SAY, "stream": True}
    with new_house.client.stream("POST", "/v1/chat/completions", json=given) as found:
        next(found.iter_text())
    assert upstream.ended.wait(5)
    assert upstream.left == 1
    _until(lambda: 'status="499"} 1' in new_house.client.get("/metrics").text)


def test_a_client_that_leaves_while_waiting_stops_the_upstream(
    new_house: Any, upstream: Any
) -> None:
    upstream.acts = [{"delay": 30}]
    with (
        pytest.raises(openai.APITimeoutError),
        openai.OpenAI(
            base_url=f"{new_house.url}/v1", api_key="none", timeout=1.0, max_retries=0
        ) as client,
    ):
        client.chat.completions.create(model="fake", messages=SAY)
    assert upstream.ended.wait(5)
    assert upstream.left == 1
    _until(lambda: "pomona_requests_in_flight 0" in new_house.client.get("/metrics").text)


def test_a_client_that_leaves_a_strategy_stops_all_its_samples(
    new_house: Any, upstream: Any
) -> None:
    upstream.acts = [{"delay": 30}] * 2
    given = {"model": "fake@hedged5-mbr", "messages": SAY, "stream": True}
    with (
        pytest.raises(openai.APITimeoutError),
        openai.OpenAI(
            base_url=f"{new_house.url}/v1", api_key="none", timeout=1.0, max_retries=0
        ) as c,
    ):
        list(c.chat.completions.create(**given))
    _until(lambda: upstream.left == 2)
    _until(lambda: "pomona_requests_in_flight 0" in new_house.client.get("/metrics").text)


def test_time_runs_out_in_the_midst_of_a_stream(upstream: Any, open_house: Any) -> None:
    house = open_house({"fake": upstream.model()}, timeout=0.4)
    upstream.acts = [{"words": ("word ",) * 500, "pause": 0.02}]
    events = _events(house.chat(stream=True).text)
    assert json.loads(events[-1])["error"]["type"] == "timeout_error"
    assert upstream.ended.wait(5)


def test_a_client_that_leaves_stops_a_model_in_this_process(tiny: Model, open_house: Any) -> None:
    house = open_house({"ui": tiny})
    given = {
        "model": "ui",
        "messages": [{"role": "user", "content": "<|fr|>Save<|to|>"}],
        "stream": True,
        "max_tokens": 400,
        "temperature": 1.5,
    }
    with house.client.stream("POST", "/v1/chat/completions", json=given) as found:
        next(found.iter_text())
    _until(lambda: "pomona_requests_in_flight 0" in house.client.get("/metrics").text)


def _until(holds: Any) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")
