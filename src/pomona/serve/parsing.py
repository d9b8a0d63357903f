"""From the JSON of a client to what is asked of a model. Parameters beyond the common ones may be
known to a server behind us; a model in this process must not be promised what it cannot do.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pomona.answers import Budget
from pomona.errors import PomonaError
from pomona.markers import AUTO, Value, untrained
from pomona.models import HAVE, Request, Spelled
from pomona.sample import Strategy
from pomona.serve.fields import Fields, bad, missing, mistyped
from pomona.serve.parameters import ALWAYS, MOST_TOKENS, drawn, extras, logprobs
from pomona.serve.served import ServedModel, ServedModels, read_strategy
from pomona.web import wrong

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_MOST_LEVERS = 8
_TOKENS = 512
_MOST_MESSAGES = 4096
_MOST_TOOLS = 128
_MOST_CHOICES = 128
_MOST_PROMPTS = 16
_SEEDS = (-(1 << 63), (1 << 63) - 1)
_FORCED = "markers_forced"


@dataclass(frozen=True)
class ParsedRequest:
    """A request as the server understood it. `requests` has one entry for each prompt; each gets
    `n` choices, or one with a strategy.

    `called` is the client's name for the model; `context` names levers on the messages, and `user`
    whose feedback they may use. `markers` is None where a request says nothing of them; with
    `markers_forced` answers are begun with them. `echo` puts the prompt before an answer, and
    `silent` asks for none behind it.
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
    markers: Mapping[str, Value] | None = None
    markers_forced: bool = False
    echo: bool = False
    silent: bool = False

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
        bounds = f"it must have from 1 to {_MOST_MESSAGES}"
        raise bad("messages", f"has {len(messages)} entries; {bounds}")
    checked = tuple(
        _message(message, f"messages[{at}]", served.remote) for at, message in enumerate(messages)
    )
    tools = fields.objects("tools", _MOST_TOOLS)
    for at, tool in enumerate(tools):
        _tool(tool, f"tools[{at}]")
    newer = fields.integer("max_completion_tokens", 1, MOST_TOKENS)
    tokens = fields.integer("max_tokens", 1, MOST_TOKENS)
    bare = [Request(messages=checked, tools=tools)]
    return _parsed(fields, served, called, bare, newer or tokens or _TOKENS)


def read_completion(body: Mapping[str, Any], models: ServedModels) -> ParsedRequest:
    """The body of POST /v1/completions. ApiError 400 or 404 names what is wrong."""
    fields = Fields(body)
    served, called = _model(fields, models)
    prompts = fields.prompts("prompt", _MOST_PROMPTS)
    echo = not served.remote and fields.take("echo", bool, False)
    tokens = fields.integer("max_tokens", 0 if echo else 1, MOST_TOKENS, _TOKENS)
    bare = [
        Request(prompt=one)
        if isinstance(one, str)
        else Request(prompt="", spelled=Spelled("", one))
        for one in prompts
    ]
    if served.remote and fields.rest.get("echo") and fields.rest.get("logprobs") is not None:
        message = "log-probabilities of a prompt are told by torch alone"
        raise wrong("echo", message, "unsupported_value")
    parsed = _parsed(fields, served, called, bare, tokens or 1)
    if echo:
        return _echoing(parsed, silent=not tokens)
    if bare[0].prompt_ids and served.remote and (parsed.context or parsed.strategy):
        message = "prompt is token ids, and only their server knows their text — give text"
        raise wrong("prompt", message, "unsupported_value")
    return parsed


def _echoing(parsed: ParsedRequest, *, silent: bool) -> ParsedRequest:
    """The request whose answers have their prompt before them."""
    beside = {
        "stream": parsed.stream,
        "a strategy": parsed.strategy is not None,
        "markers": parsed.served.trained is not None,
        "response_format": parsed.requests[0].held,
    }
    for name in (name for name, given in beside.items() if given):
        raise wrong("echo", f"echo does not go together with {name}", "unsupported_value")
    if parsed.logprobs and "score" not in parsed.served.model.abilities:
        message = f'the model "{parsed.served.name}" cannot tell log-probabilities of a prompt'
        raise wrong("echo", f"{message} — {HAVE['score']}", "unsupported_value")
    return replace(parsed, echo=True, silent=silent)


def _model(fields: Fields, models: ServedModels) -> tuple[ServedModel, str]:
    called = fields.need("model", str)
    return models.find(called), called


def _parsed(
    fields: Fields, served: ServedModel, called: str, bare: list[Request], tokens: int | None
) -> ParsedRequest:
    given, forced = fields.rest.pop("markers", None), fields.take(_FORCED, bool, False)
    ours, chat = _ours(fields, served, given), bare[0].prompt is None
    ours["markers_forced"] = _forced(ours["markers_forced"] or forced, served)
    plain = ours["strategy"] is None
    n = fields.integer("n", 1, _MOST_CHOICES, 1) or 1
    if not plain and n != 1:
        remedy = f"ask for more samples by its name, as in hedged{n}-mbr"
        raise bad("n", f"is {n}, and a strategy gives one answer — {remedy}")
    stream = fields.take("stream", bool, False)
    options = Fields(fields.take("stream_options", dict, {}), "stream_options")
    include_usage = options.take("include_usage", bool, False)
    temperature = fields.number("temperature", 0, 2, 1.0 if plain else 0.0)
    settings: dict[str, Any] = {
        "max_tokens": tokens,
        "temperature": temperature,
        **drawn(fields, ALWAYS),
    }
    settings["stop"] = fields.texts("stop", 16, empty=False, least=0) or ()
    settings["logprobs"] = logprobs(fields, chat=chat)
    seed = fields.integer("seed", *_SEEDS)
    if seed is None:  # another for each request, but greedy answers do not need any
        seed = 0 if plain and temperature == 0 else secrets.randbits(31)
    settings["seed"] = seed if served.remote else seed & _SEEDS[1]
    settings |= extras(fields.rest, served, bare[0].tools, n)
    requests = tuple(replace(one, **settings) for one in bare)
    free = not requests[0].must_call
    if free and requests[0].tools and "tools" not in served.model.abilities:
        message = f'the model "{served.name}" knows no tools — leave them out, or use another model'
        raise wrong(None, message, "unsupported_value")
    return ParsedRequest(served, called, chat, requests, n, stream, include_usage, **ours)


def _ours(fields: Fields, served: ServedModel, markers: Any) -> dict[str, Any]:
    """What only this server knows, in the field `pomona`; markers may stand beside it."""
    ours = Fields(fields.take("pomona", dict, {}), "pomona")
    strategy, given = served.strategy, ours.rest.pop("strategy", None)
    if not isinstance(given, str | dict | None):
        raise mistyped("pomona.strategy", "a name or an object")
    context = ours.texts("context", _MOST_LEVERS) or ()
    user = ours.take("user", str)
    if given is not None or (context and strategy is None):
        strategy = read_strategy("sample" if given is None else given, "pomona.strategy")
    read = {"strategy": strategy, "context": context, "user": user, "budget": _budget(ours)}
    inner = ours.rest.pop("markers", None)
    if markers is not None and inner is not None:
        raise bad("markers", "is given in pomona.markers too — give it once")
    where = "pomona.markers" if markers is None else "markers"
    read["markers"] = _markers(inner if markers is None else markers, where, served)
    read["markers_forced"] = ours.take(_FORCED, bool, False)
    read["candidates"] = ours.take("candidates", bool, strategy is not None)
    ours.end()
    if strategy is None:
        given = {"budget": bool(read["budget"].limits), "candidates": read["candidates"]}
        for name in (name for name, value in given.items() if value):
            remedy = f"name one, as in {served.name}@hedged5-mbr or {served.name}@greedy"
            raise bad(f"pomona.{name}", f"belongs to a strategy — {remedy}")
    return read


def _forced(wanted: bool, served: ServedModel) -> bool:
    if wanted and served.trained is None:
        raise wrong(_FORCED, str(untrained(f'the model "{served.name}"')), "unsupported_value")
    return wanted


def _markers(given: Any, where: str, served: ServedModel) -> dict[str, Value] | None:
    """The values that a request gives markers; "auto" alone is that of each that has one."""
    if given is None:
        return None
    if (trained := served.trained) is None:
        raise wrong(where, str(untrained(f'the model "{served.name}"')), "unsupported_value")
    if given == AUTO:
        given = dict.fromkeys(trained.auto, AUTO)
        if not given:
            message = "the model knows no quality — give values"
            raise wrong(where, f"{where} is {AUTO}: {message}")
    if not isinstance(given, dict):
        raise mistyped(where, f'an object of values by marker, or "{AUTO}"')
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise mistyped(f"{where}.{name[:80]}", "a string or a number")
        try:
            trained.values({name: value})
        except PomonaError as error:
            raise wrong(f"{where}.{name[:80]}", str(error)[:1000]) from error
    return given


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
        raise mistyped(where, "an object")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise bad(f"{where}.role", f"must be one of {', '.join(sorted(_ROLES))}")
    if content is None and role != "assistant":
        raise missing(f"{where}.content")
    if content is not None and not isinstance(content, str):
        _parts(content, f"{where}.content")
    calls = message.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(map(_is_call, calls))):
        raise mistyped(f"{where}.tool_calls", "an array of calls with id, type and function")
    for name in ("name", "tool_call_id"):
        if not isinstance(message.get(name, ""), str | None):
            raise mistyped(f"{where}.{name}", "a string")
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
        raise mistyped(where, "a string or an array of parts")
    for at, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise mistyped(f"{where}[{at}]", "an object with a type")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise mistyped(f"{where}[{at}].text", "a string")


def _is_call(call: Any) -> bool:
    match call:
        case {"id": str(), "type": "function"}:
            function = call.get("function")
            return isinstance(function, dict) and all(
                isinstance(function.get(name), str) for name in ("name", "arguments")
            )
        case {"id": str(), "type": str()}:
            return True
    return False


def _tool(tool: Mapping[str, Any], where: str) -> None:
    match tool:
        case {"type": "function", "function": {"name": str(name)}} if name:
            return
        case {"type": "function"}:
            raise missing(f"{where}.function.name")
        case {"type": str()}:
            return
    raise mistyped(f"{where}.type", "a string")
