"""Answers that are held to a JSON Schema or to a call, through the official client: in this process
and behind another server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import openai
import pydantic
import pytest

from pomona.models import HAVE, catalogue
from pomona.serve import ServeSettings, open_models

from .conftest import House, Upstream

SMOLLM2 = next(entry for entry in catalogue() if entry.name == "smollm2").present
NAMES = ["tiny", *(["smollm2"] if SMOLLM2 else [])]
SAY: Any = [{"role": "user", "content": "Who are you?"}]


class Strict(pydantic.BaseModel, extra="forbid"):
    pass


class Cat(Strict):
    kind: Literal["cat"]
    lives: int = pydantic.Field(ge=1, le=9)


class Dog(Strict):
    kind: Literal["dog"]
    name: str = pydantic.Field(max_length=8)


class Home(Strict):
    pet: Cat | Dog = pydantic.Field(discriminator="kind")
    address: Literal['Süd \\ "1"', "日本"] | None


WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": Cat.model_json_schema()},
}
NOW: Any = {"type": "function", "function": {"name": "now"}}


@pytest.fixture(scope="module")
def own() -> Iterator[House]:
    """ui-xs, and smollm2 where it is at hand."""
    named = ["tiny=ui-xs", *(["smollm2"] if SMOLLM2 else [])]
    house = House(open_models(named), ServeSettings())
    yield house
    house.stop()


@pytest.fixture
def client(own: House) -> Iterator[openai.OpenAI]:
    with own.openai() as client:
        yield client


@pytest.mark.parametrize("name", NAMES)
def test_parsed_answers_fulfil_their_model(client: openai.OpenAI, name: str) -> None:
    given: Any = {"model": name, "messages": SAY, "response_format": Home, "max_tokens": 90}
    for seed, temperature in enumerate((1.5, 0, 1.5)[: 3 if name == "tiny" else 1]):
        parsed = client.chat.completions.parse(**given, seed=seed, temperature=temperature)
        assert isinstance(parsed.choices[0].message.parsed, Home)
    if name == "tiny":
        with client.chat.completions.stream(**given) as stream:
            *_, last = stream
        assert last.type == "content.done"
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**{**given, "max_tokens": 3})


@pytest.mark.parametrize("name", NAMES)
def test_calls_are_forced(client: openai.OpenAI, name: str) -> None:
    given: Any = {"model": name, "messages": SAY, "tools": [WEATHER, NOW], "max_tokens": 60}
    named = {"type": "function", "function": {"name": "now"}}
    for choice, names in ((named, {"now"}), ("required", {"weather", "now"}))[
        -1 if name != "tiny" else 0 :
    ]:
        answer = client.chat.completions.create(**given, tool_choice=choice).choices[0]
        (call,) = answer.message.tool_calls or ()
        assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
        assert call.type == "function" and call.function.name in names
        arguments = json.loads(call.function.arguments)
        assert arguments == {} if call.function.name == "now" else Cat(**arguments)
    cut = client.chat.completions.create(
        **{**given, "max_tokens": 20}, tool_choice="required"
    ).choices[0]
    if cut.finish_reason == "length":
        assert all("tool_call>" not in call.to_json() for call in cut.message.tool_calls or ())
        assert not cut.message.content
    chunks = client.chat.completions.create(**given, tool_choice=named, stream=True)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    calls = [call.function for delta in deltas for call in delta.tool_calls or ()]
    assert [(call.name, call.arguments) for call in calls if call] == [("now", "{}")]
    assert not any(delta.content for delta in deltas)


def test_arguments_are_an_object_whatever_the_schema_says(own: House) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    answer = own.chat(model="tiny", tools=tools, tool_choice="required", max_tokens=60).json()
    for call in answer["choices"][0]["message"].get("tool_calls", ()):
        assert call["function"]["arguments"].startswith("{")


def test_every_candidate_is_held(own: House) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": Cat.model_json_schema()}}
    found = own.chat(model="tiny@hedged5-mbr", response_format=form, max_tokens=30).json()
    texts = [one["text"] for one in found["pomona"]["candidates"]]
    assert len([Cat.model_validate_json(text) for text in texts]) == 5


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_is_cut_is_json_all_the_same(own: House, name: str) -> None:
    schema = {"type": "array", "items": {"type": "string", "minLength": 9}, "minItems": 2}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    given: Any = {"model": name, "response_format": form, "max_tokens": 30, "logprobs": True}
    choice = own.chat(**given, temperature=0).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert all(len(text) >= 9 for text in json.loads(choice["message"]["content"]))
    spelled = b"".join(bytes(token["bytes"]) for token in choice["logprobs"]["content"])
    assert choice["message"]["content"].encode().startswith(spelled)
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": schema}}}}
    ]
    (call,) = own.chat(model=name, tools=tools, tool_choice="required", max_tokens=60).json()["choices"][0]["message"]["tool_calls"]  # fmt: skip
    json.loads(call["function"]["arguments"])


class Tagged(Strict):
    tags: set[Literal["a", "b", "c"]] = pydantic.Field(min_length=2)
    words: set[Annotated[str, pydantic.Field(max_length=3)]] = pydantic.Field(max_length=3)


@pytest.mark.parametrize("name", NAMES)
def test_sets_are_sets(client: openai.OpenAI, name: str) -> None:
    given: Any = {"model": name, "messages": SAY, "response_format": Tagged, "max_tokens": 90}
    (choice,) = client.chat.completions.create(
        **{**given, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": Tagged.model_json_schema()}}}
    ).choices  # fmt: skip
    value = json.loads(choice.message.content or "")
    assert len(value["tags"]) == len(Tagged(**value).tags) >= 2
    assert len(value["words"]) == len(set(value["words"]))


_DEEP: Any = {"type": "string"}
for _ in range(70):
    _DEEP = {"type": "array", "items": _DEEP}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"properties": {"b": {"uniqueItems": False}, "a": {"items": {"pattern": "^(?=a)b"}}}}, 'schema.properties.a.items.pattern: "pattern" has "(?=": look-around cannot be held to — write it without'),
        ({"uniqueItems": True, "items": {"type": "string", "pattern": "^(?!x).+@y$"}}, '\\b and \\B, or leave it out: "format": "email" is enough for an address'),
        ({"type": "string", "pattern": "(a)\\1"}, 'schema.pattern: "pattern" has "(a)\\\\1": backreferences are not supported — write it otherwise'),
        ({"properties": {"a": {"$ref": "https://x.org/s"}}}, 'schema.properties.a.$ref: "$ref" leads to "https://x.org/s", which is not in the schema — put what is meant under "$defs"'),
        ({"type": "array", "minItems": 9, "uniqueItems": True, "items": {"type": "boolean"}}, 'schema: "uniqueItems" is a keyword'),
        ({"oneOf": [{}, {}]}, 'schema: "oneOf" can be held to only where'),
        ({"$ref": "#/$defs/no"}, 'schema.$ref: "$ref" leads to "#/$defs/no", which is not in the schema'),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum (3) is greater than maximum (2)"),
        ({"$ref": "#"}, "no answer can follow this schema to its end"),
        (_DEEP, "schema: has more than 64 levels"),
        ({"properties": {f"p{at}": {} for at in range(2000)}}, "schemas in it, and at most 2,000 are taken"),
        ({"enum": ["x" * 120_000]}, "characters, and at most 120,000 are taken"),
    ],
)  # fmt: skip
def test_what_no_answer_can_be_held_to(
    own: House, name: str, schema: dict[str, Any], says: str
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for stream in (False, True):
        refused = own.chat(model=name, response_format=form, max_tokens=20, stream=stream)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (400, "unsupported_schema")
        assert says in error["message"] and error["param"] == "response_format"


def test_a_tool_is_refused_by_its_name(own: House) -> None:
    bad = {"name": "f", "parameters": {"properties": {"a": {"not": {}}}, "required": ["a"]}}
    tools = [{"type": "function", "function": bad}]
    error = own.chat(model="tiny", tools=tools, tool_choice="required").json()["error"]
    assert error["param"] == "tools"
    assert error["message"].startswith('tools["f"].parameters: no value fulfils it: required')


def test_without_the_extra_it_is_said_how_to_get_it(
    own: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.models.torch.model.constrains", lambda _: False)
    house = House(open_models(["bare=ui-xs"]), ServeSettings())
    refused = house.chat(model="bare", response_format={"type": "json_object"})
    house.stop()
    assert refused.status_code == 400
    assert HAVE["schema"] in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("given", "act", "status"),
    [
        ({"response_format": {"type": "json_object"}}, {"text": "{}"}, 200),
        ({"response_format": {"type": "json_object"}}, {"text": "[]"}, 502),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "array"}}},
            {"text": "[]"},
            200,
        ),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "array"}}},
            {"text": "{}"},
            502,
        ),
        ({"response_format": {"type": "json_object"}}, {"text": "{", "finish": "length"}, 200),
        ({"response_format": {"type": "json_object"}}, {"message": {"refusal": "No."}}, 200),
        ({"response_format": {"type": "of_its_own"}}, {"text": "x"}, 200),
        ({"tools": [NOW], "tool_choice": "required"}, {"text": "It is noon."}, 502),
        ({"tools": [NOW], "tool_choice": {"type": "allowed_tools"}}, {"text": "Noon."}, 200),
    ],
)
def test_what_another_server_answers_is_checked(
    house: House, upstream: Upstream, given: Any, act: Any, status: int
) -> None:
    upstream.acts = [act, act]
    answer = house.chat(**given)
    assert answer.status_code == status, answer.text
    assert {name: upstream.seen[0][name] for name in given} == given
    if status == 502:
        error = answer.json()["error"]
        assert error["code"] == "schema_not_followed"
        assert "use a server that knows response_format" in error["message"]


def test_a_streamed_answer_of_another_server_is_checked_at_its_end(
    house: House, upstream: Upstream
) -> None:
    streamed = house.chat(stream=True, response_format={"type": "json_object"})
    assert "does not follow the schema" in streamed.text.strip().split("\n\n")[-1]
