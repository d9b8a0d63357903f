"""Answers that are held to a schema come to their end within their tokens, and fulfil schemas that no
grammar can be made of. A random network draws what is hardest to end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from pomona.models import ModelError, Reply, Request, wait_for
from pomona.models.narrowing import simplified
from pomona.models.torch.model import TorchModel

CAT = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "lives": {"type": "integer"},
        "toys": {"type": "array", "items": {"$ref": "#/$defs/toy"}},
    },
    "required": ["name", "lives", "toys"],
    "$defs": {
        "toy": {
            "type": "object",
            "properties": {"kind": {"enum": ["a very long ball", "bone"]}},
            "required": ["kind"],
        }
    },
}
LEAST = len('{"name": "", "lives": 0, "toys": []}')  # a token a byte
DRAWS = [(0, 1.0), (1, 1.7), (2, 0.0), (3, 1.0)]


def ask(schema: Any, most: int, **more: Any) -> Request:
    return Request(prompt="save the draft", max_tokens=most, schema=schema, **more)


def drawn(model: TorchModel, schema: Any, most: int, **more: Any) -> list[Reply]:
    return wait_for(model.reply(ask(schema, most, **more), DRAWS))


def valid(reply: Reply, schema: Any) -> bool:
    return all(
        kind(schema).is_valid(json.loads(reply.text))
        for kind in (Draft202012Validator, Draft7Validator)
    )


@pytest.mark.parametrize("most", [LEAST, LEAST + 7, 60])
def test_an_answer_ends_within_its_tokens(model: TorchModel, most: int) -> None:
    for reply in drawn(model, CAT, most):
        assert valid(reply, CAT)
        assert reply.spent.completion_tokens <= most
        if reply.spent.completion_tokens < most:
            # It was drawn to its end, or closed with what was left.
            assert reply.finish_reason in {"stop", "length"}


def test_the_least_tokens_are_enough(model: TorchModel) -> None:
    for reply in drawn(model, CAT, LEAST):
        assert len(reply.text) == LEAST and valid(reply, CAT)
    for most in (1, LEAST - 1):
        for reply in drawn(model, CAT, most):
            assert reply.finish_reason == "length" and reply.spent.completion_tokens == most
            with pytest.raises(ValueError):
                json.loads(reply.text)


def test_a_number_ends_behind_a_digit(model: TorchModel) -> None:
    for most in (1, 2, 3):
        for reply in drawn(model, {"type": "number"}, most):
            assert isinstance(json.loads(reply.text), int | float)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("limit", ["maximum", "exclusiveMaximum"])
def test_zero_is_not_above_zero(model: TorchModel, sign: int, limit: str) -> None:
    low, high = "exclusiveMinimum", limit
    if sign < 0:
        low, high = "exclusiveMaximum", limit.replace("Max", "Min").replace("max", "min")
    schema = {"type": "number", low: 0, high: sign * 0.001}
    for reply in drawn(model, schema, 60):
        assert valid(reply, schema), reply.text


def test_a_number_that_is_cut_is_no_other_number(model: TorchModel) -> None:
    for reply in drawn(model, {"type": "integer", "minimum": 10**18}, 5):
        assert reply.finish_reason == "length" and reply.text == "10000"


def test_what_was_shortened_says_so_and_what_was_not_is_as_before(model: TorchModel) -> None:
    schema = {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}
    for roomy, tight in zip(drawn(model, schema, 100), drawn(model, schema, 12), strict=True):
        assert roomy.finish_reason == "stop" and valid(tight, schema)
        if tight.finish_reason == "stop":
            assert roomy.text == tight.text
        assert (tight.finish_reason == "length") == (roomy.text != tight.text)


def test_penalties_and_log_probabilities_follow_what_is_written(model: TorchModel) -> None:
    for reply in drawn(model, CAT, 50, logprobs=2, presence_penalty=1.5, repetition_penalty=1.2):
        assert valid(reply, CAT)
        assert b"".join(bytes(token["bytes"]) for token in reply.tokens).decode() == reply.text
        assert all(token["logprob"] <= 0 for token in reply.tokens)


def test_a_stream_tells_the_same(model: TorchModel) -> None:
    async def streamed() -> tuple[list[str], list[str]]:
        pieces, whole = [""] * len(DRAWS), [""] * len(DRAWS)
        items: AsyncIterator[Any] = model.stream(ask(CAT, 60), DRAWS)
        async for item in items:
            (whole if isinstance(item, Reply) else pieces)[item.index] += item.text
        return pieces, whole

    pieces, whole = wait_for(streamed())
    assert pieces == whole == [reply.text for reply in drawn(model, CAT, 60)]


class Panic(BaseException):
    """As libraries in Rust end: no Exception."""


@pytest.mark.parametrize("step", ["run_batch", "cut_of"])
@pytest.mark.parametrize("error", [Panic("broke"), StopIteration(), TypeError("broke")])
def test_what_fails_unforeseen_is_told_and_the_next_request_is_answered(
    model: TorchModel, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(f"pomona.models.torch.model.{step}", fail)
        with pytest.raises((ModelError, TypeError), match=r"broke|StopIteration"):
            drawn(model, CAT, 20)
    assert valid(drawn(model, CAT, 60)[0], CAT)


def test_a_forced_call_is_whole(model: TorchModel) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": CAT}}
    request = Request(
        ({"role": "user", "content": "save"},), max_tokens=75, tools=(tool,), must_call=("f",)
    )
    for reply in wait_for(model.reply(request, DRAWS[:2])):
        (call,) = reply.tool_calls
        assert Draft202012Validator(CAT).is_valid(json.loads(call["function"]["arguments"]))


DISTINCT = {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True}
NARROWED: list[Any] = [
    DISTINCT,
    {**DISTINCT, "minItems": 2, "maxItems": 2},
    {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 2},
    {"uniqueItems": True},
    {"format": "×Ù"},
    {"type": "string", "format": "json-pointer"},
    {"then": {"minimum": 3}, "else": False},
    {"if": {"type": "integer"}, "then": {"minimum": 3}, "else": {"type": "null"}},
    {"type": "array", "contains": {"const": 7}, "items": {"type": "integer"}, "maxItems": 3},
    {"contains": {"type": "string"}, "minContains": 2},
    {"not": {"type": ["string", "object"]}},
    {"type": "string", "not": {"const": "a"}},
    {"not": {"enum": [1, "a"]}},
    {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "null"}},
    {"type": "object", "propertyNames": {"pattern": "^[a-c]$"}, "maxProperties": 2},
    {"type": "object", "properties": {"aa": {"type": "null"}, "b": {}}, "propertyNames": {"minLength": 2}},
    {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "dependentRequired": {"a": ["b"]}},
    {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"], "dependencies": {"a": ["b"], "b": {"required": ["c"]}}},
    {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "minProperties": 1},
    {"oneOf": [{"type": "integer"}, {"type": "number", "maximum": 5}, {"type": "null"}]},
    {"oneOf": [{"type": "integer", "minimum": 2}, {"type": "integer", "maximum": 4}]},
    {"type": "number", "multipleOf": 1.7976931348623157e308},
    {"multipleOf": 10_000_019, "maximum": 50_000_000, "type": "integer"},
    {"minimum": 1e300},
    {"type": "number", "minimum": 5e-324, "maximum": 1e308},
    {"type": "array", "minItems": 1.0, "maxItems": 2.0, "items": {"type": "null"}},
    {"type": "integer", "minimum": 3, "exclusiveMaximum": 5, "not": {"const": 3}},
    {"properties": {"a": {"items": {"type": "string"}, "uniqueItems": True}}, "required": ["a"], "type": "object"},
    {"anyOf": [{"not": {}}, {"type": "null"}]},
    {"enum": [2**53 + 1, 3]},
    {"type": "array", "contains": {"type": "integer", "minimum": 5}, "minContains": 2, "items": {"type": "integer"}},
    {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}, "uniqueItems": True, "minItems": 2},
    {"type": "string", "pattern": "^.[E].$", "minLength": 3},
]  # fmt: skip


def test_answers_fulfil_what_no_grammar_holds(model: TorchModel) -> None:
    asks = [(ask(schema, 60, seed=at), [(0, 1.0)]) for at, schema in enumerate(NARROWED)]
    for schema, pool in zip(NARROWED, wait_for(model.together(asks)), strict=True):
        assert isinstance(pool, list), (schema, pool)
        for reply in pool:
            assert valid(reply, schema), (schema, reply.text)


def test_a_second_draw_is_counted_and_a_stream_is_right_at_once(model: TorchModel) -> None:
    schema = {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True}
    replies = drawn(model, schema, 60)
    counts = [len(reply.text) for reply in replies]
    assert any(
        reply.spent.completion_tokens > count + 1
        for reply, count in zip(replies, counts, strict=True)
    )

    async def streamed() -> str:
        return "".join([item.text async for item in model.stream(ask(schema, 60), DRAWS[:1]) if not isinstance(item, Reply)])  # fmt: skip

    assert json.loads(asyncio.run(streamed())) == [1, 2, 3]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"not": {}}, "no value fulfils it: schema is false"),
        ({"enum": []}, "no value fulfils it: anyOf is empty"),
        ({"type": "string", "not": {"type": "string"}}, "no value fulfils it: "),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "no value fulfils it: minimum (2) is"),
        ({"allOf": [{"uniqueItems": True}, {"type": "array", "minItems": 40}]}, '"uniqueItems" is a'),
        ({"type": "string", "pattern": "^(?=a)b", "not": {"const": "b"}}, 'pattern: "pattern" has "(?=": look'),
        ({"not": {"$ref": "#"}}, '"not" is a'),
        ({"const": 2**53 + 1}, "a number has too many digits"),
        ({"uniqueItems": True, "required": "abc"}, "is a keyword that"),
        ({"uniqueItems": True, "minItems": "x"}, "is a keyword that"),
    ],
)  # fmt: skip
def test_what_nothing_fulfils_or_nobody_can_tell(model: TorchModel, schema: Any, says: str) -> None:
    with pytest.raises(ModelError) as refused:
        drawn(model, schema, 20)
    assert says in str(refused.value) and refused.value.status == 400


@pytest.mark.parametrize(
    ("schema", "same"),
    [
        ({"items": [{"maxLength": 3.0}], "additionalItems": False}, {"prefixItems": [{"maxLength": 3}], "items": False}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [True]}, {"prefixItems": [True]}),
        ({"minimum": 2, "exclusiveMinimum": True}, {"exclusiveMinimum": 2}),
        ({"type": "string", "uniqueItems": True, "minimum": 3}, {"type": "string"}),
        ({"uniqueItems": True, "maxItems": 1}, {"maxItems": 1}),
        ({"contains": True, "minItems": 0}, {"minItems": 1}),
        ({"contains": {"type": "null"}, "minContains": 0}, {}),
        ({"if": True, "then": {"minimum": 1}, "else": False}, {"allOf": [{"minimum": 1}]}),
        ({"type": ["integer", "string"], "not": {"type": "string"}}, {"type": ["integer"]}),
        ({"required": ["a"], "dependentRequired": {"a": ["b"], "b": ["c"]}}, {"required": ["a", "b", "c"]}),
        ({"const": {"uniqueItems": True}}, {"const": {"uniqueItems": True}}),
        ({"properties": {"not": {"format": "colour"}}}, {"properties": {"not": {}}}),
    ],
)  # fmt: skip
def test_what_is_said_otherwise(schema: Any, same: Any) -> None:
    assert simplified(schema) == same
