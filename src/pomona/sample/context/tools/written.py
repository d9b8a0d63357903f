"""Tool calls as plain lines of text, for models that were never taught any other way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pomona.sample.context.tools.tool import Tool

RESULT = "RESULT:"
_CALL = re.compile(r"^[ \t>*`-]*CALL[ \t]+([A-Za-z_][\w-]*)[ \t]*:?[ \t]*(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """One call as a model wrote it. `arguments` is None when they could not be read; `id` is the
    API's, empty in plain text.
    """

    name: str
    arguments: Mapping[str, Any] | None
    id: str = ""


def instructions(tools: Sequence[Tool]) -> str:
    """What a model without tool calling is told."""
    listed = "\n".join(f"- {_form(tool)}: {' '.join(tool.about.split())}" for tool in tools)
    return (
        f"You have these tools:\n{listed}\n"
        f"To use one, write its line and nothing after it, for example:\n{_form(tools[0])}\n"
        f"You then get a line that begins with {RESULT} Use what it says to answer. Never write "
        f"{RESULT} yourself."
    )


def first_call(text: str, tools: Mapping[str, Tool]) -> tuple[str, Call] | None:
    """The text up to the end of the first line that calls a tool, and the call; None when there is
    none.
    """
    found = _CALL.search(text)
    if found is None:
        return None
    name, rest = found.groups()
    return text[: found.end()], Call(name, _arguments(rest.strip().strip("`"), tools.get(name)))


def from_api(calls: Sequence[Mapping[str, Any]]) -> list[Call]:
    """Calls as a model with tool calling makes them."""
    found = []
    for call in calls:
        function = call.get("function") or {}
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except (ValueError, TypeError):
            arguments = None
        found.append(
            Call(
                str(function.get("name")),
                arguments if isinstance(arguments, dict) else None,
                str(call.get("id") or ""),
            )
        )
    return found


def _form(tool: Tool) -> str:
    """How a call of the tool is written: a tool with one argument takes it bare."""
    names = tool.parameters
    arguments = (
        f"<{names[0]}>"
        if len(names) == 1
        else "{" + ", ".join(f'"{name}": …' for name in names) + "}"
    )
    return f"CALL {tool.name} {arguments}"


def _arguments(text: str, tool: Tool | None) -> Mapping[str, Any] | None:
    if text.startswith("{"):
        try:
            value, _ = json.JSONDecoder().raw_decode(text)
            return value
        except ValueError:
            return None
    if tool is None or not text:
        return {}
    return {tool.parameters[0]: text.strip("\"'<>")} if len(tool.parameters) == 1 else None
