"""The loop of calls and results between a model and its tools, bounded in calls, seconds and
tokens. A model that was never taught to call tools writes its calls as plain lines of text.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pomona.documents import parse_json
from pomona.errors import PomonaError, positive
from pomona.models import Message, Model, Reply, Request, Spent
from pomona.sample.context.messages import harmless, with_system
from pomona.sample.context.tools.definition import Refused, Tool

RESULT = "RESULT:"
_CALL = re.compile(r"^[ \t>*`-]*CALL[ \t]+([A-Za-z_][\w-]*)[ \t]*:?[ \t]*(.*)$", re.MULTILINE)
_END = "No more calls are possible. Answer now with what you have."
_STOP = f"\n{RESULT}"


@dataclass(frozen=True)
class ToolCall:
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


def first_call(text: str, tools: Mapping[str, Tool]) -> tuple[str, ToolCall] | None:
    """The text up to the end of the first line that calls a tool, and the call; None when there is
    none.
    """
    line = _CALL.search(text)
    if line is None:
        return None
    name, rest = line.groups()
    return text[: line.end()], ToolCall(name, _arguments(rest.strip().strip("`"), tools.get(name)))


def from_api(calls: Sequence[Mapping[str, Any]]) -> list[ToolCall]:
    """Calls as a model with tool calling makes them."""
    read = []
    for call in calls:
        function = call.get("function") or {}
        try:
            written = str(function.get("arguments") or "{}").encode("utf-8", "replace")
            arguments = parse_json(written, "arguments", top=None)
        except PomonaError:
            arguments = None
        mapping = arguments if isinstance(arguments, dict) else None
        read.append(ToolCall(str(function.get("name")), mapping, str(call.get("id") or "")))
    return read


def _form(tool: Tool) -> str:
    """How a call of the tool is written: a tool with one argument takes it bare."""
    names = tool.parameters
    if len(names) == 1:
        return f"CALL {tool.name} <{names[0]}>"
    listed = ", ".join(f'"{name}": …' for name in names)
    return f"CALL {tool.name} {{{listed}}}"


def _arguments(text: str, tool: Tool | None) -> Mapping[str, Any] | None:
    if text.startswith("{"):
        try:
            end = json.JSONDecoder().raw_decode(text)[1]
            return parse_json(text[:end].encode(), "arguments")
        except (ValueError, RecursionError, PomonaError):
            return None
    if tool is None or not text:
        return {}
    return {tool.parameters[0]: text.strip("\"'<>")} if len(tool.parameters) == 1 else None


@dataclass(frozen=True)
class Tools:
    """Lets the model call tools, and gives it what they return, until it answers or a bound is met.

    calls, seconds, tokens: the most for one candidate, in all its rounds; after the last one the
    model is asked once more, without tools.
    longest: the most characters of a result; the rest is left out. call_seconds: the most time for
        one call.
    examples: (question, call, result, answer) shown first to a model without tool calling of its
        own, where calls are lines of text.
    A call of a tool that only the request knows ends the loop: it is for the client.
    Errors go to the model as text. Notes: `calls` (name, arguments, result or error) and `ended`
    ("answer", "calls", "seconds", "tokens" or "client").
    """

    tools: Sequence[Tool]
    calls: int = 8
    seconds: float = 60.0
    tokens: int = 8192
    call_seconds: float = 20.0
    longest: int = 4000
    examples: Sequence[tuple[str, str, str, str]] = ()
    name: str = "tools"

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        if not names or len(set(names)) < len(names):
            remedy = "give each tool once; an MCP server can have a prefix"
            raise PomonaError("needs tools of different names", where="Tools", remedy=remedy)
        positive(self, "Tools", "calls", "seconds", "tokens", "call_seconds", "longest")

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol."""
        native = "tools" in model.abilities and request.prompt is None
        notes = {"protocol": "native" if native else "text"}
        if native:
            ours = (tool.as_openai() for tool in self.tools)
            return replace(request, tools=(*request.tools, *ours)), notes
        asked = with_system(request, instructions(self.tools))
        if asked.prompt is None:
            first, *rest = asked.messages
            shown: list[Message] = []
            for question, call, result, said in self.examples:
                shown += [{"role": "user", "content": question}]
                shown += _turns(call, f"{RESULT} {result}")
                shown += [{"role": "assistant", "content": said}]
            asked = replace(asked, messages=(first, *shown, *rest))
        return replace(asked, stop=(*asked.stop, _STOP)), notes

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """See the protocol."""
        return await _Rounds(self, request, model, notes["protocol"] == "native").run(reply, notes)


@dataclass
class _Rounds:
    """One candidate on its way to an answer."""

    bounds: Tools
    request: Request
    model: Model
    native: bool
    made: list[dict[str, Any]] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)

    async def run(self, reply: Reply, notes: Mapping[str, Any]) -> tuple[Reply, Mapping[str, Any]]:
        """Run the tools that a reply calls."""
        started = time.monotonic()
        known = {tool.name: tool for tool in self.bounds.tools}
        request, ended = self.request, "answer"
        self.spent += reply.spent
        clients = {_name(given) for given in request.tools} - known.keys()
        while calls := self._calls(reply, known):
            if self.native and any(call.name in clients for call in calls):
                ended = "client"
                break
            results = [await self._made(call, known.get(call.name), started) for call in calls]
            request = self._with_results(request, reply, calls, results)
            ended = self._bound(started)
            if ended != "answer":
                request = self._last(request, known)
            # The next reply of the same candidate.
            reply = (await self.model.reply(request, [(reply.index, reply.temperature)]))[0]
            self.spent += reply.spent
            if ended != "answer":
                reply = replace(reply, tool_calls=())
                break
        text = reply.text if self.native else _answer_of(reply.text)
        told = {**notes, "calls": self.made, "ended": ended}
        return replace(reply, text=text, spent=self.spent), told

    def _calls(self, reply: Reply, known: Mapping[str, Tool]) -> list[ToolCall]:
        if self.native:
            return from_api(reply.tool_calls)
        written = first_call(reply.text, known)
        return [written[1]] if written else []

    async def _made(self, call: ToolCall, tool: Tool | None, started: float) -> str:
        """The result of one call, or what was wrong, as text for the model."""
        note: dict[str, Any] = {"name": call.name, "arguments": call.arguments}
        self.made.append(note)
        left = min(self.bounds.call_seconds, self.bounds.seconds - (time.monotonic() - started))
        try:
            if len(self.made) > self.bounds.calls:
                raise Refused("no more calls are possible")
            if tool is None:
                known = ", ".join(known.name for known in self.bounds.tools)
                raise Refused(f'there is no tool "{call.name}", only {known}')
            if call.arguments is None:
                names = ", ".join(tool.parameters)
                raise Refused(f"the arguments are not a JSON object with {names}")
            text = await asyncio.wait_for(tool.call(call.arguments), max(left, 0.0))
        except Refused as error:
            text = note["error"] = f"error: {error}"
        except TimeoutError:
            text = note["error"] = "error: the tool took too long"
        except Exception as error:  # of foreign code: whatever it raises is for the model to read
            text = note["error"] = f"error: {type(error).__name__}: {error}"
        text = text[: self.bounds.longest]
        note.setdefault("result", text)
        return harmless(text)

    def _with_results(
        self, request: Request, reply: Reply, calls: Sequence[ToolCall], results: Sequence[str]
    ) -> Request:
        """The request with the calls and their results at its end."""
        if self.native:
            said: Message = {
                "role": "assistant",
                "content": reply.text or None,
                "tool_calls": [dict(call) for call in reply.tool_calls],
            }
            answers = [
                {"role": "tool", "tool_call_id": call.id, "content": text}
                for call, text in zip(calls, results, strict=True)
            ]
            return replace(request, messages=(*request.messages, said, *answers))
        call = first_call(reply.text, {})
        said_so_far, result = call[0] if call else reply.text, f"{RESULT} {results[0]}"
        if request.prompt is not None:
            return replace(request, prompt=f"{request.prompt}{said_so_far}\n{result}\n")
        return replace(request, messages=(*request.messages, *_turns(said_so_far, result)))

    def _bound(self, started: float) -> str:
        if len(self.made) >= self.bounds.calls:
            return "calls"
        if time.monotonic() - started >= self.bounds.seconds:
            return "seconds"
        used = self.spent.prompt_tokens + self.spent.completion_tokens
        return "tokens" if used >= self.bounds.tokens else "answer"

    def _last(self, request: Request, known: Mapping[str, Tool]) -> Request:
        """The request without our tools, and with word of that."""
        tools = tuple(given for given in request.tools if _name(given) not in known)
        if request.prompt is not None:
            return replace(request, tools=tools, prompt=f"{request.prompt}{_END}\n")
        *before, last = request.messages
        told = {**last, "content": f"{last['content']}\n{_END}"}
        return replace(request, tools=tools, messages=(*before, told))


def _name(given: Mapping[str, Any]) -> str:
    """The name of a tool in a request."""
    return str((given.get("function") or {}).get("name"))


def _turns(said: str, answer: str) -> list[Message]:
    return [{"role": "assistant", "content": said}, {"role": "user", "content": answer}]


def _answer_of(text: str) -> str:
    """The text without a call that nobody answered any more."""
    call = first_call(text, {})
    if call is None:
        return text
    lines = call[0].rsplit("\n", 1)
    return lines[0].strip() if len(lines) > 1 else text
