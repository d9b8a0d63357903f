"""From the JSON of a client to what is asked of a model. Parameters beyond the common ones may be
known to a server behind us; a model in this process must not be promised what it cannot do.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pomona.answers import Budget
from pomona.errors import PomonaError
from pomona.models import Request
from pomona.sample import Strategy
from pomona.serve.fields import Fields
from pomona.serve.served import ServedModel, ServedModels, read_strategy
from pomona.web import ApiError, wrong

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_MOST_LEVERS = 8
_TOKENS = 512
_MOST_TOKENS = 1 << 20
_MOST_MESSAGES = 4096
_MOST_TOOLS = 128
_MOST_CHOICES = 128
_MOST_PROMPTS = 16
_SEEDS = (-(1 << 63), (1 << 63) - 1)
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
class ParsedRequest:
    """A request as the server understood it. `requests` has one entry for each prompt; each gets
    `n` choices, or one with a strategy.

    `called` is the client's name for the model; `context` names levers on the messages, and `user`
    whose feedback they may use.
    """

    served: ServedModel
    called: str
    chat: bool
    requests: tuple[Request, ...]
    n: int
    stream: bool
    include_usage: bool
    strategy: Strategy | None
    budget: Budget
    candidates: bool
    context: tuple[str, ...] = ()
    user: str | None = None

    @property
    def logprobs(self) -> bool:
        """Whether the tokens' log-probabilities are asked for."""
        return self.requests[0].logprobs is not None


def read_chat(body: Mapping[str, Any], models: ServedModels) -> ParsedRequest:
    """The body of POST /v1/chat/completions. ApiError 400 or 404 names what is wrong."""
    fields = Fields(body)
    served, called = _model(fields, models)
    messages = fields.need("messages", list)
    if not 1 <= len(messages) <= _MOST_MESSAGES:
        raise wrong(
            "messages",
            f"messages has {len(messages)} entries; it must have from 1 to {_MOST_MESSAGES}",
        )
    checked = tuple(
        _message(message, f"messages[{at}]", served.remote) for at, message in enumerate(messages)
    )
    tools = fields.objects("tools", _MOST_TOOLS)
    for at, tool in enumerate(tools):
        _tool(tool, f"tools[{at}]")
    newer, older = (
        fields.integer(name, 1, _MOST_TOKENS) for name in ("max_completion_tokens", "max_tokens")
    )
    return _parsed(
        fields, served, called, [Request(messages=checked, tools=tools)], newer or older or _TOKENS
    )


def read_completion(body: Mapping[str, Any], models: ServedModels) -> ParsedRequest:
    """The body of POST /v1/completions. ApiError 400 or 404 names what is wrong."""
    fields = Fields(body)
    served, called = _model(fields, models)
    prompts = fields.texts("prompt", _MOST_PROMPTS)
    if prompts is None:
        raise ApiError(400, "prompt is missing", param="prompt", code="missing_required_parameter")
    return _parsed(
        fields,
        served,
        called,
        [Request(prompt=prompt) for prompt in prompts],
        fields.integer("max_tokens", 1, _MOST_TOKENS, _TOKENS),
    )


def _model(fields: Fields, models: ServedModels) -> tuple[ServedModel, str]:
    called = fields.need("model", str)
    return models.find(called), called


def _parsed(
    fields: Fields, served: ServedModel, called: str, bare: list[Request], tokens: int | None
) -> ParsedRequest:
    ours = Fields(fields.take("pomona", dict, {}), "pomona")
    strategy, context, user = (
        _strategy(ours, served.strategy),
        ours.texts("context", _MOST_LEVERS) or (),
        ours.take("user", str),
    )
    if context and strategy is None:
        strategy = read_strategy("sample", "pomona.strategy")
    budget, candidates = _budget(ours), ours.take("candidates", bool, strategy is not None)
    ours.end()
    n = fields.integer("n", 1, _MOST_CHOICES, 1) or 1
    if strategy is not None and n != 1:
        raise wrong(
            "n",
            (
                f"n is {n}, and a strategy gives one answer — ask for more samples by its name, "
                f"as in hedged{n}-mbr"
            ),
        )
    stream = fields.take("stream", bool, False)
    options = Fields(fields.take("stream_options", dict, {}), "stream_options")
    include_usage = options.take("include_usage", bool, False)
    temperature = fields.number("temperature", 0, 2)
    settings: dict[str, Any] = {
        "max_tokens": tokens,
        "temperature": (1.0 if strategy is None else 0.0) if temperature is None else temperature,
        "top_p": fields.number("top_p", 0, 1, 1.0, above=True),
        "min_p": _below_one(fields),
        "stop": fields.texts("stop", 16, empty=False) or (),
        "logprobs": logprobs(fields, chat=bare[0].prompt is None),
    }
    seed = fields.integer("seed", *_SEEDS)
    settings["seed"] = _seed(seed, served, strategy is None and settings["temperature"] == 0)
    more = extras(fields.rest, served, n)
    requests = tuple(
        Request(
            one.messages,
            one.prompt,
            tools=() if more.no_tools else one.tools,
            options=more.options,
            extra=more.extra,
            **settings,
        )
        for one in bare
    )
    return ParsedRequest(
        served,
        called,
        bare[0].prompt is None,
        requests,
        n,
        stream,
        include_usage,
        strategy,
        budget,
        candidates,
        context,
        user,
    )


def _seed(seed: int | None, served: ServedModel, greedy: bool) -> int:
    """The client's seed; without one another for each request, but for greedy answers, which do not
    need any.
    """
    if seed is None:
        return 0 if greedy else secrets.randbits(31)
    return seed if served.remote else seed & _SEEDS[1]


def _below_one(fields: Fields) -> float:
    value = fields.number("min_p", 0, 1, 0.0) or 0.0
    if value == 1:
        raise wrong("min_p", "min_p is 1; it must be from 0 to below 1")
    return value


def _strategy(ours: Fields, named: Strategy | None) -> Strategy | None:
    given = ours.rest.pop("strategy", None)
    if given is None:
        return named
    if not isinstance(given, str | dict):
        raise ours.wrong_kind("strategy", "a name or an object")
    return read_strategy(given, "pomona.strategy")


def _budget(ours: Fields) -> Budget:
    fields = Fields(ours.take("budget", dict, {}), "pomona.budget")
    tokens = fields.integer("tokens", 1, 1 << 53)
    others = {
        name: fields.number(name, 0, 1e300, above=True) for name in ("flops", "money", "seconds")
    }
    fields.end()
    try:
        return Budget(tokens=tokens, **others)
    except PomonaError as error:
        raise wrong("pomona.budget", str(error)) from error


def _message(message: Any, where: str, remote: bool) -> Mapping[str, Any]:
    if not isinstance(message, dict):
        raise wrong(where, f"{where} must be an object", "invalid_type")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise wrong(f"{where}.role", f"{where}.role must be one of {', '.join(sorted(_ROLES))}")
    if content is None and role != "assistant":
        raise ApiError(
            400,
            f"{where}.content is missing",
            param=f"{where}.content",
            code="missing_required_parameter",
        )
    if content is not None and not isinstance(content, str):
        _parts(content, f"{where}.content")
    calls = message.get("tool_calls")
    if calls is not None and not (
        isinstance(calls, list) and all(isinstance(call, dict) and _is_call(call) for call in calls)
    ):
        raise wrong(
            f"{where}.tool_calls",
            f"{where}.tool_calls must be an array of calls with id, type and function",
            "invalid_type",
        )
    for name in ("name", "tool_call_id"):
        if not isinstance(message.get(name, ""), str | None):
            raise wrong(f"{where}.{name}", f"{where}.{name} must be a string", "invalid_type")
    return message if remote else _plain(message)


def _plain(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the chat templates of models in this process know: the common fields, and no nulls."""
    known = {
        name: message[name]
        for name in ("role", "content", "name", "tool_call_id", "tool_calls")
        if message.get(name) not in (None, [])
    }
    if known["role"] == "developer":
        known["role"] = "system"
    calls = [
        {name: call[name] for name in ("id", "type", "function") if name in call}
        for call in known.get("tool_calls", ())
    ]
    return {"content": None, **known, **({"tool_calls": calls} if calls else {})}


def _parts(content: Any, where: str) -> None:
    if not isinstance(content, list) or not content:
        raise wrong(where, f"{where} must be a string or an array of parts", "invalid_type")
    for at, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise wrong(
                f"{where}[{at}]", f"{where}[{at}] must be an object with a type", "invalid_type"
            )
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise wrong(
                f"{where}[{at}].text", f"{where}[{at}].text must be a string", "invalid_type"
            )


def _is_call(call: Mapping[str, Any]) -> bool:
    function = call.get("function")
    named = (
        isinstance(function, dict)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments"), str)
    )
    return (
        isinstance(call.get("id"), str)
        and isinstance(call.get("type"), str)
        and (named or call["type"] != "function")
    )


def _tool(tool: Mapping[str, Any], where: str) -> None:
    function = tool.get("function")
    if tool.get("type") == "function" and not (
        isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]
    ):
        raise wrong(
            f"{where}.function.name",
            f"{where}.function.name is missing",
            "missing_required_parameter",
        )
    if not isinstance(tool.get("type"), str):
        raise wrong(f"{where}.type", f"{where}.type must be a string", "invalid_type")


@dataclass(frozen=True)
class Extras:
    """`extra` goes to the model's server, `options` are the only answers allowed, `no_tools` takes
    the tools away.
    """

    extra: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    no_tools: bool = False


def extras(rest: Mapping[str, Any], served: ServedModel, n: int) -> Extras:
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
    wanted = fields.take("logprobs", bool, False)
    top = fields.integer("top_logprobs", 0, _MOST_LOGPROBS, 0)
    if top and not wanted:
        raise wrong("top_logprobs", "top_logprobs needs logprobs: true")
    return top if wanted else None


def _format(given: Any, served: ServedModel) -> tuple[tuple[str, ...], dict[str, Any]]:
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
