"""Parameters beyond the common ones: what holds an answer to a form, what changes nothing, and what
only a server behind us may know.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pomona.models import BIAS, BOUNDS, HAVE
from pomona.serve.fields import Fields, bad, mistyped
from pomona.serve.served import ServedModel
from pomona.web import ApiError, wrong

FORMAT, CHOICE = "response_format", "tool_choice"
MOST_TOKENS = 1 << 20
_INERT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "suffix": ("",),
}
MOST_LOGPROBS = 20
_MOST_BIASES = 1024
ALWAYS = frozenset({"top_p", "min_p"})  # parameters of sampling that each model knows
_IDS = re.compile(r"[0-9]{1,9}")


def extras(
    rest: Mapping[str, Any], served: ServedModel, tools: Sequence[Mapping[str, Any]], n: int
) -> dict[str, Any]:
    """What the other fields of a request change in what its model is asked: `extra` goes to its
    server, `schema` and `must_call` hold the answer, `tools` are taken away. ApiError 400 for what
    a model in this process does not know or cannot do.
    """
    if served.remote:
        return {**_checked(rest, tools), "extra": rest}
    left = {name: value for name, value in rest.items() if name not in _INERT}
    changes = _format(left.pop(FORMAT, None)) | _choice(left.pop(CHOICE, None), tools)
    if changes.keys() & {"schema", "must_call"} and "schema" not in served.model.abilities:
        param = FORMAT if "schema" in changes else CHOICE
        raise _unable(served, param)
    if left.get("best_of") == n:
        del left["best_of"]
    changes |= _logits(fields := Fields(left))
    left = fields.rest
    for name, value in left.items():
        if name not in _NEUTRAL:
            if served.lenient:
                continue
            raise bad(name[:80], "is not known to this model", "unknown_parameter")
        if not any(value == one and type(value) in {type(one), float} for one in _NEUTRAL[name]):
            message = f"this model cannot do {name} {str(value)[:80]}"
            raise wrong(name, message, "unsupported_value")
    return changes


def logprobs(fields: Fields, *, chat: bool) -> int | None:
    """How many alternatives are asked for with each token's log-probability, None where nothing is;
    the older API gives their number.
    """
    if not chat:
        return fields.integer("logprobs", 0, MOST_LOGPROBS)
    wanted = fields.take("logprobs", bool, False)
    top = fields.integer("top_logprobs", 0, MOST_LOGPROBS, 0)
    if top and not wanted:
        raise bad("top_logprobs", "needs logprobs: true")
    return top if wanted else None


def _checked(rest: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the answer of a server is held to; it may know formats and choices that we do not."""
    with suppress(ApiError):
        held = _format(rest.get(FORMAT)) | _choice(rest.get(CHOICE), tools)
        return {name: value for name, value in held.items() if name != "tools"}
    return {}


def _logits(fields: Fields) -> dict[str, Any]:
    """What changes logits; -1 is another name for no top_k."""
    if fields.rest.get("top_k") == -1:
        del fields.rest["top_k"]
    given = drawn(fields, set(BOUNDS) - ALWAYS)
    bias = Fields(fields.take("logit_bias", dict, {}), "logit_bias")
    if len(bias.rest) > _MOST_BIASES:
        raise bad("logit_bias", f"has {len(bias.rest)} entries; at most {_MOST_BIASES} are taken")
    names = list(bias.rest)
    if (wrong_name := next((name for name in names if not _IDS.fullmatch(name)), None)) is not None:
        raise bad("logit_bias", f'names "{wrong_name[:80]}", which is no token id')
    return given | {"logit_bias": {int(name): bias.bounded(name, BIAS) for name in names}}


def drawn(fields: Fields, names: Collection[str]) -> dict[str, Any]:
    """The parameters of sampling among these that are given."""
    values = ((name, fields.bounded(name, BOUNDS[name])) for name in BOUNDS if name in names)
    return {name: value for name, value in values if value is not None}


def _unable(served: ServedModel, param: str) -> ApiError:
    message = f'the model "{served.name}" cannot be held to a schema — {HAVE["schema"]}'
    return wrong(param, message, "unsupported_value")


def _format(given: Any) -> dict[str, Any]:
    """The schema that an answer of this format follows."""
    match given:
        case None:
            return {}
        case {"type": "text", **rest} if not rest:
            return {}
        case {"type": "json_object", "schema": dict(schema)}:  # as llama.cpp's server takes it
            return {"schema": schema}
        case {"type": "json_object", "schema": _}:
            raise mistyped(f"{FORMAT}.schema", "an object")
        case {"type": "json_object"}:
            return {"schema": {"type": "object"}}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return {"schema": schema}
        case {"type": "json_schema"}:
            raise mistyped(f"{FORMAT}.json_schema.schema", "an object")
        case {"type": str(kind)}:
            message = f'there is no format "{kind[:80]}" — use text, json_object or json_schema'
            raise wrong(FORMAT, message, "unsupported_value")
    raise mistyped(FORMAT, "an object with a type")


def _choice(given: Any, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which of the tools must be called."""
    if given is None or given == "auto":
        return {}
    if given == "none":
        return {"tools": ()}
    functions = [tool["function"]["name"] for tool in tools if tool["type"] == "function"]
    match given:
        case "required":
            if not tools:
                raise wrong(CHOICE, f"{CHOICE} is required, and there are no tools")
            return {"must_call": tuple(functions)} if len(functions) == len(tools) else {}
        case {"type": "function", "function": {"name": str(name)}}:
            if name not in functions:
                raise wrong(CHOICE, f'{CHOICE} names "{name[:80]}", which is none of the tools')
            return {"must_call": (name,)}
    message = f"{CHOICE} must be none, auto, required, or the name of a function in an object"
    raise wrong(CHOICE, message, "unsupported_value")
