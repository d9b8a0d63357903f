"""POST /v1/responses through the official client: items in and out, events, forms, tools, and what
is not served.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from pomona.models import Model

from .conftest import House, Open, Upstream


class City(pydantic.BaseModel, extra="forbid"):
    name: str = pydantic.Field(max_length=6)
    people: int = pydantic.Field(ge=0, le=99)


TOOL: Any = {"type": "function", "name": "look", "parameters": City.model_json_schema()}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.fixture
def client(house: House) -> Iterator[openai.OpenAI]:
    with house.openai() as client:
        yield client


def test_items_are_messages_and_an_answer_is_items(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    upstream.acts = [{"message": {"content": "Four.", "reasoning_content": "2 + 2"}}]
    given: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "2 + 2?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "So?", "annotations": []}],
        },
        {"role": "user", "content": "Well?"},
    ]
    answer = client.responses.create(
        model="fake",
        input=given,
        instructions="Be brief.",
        max_output_tokens=9,
        metadata={"a": "b"},
        reasoning={"effort": "low"},
    )
    sent = upstream.seen[0]
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "assistant", "content": [{"type": "text", "text": "So?"}]},
        {"role": "user", "content": "Well?"},
    ]
    assert (sent["max_tokens"], sent["reasoning_effort"]) == (9, "low")
    assert (answer.status, answer.output_text, answer.metadata) == (
        "completed",
        "Four.",
        {"a": "b"},
    )
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.usage is not None and answer.usage.total_tokens == 12


def test_events_add_up_to_the_answer(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.acts = [{"deltas": [{"tool_calls": [{"index": 0, **CALL}]}], "finish": "tool_calls"}]
    with client.responses.stream(model="fake", input="Go", tools=[TOOL]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events if not event.type.endswith("delta")] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert final.output_text == "one two three four"
    assert (final.output[1].type, getattr(final.output[1], "name", "")) == ("function_call", "look")


def test_what_is_cut_filtered_or_refused_is_told(client: openai.OpenAI, upstream: Upstream) -> None:
    upstream.acts = [{"finish": "length"}]
    cut = client.responses.create(model="fake", input="Go", max_output_tokens=5)
    assert cut.status == "incomplete" and cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    upstream.acts = [{"message": {"content": None, "refusal": "No."}}]
    (item,) = client.responses.create(model="fake", input="Go").output
    assert item.type == "message" and item.content[0].type == "refusal"
    upstream.acts = [{"cut": 2}] * 2
    with pytest.raises(openai.APIError, match="the stream was cut"):
        list(client.responses.create(model="fake", input="Go", stream=True))


def test_forms_calls_strategies_and_logprobs(open_house: Open, tiny: Model) -> None:
    house = open_house({"tiny": tiny})
    with house.openai() as client:
        given: Any = {"input": "<|de|>Save<|to|>", "max_output_tokens": 40}
        for name in ("tiny", "tiny@hedged3-mbr"):
            parsed = client.responses.parse(model=name, text_format=City, **given)
            assert isinstance(parsed.output_parsed, City)
        with client.responses.stream(model="tiny@hedged3-mbr", text_format=City, **given) as stream:
            assert isinstance(stream.get_final_response().output_parsed, City)
        choice: Any = {"type": "function", "name": "look"}
        (call,) = client.responses.create(
            model="tiny", tools=[TOOL], tool_choice=choice, **given
        ).output
        assert call.type == "function_call" and City.model_validate_json(call.arguments)
        include: Any = ["message.output_text.logprobs"]
        (said,) = client.responses.create(
            model="tiny", include=include, top_logprobs=2, **given
        ).output
        assert said.type == "message" and said.content[0].type == "output_text"
        tokens = said.content[0].logprobs or []
        assert tokens and all(len(token.top_logprobs) == 2 for token in tokens)
    form = {"type": "json_schema", "name": "x", "schema": {"not": {}}}
    refused = house.client.post(
        "/v1/responses", json={"model": "tiny", "input": "a", "text": {"format": form}}
    )
    assert refused.json()["error"]["param"] == "text.format"


@pytest.mark.parametrize(
    ("given", "param", "says"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the earlier items"),
        ({"conversation": "conv_1"}, "conversation", "nothing is kept here"),
        ({"background": True}, "background", "is not served"),
        ({"truncation": "auto"}, "truncation", "shorten it"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "other tools are not run here"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "is missing"),
        ({"tool_choice": "required"}, None, None),
        ({"input": None}, "input", "is missing"),
        ({"input": []}, "input", "has 0 items"),
        ({"input": [{"type": "reasoning"}]}, "input", "holds no message"),
        ({"input": [3]}, "input[0]", "must be an object"),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "input[0]", "send the item"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]", "input_image"),
        ({"input": [{"role": "cook", "content": "a"}]}, "input[0].role", "must be one of"),
        ({"max_output_tokens": 0}, "max_output_tokens", "must be from 1"),
        ({"text": {"format": {"type": "xml"}}}, None, None),
        ({"text": {"size": 1}}, "text.size", "is not known"),
    ],
)  # fmt: skip
def test_what_is_not_served_says_why(
    house: House, given: dict[str, Any], param: str | None, says: str | None
) -> None:
    answer = house.client.post("/v1/responses", json={"model": "fake", "input": "Go", **given})
    if says is None:  # another server may know it
        assert answer.status_code == 200
        return
    error = json.loads(answer.text)["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert says in error["message"]
