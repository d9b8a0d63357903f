"""The body of POST /v1/responses, the newer form of a chat: its items as messages. Nothing is kept
here between requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pomona.serve.fields import Fields, bad, missing, mistyped
from pomona.serve.parameters import MOST_LOGPROBS, MOST_TOKENS
from pomona.serve.parsing import ParsedRequest, read_chat
from pomona.serve.served import ServedModels
from pomona.web import ApiError, wrong

_MOST_ITEMS = 4096
_LOGPROBS = "message.output_text.logprobs"
_TEXTS = frozenset({"input_text", "output_text", "text"})
# Fields that would need what is not kept or not run here, with what they may be all the same.
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "previous_response_id": ((), "nothing is kept here: send the earlier items in input"),
    "conversation": ((), "nothing is kept here: send the earlier items in input"),
    "background": ((False,), "answers are not made in the background: leave it out"),
    "prompt": ((), "there are no stored prompts: send instructions and input"),
    "truncation": (("disabled",), "nothing is left out of the input: shorten it"),
}
_IGNORED = ("max_tool_calls", "prompt_cache_options")
_SAME = ("temperature", "top_p", "max_output_tokens", "metadata", "instructions", "user")
_RENAMED = {
    "response_format": "text.format",
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}


def read_response(
    body: Mapping[str, Any], models: ServedModels
) -> tuple[ParsedRequest, dict[str, Any]]:
    """The request, and what of it the answer repeats. ApiError 400 or 404 names what is wrong."""
    fields = Fields(body)
    for name, (fine, why) in _REFUSED.items():
        value = fields.rest.pop(name, None)
        if value is not None and value not in fine:
            raise bad(name, f"is not served — {why}", "unsupported_value")
    for name in _IGNORED:
        fields.rest.pop(name, None)
    repeated = {name: body.get(name) for name in _SAME}
    chat: dict[str, Any] = {"messages": _messages(fields)}
    chat["max_completion_tokens"] = fields.integer("max_output_tokens", 1, MOST_TOKENS)
    chat |= _text(fields) | _tools(fields) | _told(fields)
    reasoning = Fields(fields.take("reasoning", dict, {}), "reasoning")
    chat["reasoning_effort"] = reasoning.take("effort", str)
    repeated["tools"] = body.get("tools") or []
    repeated["tool_choice"] = body.get("tool_choice") or "auto"
    repeated["text"] = {"format": {"type": "text"}, **(body.get("text") or {})}
    repeated["parallel_tool_calls"] = body.get("parallel_tool_calls") is not False
    return read_chat({**fields.rest, **chat}, models), repeated


def renamed(error: ApiError) -> ApiError:
    """The error of a field of a chat, by the name that it has here."""
    name = str(error.param or "").partition(".")[0].partition("[")[0]
    if (ours := _RENAMED.get(name)) is None:
        return error
    param = str(error.param).replace(name, ours, 1)
    return ApiError(error.status, error.message.replace(name, ours), param=param, code=error.code)


def _messages(fields: Fields) -> list[dict[str, Any]]:
    instructions = fields.take("instructions", str)
    messages = [] if instructions is None else [{"role": "system", "content": instructions}]
    given = fields.rest.pop("input", None)
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list):
        raise mistyped("input", "a string or an array of items")
    if not 1 <= len(given) <= _MOST_ITEMS:
        raise bad("input", f"has {len(given)} items; it must have from 1 to {_MOST_ITEMS}")
    for at, item in enumerate(given):
        _add(messages, item, f"input[{at}]")
    if len(messages) == (instructions is not None):
        raise bad("input", "holds no message")
    return messages


def _add(messages: list[dict[str, Any]], item: Any, where: str) -> None:
    """Put an item behind the messages; calls of one turn are one message."""
    match item:
        case {"type": "function_call", "call_id": str(id), "name": str(name), "arguments": str(a)}:
            call = {"id": id, "type": "function", "function": {"name": name, "arguments": a}}
            last = messages[-1] if messages else {}
            if last.get("role") == "assistant":
                last["tool_calls"] = [*last.get("tool_calls", ()), call]
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        case {"type": "function_call_output", "call_id": str(id), "output": output}:
            text = _content(output, f"{where}.output")
            messages.append({"role": "tool", "tool_call_id": id, "content": text})
        case {"type": "reasoning"}:
            pass  # what a model thought before is not shown to it again
        case {"role": str(role), "content": content} if item.get("type") in {None, "message"}:
            messages.append({"role": role, "content": _content(content, f"{where}.content")})
        case {"type": "item_reference"}:
            raise bad(where, "refers to a stored item, and nothing is kept here — send the item")
        case dict():
            kinds = "a message, function_call, function_call_output or reasoning, with its fields"
            raise bad(where, f"must be {kinds}")
        case _:
            raise mistyped(where, "an object")


def _content(given: Any, where: str) -> Any:
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise mistyped(where, "a string or an array of parts")
    return [_part(part, f"{where}[{at}]") for at, part in enumerate(given)]


def _part(part: Any, where: str) -> dict[str, Any]:
    match part:
        case {"type": str(kind), "text": str(text)} if kind in _TEXTS:
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url)}:
            image = {"url": url, **({"detail": part["detail"]} if part.get("detail") else {})}
            return {"type": "image_url", "image_url": image}
    raise bad(where, "must be input_text, output_text, refusal, or input_image with an image_url")


def _text(fields: Fields) -> dict[str, Any]:
    """The format of a chat that `text` asks for."""
    text = Fields(fields.take("text", dict, {}), "text")
    form, verbosity = text.take("format", dict), text.take("verbosity", str)
    text.end()
    if form is not None and form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": {**form, "type": None}}
        form["json_schema"].pop("type")
    return {"response_format": form, "verbosity": verbosity}


def _tools(fields: Fields) -> dict[str, Any]:
    tools: list[dict[str, Any]] = []
    for at, tool in enumerate(fields.objects("tools", 128)):
        where = f"tools[{at}]"
        if tool.get("type") != "function":
            message = f"{where} is no function; other tools are not run here"
            raise wrong(where, message, "unsupported_value")
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            raise missing(f"{where}.name")
        function = {name: value for name, value in tool.items() if name != "type"}
        tools.append({"type": "function", "function": function})
    choice = fields.rest.pop("tool_choice", None)
    if isinstance(choice, dict) and choice.get("type") == "function":
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    return {"tools": tools or None, "tool_choice": choice}


def _told(fields: Fields) -> dict[str, Any]:
    """Which log-probabilities are asked for."""
    include = fields.take("include", list, [])
    top = fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    if _LOGPROBS in include or top:
        return {"logprobs": True, "top_logprobs": top}
    return {}
