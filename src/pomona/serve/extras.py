"""Parameters beyond the common ones: a server behind us may know them; a model in this process must
not be promised what it cannot do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pomona.serve.errors import ApiError, wrong
from pomona.serve.fields import Fields
from pomona.serve.served import Served

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
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tool_choice": ("auto", "none"),
    "modalities": (["text"],),
    "echo": (False,),
    "suffix": ("",),
}
_MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Extras:
    """`extra` goes to the model's server, `options` are the only answers allowed, `no_tools` takes
    the tools away.
    """

    extra: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    no_tools: bool = False


def extras(rest: Mapping[str, Any], served: Served, n: int) -> Extras:
    """What is left of a request's fields, fit for its model. ApiError 400 for what a model in this
    process does not know or cannot do.
    """
    if served.remote or not rest:
        return Extras(rest)
    left = {name: value for name, value in rest.items() if name not in _INERT}
    options, extra = _format(left.pop("response_format", None), served)
    no_tools = left.get("tool_choice") == "none"
    if left.get("best_of") == n:
        del left["best_of"]
    for name, value in left.items():
        if name not in _NEUTRAL:
            raise ApiError(
                400,
                f"{name[:80]} is not known to this model",
                param=name[:80],
                code="unknown_parameter",
            )
        if not any(value == one and type(value) in {type(one), float} for one in _NEUTRAL[name]):
            raise ApiError(
                400,
                f"this model cannot do {name} {str(value)[:80]}",
                param=name,
                code="unsupported_value",
            )
    return Extras(extra, options, no_tools)


def logprobs(fields: Fields, *, chat: bool) -> int | None:
    """How many alternatives are asked for with each token's log-probability, None where nothing is;
    the older API gives their number.
    """
    if not chat:
        return fields.integer("logprobs", 0, _MOST_LOGPROBS)
    asked, top = (
        fields.take("logprobs", bool, False),
        fields.integer("top_logprobs", 0, _MOST_LOGPROBS, 0),
    )
    if top and not asked:
        raise wrong("top_logprobs", "top_logprobs needs logprobs: true")
    return top if asked else None


def _format(given: Any, served: Served) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Options, or extra parameters, that make an answer of this format."""
    if given is None or given == {"type": "text"}:
        return (), {}
    if not isinstance(given, dict) or not isinstance(given.get("type"), str):
        raise wrong(
            "response_format", "response_format must be an object with a type", "invalid_type"
        )
    if given["type"] == "json_object" and served.llama:
        return (), {"json_schema": {"type": "object"}}
    described = given.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if (
        given["type"] == "json_schema"
        and isinstance(schema, dict)
        and isinstance(options := schema.get("enum"), list)
    ):
        if options and len(options) <= 256 and all(isinstance(one, str) and one for one in options):
            return tuple(options), {}
        raise wrong(
            "response_format", "the enum must hold from 1 to 256 strings that are not empty"
        )
    remedy = "a json_schema that is an enum of strings works" + (
        ", and so does json_object" if served.llama else ""
    )
    raise ApiError(
        400,
        f"this model cannot do this response_format — {remedy}",
        param="response_format",
        code="unsupported_value",
    )
