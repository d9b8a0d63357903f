"""One thing a model may call: a name, a JSON schema of its arguments, and a function."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from pomona.errors import PomonaError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Refused(Exception):
    """What the model should read instead of a result: its arguments are wrong, or the tool
    failed.
    """


@dataclass(frozen=True)
class Tool:
    """`schema` is a JSON schema of type object; `call` checks the arguments a model wrote, and
    raises `Refused` if they are bad.
    """

    name: str
    about: str
    schema: Mapping[str, Any]
    call: Callable[[Mapping[str, Any]], Awaitable[str]]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            remedy = "use letters, digits, _ and -, at most 64"
            raise PomonaError(f'"{self.name}" is no name for a tool', remedy=remedy)

    @property
    def parameters(self) -> list[str]:
        """The names of the arguments, in order."""
        return list(self.schema.get("properties") or {})

    def as_openai(self) -> dict[str, Any]:
        """The tool as the OpenAI API has it."""
        function = {"name": self.name, "description": self.about, "parameters": dict(self.schema)}
        return {"type": "function", "function": function}


def tool(function: Callable[..., Any], *, name: str | None = None) -> Tool:
    """A tool from a Python function: its annotations become the schema, its docstring the
    description.

    Arguments are validated against the annotations before the call. A plain function runs in a
    thread, a coroutine in the loop. A string is given back as it is, anything else as JSON.
    A PomonaError when a parameter has no annotation, or takes a variable number of arguments.
    """
    fields = _fields(function)
    model = create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    schema = {key: value for key, value in model.model_json_schema().items() if key != "title"}

    async def call(arguments: Mapping[str, Any]) -> str:
        try:
            checked = model.model_validate(dict(arguments))
        except ValidationError as error:
            reasons = map(_reason, error.errors(include_url=False))
            raise Refused("; ".join(reasons)) from error
        values = {field: getattr(checked, field) for field in fields}
        if inspect.iscoroutinefunction(function):
            return as_text(await function(**values))
        return as_text(await asyncio.to_thread(function, **values))

    return Tool(name or function.__name__, inspect.getdoc(function) or "", schema, call)


def _fields(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters as pydantic has fields: annotation and default."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        name, default = parameter.name, parameter.default
        where = f"{function.__name__}({name})"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise PomonaError("cannot be given by name", where=where, remedy="use plain parameters")
        if name not in hints:
            remedy = "annotate it, its type becomes the schema"
            raise PomonaError("has no annotation", where=where, remedy=remedy)
        fields[name] = (hints[name], ... if default is parameter.empty else default)
    return fields


def as_text(value: Any) -> str:
    """A result as the model shall read it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _reason(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
