"""Calls are validated, bounded and never run as code."""

from __future__ import annotations

import asyncio
import json
import math
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.models import Reply, Spent, load, smollm2_path
from pomona.sample.context import McpServer, Tools, tool
from pomona.sample.context.tools import Refused, calculator, clock, running

from .conftest import Scripted, ask

SMOLLM2 = smollm2_path()
SERVER = """
import os
from mcp.server import MCPServer
server = MCPServer("test")
@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b
@server.tool()
def broken(text: str) -> str:
    "Fails."
    raise ValueError("it broke")
@server.tool()
def die() -> str:
    "Ends the server."
    os._exit(3)
server.run()
"""


def run(
    lever: Tools, model: Scripted, question: str = "What is 6 x 7?"
) -> tuple[Reply, dict[str, Any]]:
    async def work() -> tuple[Reply, dict[str, Any]]:
        request, notes = await lever.before(ask(question), model)
        reply = (await model.reply(request, [(2, 0.5)]))[0]
        reply, told = await lever.after(request, reply, model, notes)
        return reply, dict(told)

    return asyncio.run(work())


def api_call(name: str, arguments: str, number: int = 0) -> dict[str, Any]:
    return {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def test_a_function_becomes_a_tool() -> None:
    def book(city: str, nights: int = 1, kind: Literal["room", "bed"] = "room") -> dict[str, Any]:
        """Book a place to sleep."""
        return {"city": city, "nights": nights, "kind": kind}

    made = tool(book)
    assert (made.name, made.about, made.parameters) == (
        "book",
        "Book a place to sleep.",
        ["city", "nights", "kind"],
    )
    assert made.schema["required"] == ["city"] and made.schema["properties"]["kind"]["enum"] == [
        "room",
        "bed",
    ]
    assert json.loads(asyncio.run(made.call({"city": "Köln", "nights": 2}))) == {
        "city": "Köln",
        "nights": 2,
        "kind": "room",
    }
    for arguments, reason in (
        ({}, "city: Field required"),
        ({"city": "x", "kind": "tent"}, "kind: Input"),
        ({"city": "x", "y": 1}, "y: Extra"),
    ):
        with pytest.raises(Refused, match=reason):
            asyncio.run(made.call(arguments))


def test_functions_that_cannot_be_tools() -> None:
    def bare(city) -> str:  # type: ignore[no-untyped-def]
        return city

    def many(*cities: str) -> str:
        return ""

    with pytest.raises(PomonaError, match=r"bare\(city\): has no annotation"):
        tool(bare)
    with pytest.raises(PomonaError, match=r"many\(cities\): cannot be given by name"):
        tool(many)
    with pytest.raises(PomonaError, match="needs tools of different names"):
        Tools([tool(clock), tool(clock)])


def test_written_calls_are_answered_until_there_is_an_answer() -> None:
    model = Scripted("Let me see.\nCALL calculator 6*7\nRESULT: 41", "It is 42.")
    reply, told = run(Tools([tool(calculator)]), model)
    assert reply.text == "It is 42."
    assert reply.spent == Spent(20, 10, 4.0, 0.5)
    assert (reply.index, reply.temperature) == (2, 0.5)
    assert told == {
        "protocol": "text",
        "calls": [{"name": "calculator", "arguments": {"expression": "6*7"}, "result": "42"}],
        "ended": "answer",
    }
    first, second = model.asked
    assert "CALL calculator <expression>" in first.messages[0]["content"] and first.stop == (
        "\nRESULT:",
    )
    assert second.messages[-2:] == (
        {"role": "assistant", "content": "Let me see.\nCALL calculator 6*7"},
        {"role": "user", "content": "RESULT: 42"},
    )


def test_native_calls_come_back_as_tool_messages() -> None:
    calls = [
        api_call("calculator", '{"expression": "6*7"}'),
        api_call("calculator", "{", 1),
        api_call("nothing", "{}", 2),
    ]
    model = Scripted(("", calls), "42", abilities=["tools"])
    reply, told = run(Tools([tool(calculator)]), model)
    assert reply.text == "42" and told["protocol"] == "native"
    assert model.asked[0].tools[0]["function"]["name"] == "calculator"
    results = model.asked[1].messages[-3:]
    assert [message["tool_call_id"] for message in results] == ["call_0", "call_1", "call_2"]
    assert [message["content"] for message in results] == [
        "42",
        "error: the arguments are not a JSON object with expression",
        'error: there is no tool "nothing", only calculator',
    ]


def test_calls_of_the_clients_tools_go_to_the_client() -> None:
    async def work() -> None:
        model, lever = (
            Scripted(("", [api_call("theirs", "{}")]), abilities=["tools"]),
            Tools([tool(calculator)]),
        )
        theirs = {
            "type": "function",
            "function": {"name": "theirs", "parameters": {"type": "object"}},
        }
        request, notes = await lever.before(ask("?", tools=(theirs,)), model)
        reply = (await model.reply(request, [(0, 0.0)]))[0]
        reply, told = await lever.after(request, reply, model, notes)
        assert told["ended"] == "client" and told["calls"] == []
        assert reply.tool_calls == (api_call("theirs", "{}"),)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("bounds", "ended"),
    [({"calls": 3}, "calls"), ({"tokens": 40}, "tokens"), ({"seconds": 1e-9}, "seconds")],
)
def test_a_model_that_never_stops_calling_is_stopped(bounds: dict[str, float], ended: str) -> None:
    model = Scripted(*["CALL calculator 1+1"] * 20)
    _, told = run(Tools([tool(calculator)], **bounds), model)  # type: ignore[arg-type]
    assert told["ended"] == ended
    assert len(told["calls"]) <= 3
    assert len(model.asked) == len(told["calls"]) + 1
    assert "No more calls are possible" in model.asked[-1].messages[-1]["content"]


def test_what_tools_do_wrong_is_told_to_the_model() -> None:
    async def slow(text: str) -> str:
        await asyncio.sleep(30)
        return text

    def broken(text: str) -> str:
        raise OSError("no disk")

    def long(text: str) -> str:
        return "<|im_end|>" + "x" * 100

    lever = Tools([tool(slow), tool(broken), tool(long)], call_seconds=0.2, longest=20)
    started = time.monotonic()
    model = Scripted(
        "CALL slow a",
        "CALL broken a",
        "CALL long a",
        "CALL gone a",
        "CALL long {",
        "CALL long",
        "done",
    )
    _, told = run(lever, model)
    assert time.monotonic() - started < 5
    assert [call["result"] for call in told["calls"]] == [
        "error: the tool took",
        "error: OSError: no d",
        "<|im_end|>xxxxxxxxxx",
        "error: there is no t",
        "error: the arguments",
        "error: text: Field r",
    ]
    assert model.asked[3].messages[-1]["content"] == "RESULT: < |im_end|>xxxxxxxxxx"


def test_the_examples_are_shown_as_turns() -> None:
    model = Scripted("4")
    run(Tools([tool(calculator)], examples=[("1 + 1?", "CALL calculator 1+1", "2", "2.")]), model)
    assert [message["role"] for message in model.asked[0].messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert model.asked[0].messages[3]["content"] == "RESULT: 2"


numbers = st.integers(-1000, 1000)
expressions = st.recursive(
    numbers.map(lambda n: f"({n})"),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
        lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
    ),
    max_leaves=6,
)


@given(expressions)
def test_the_calculator_agrees_with_python(expression: str) -> None:
    try:
        expected = eval(expression)
    except ZeroDivisionError:
        with pytest.raises(Refused, match="cannot be worked out"):
            calculator(expression)
        return
    assert math.isclose(float(calculator(expression)), expected, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2^10", "1024"),
        ("7 × 8 =", "56"),
        ("$12.50 * 2", "25"),
        ("sqrt(2)", "1.41421356237"),
        ("-3 ** 2", "-9"),
        ("max(1, 2) // 1", "2"),
    ],
)
def test_the_calculator(expression: str, value: str) -> None:
    assert calculator(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "9**9**9",
        "(1).__class__",
        "'a' * 9",
        "True + 1",
        "x",
        "[1]",
        "lambda: 1",
        "1e99 * 1e99",
        "",
        "(" * 150,
        "(-8) ** 0.5",
        "10 ** 101",
        "1" * 201,
        "sqrt(-1)",
        "round(1, 2, 3)",
        "max()",
        "1 if 1 else 2",
        "0 ** -1",
        "-" * 199 + "1)",
        "\x00",
    ],
)
def test_the_calculator_runs_nothing_else(expression: str) -> None:
    with pytest.raises(Refused):
        calculator(expression)


def test_the_clock() -> None:
    assert clock("Asia/Tokyo").endswith("JST") and clock().endswith("UTC")
    for zone in ("Nowhere/Land", "../etc/passwd", ""):
        with pytest.raises(Refused, match="there is no time zone"):
            clock(zone)


def served(tmp_path: Path, work: Callable[[McpServer], Any]) -> Any:
    program = tmp_path / "server.py"
    program.write_text(SERVER)

    async def main() -> Any:
        async with McpServer([sys.executable, str(program)], prefix="my_") as server:
            return await work(server)

    return asyncio.run(main())


def test_tools_of_an_mcp_server(tmp_path: Path) -> None:
    async def work(server: McpServer) -> None:
        tools = {found.name: found for found in server.tools}
        assert list(tools) == ["my_add", "my_broken", "my_die"]
        assert (tools["my_add"].about, tools["my_add"].parameters) == (
            "Add two numbers.",
            ["a", "b"],
        )
        assert await tools["my_add"].call({"a": 2, "b": 3}) == "5"
        with pytest.raises(Refused, match="'x' is not of type 'integer'"):
            await tools["my_add"].call({"a": "x", "b": 3})
        with pytest.raises(Refused, match="Error executing tool broken"):
            await tools["my_broken"].call({"text": "a"})
        model = Scripted('CALL my_add {"a": 40, "b": 2}', "42")
        request, notes = await Tools(server.tools).before(ask("?"), model)
        _, told = await Tools(server.tools).after(
            request, (await model.reply(request, [(0, 0.0)]))[0], model, notes
        )
        assert told["calls"][0]["result"] == "42"
        with pytest.raises(Refused, match="the tool's server"):
            await tools["my_die"].call({})

    served(tmp_path, work)


def test_servers_of_the_command_line_answer_from_any_loop_and_die_without_a_hang(
    tmp_path: Path,
) -> None:
    program = tmp_path / "a server.py"
    program.write_text(SERVER)
    command = shlex.join([sys.executable, str(program)])
    with running([command, f"other={command}"]) as served:
        tools = {found.name: found for found in served}
        assert list(tools) == ["add", "broken", "die", "other_add", "other_broken", "other_die"]
        assert asyncio.run(tools["add"].call({"a": 2, "b": 3})) == "5"
        started = time.monotonic()
        for name, arguments in (("die", {}), ("add", {"a": 1, "b": 1})):
            with pytest.raises(Refused, match="the tool's server"):
                asyncio.run(tools[name].call(arguments))
        assert time.monotonic() - started < 20  # and not the half minute a call may take
        assert asyncio.run(tools["other_add"].call({"a": 1, "b": 1})) == "2"
        with pytest.raises(
            PomonaError,
            match=(
                "needs tools of different names — give each tool once; an MCP server can have "
                "a prefix"
            ),
        ):
            Tools([*served, *served])
    with pytest.raises(Refused, match="the tool's server is gone"):
        asyncio.run(tools["other_add"].call({"a": 1, "b": 1}))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("'open", "'open: cannot be read: No closing quotation — write it as in a shell"),
        ("x=", "did not start"),
        (" ", "no program is named"),
    ],
)
def test_command_lines_that_are_none(command: str, says: str) -> None:
    with pytest.raises(PomonaError, match=says), running([command]):
        pass


def test_a_server_that_does_not_start() -> None:
    async def work(*command: str) -> None:
        async with McpServer(command):
            pass

    for command in ((sys.executable, "-c", "raise SystemExit(3)"), ("/no/such/program",)):
        with pytest.raises(
            PomonaError, match=r"the MCP server did not start: .* — does the program run by itself"
        ):
            asyncio.run(work(*command))


@pytest.mark.skipif(not SMOLLM2.is_file(), reason="smollm2 is not on this machine")
def test_a_small_model_gets_the_result_of_its_call() -> None:
    async def work() -> None:
        model = load(f"gguf:{SMOLLM2}")
        lever = Tools(
            [tool(calculator)],
            examples=[("What is 12 plus 30?", "CALL calculator 12+30", "42", "It is 42.")],
        )
        try:
            request, notes = await lever.before(
                ask("What is 2345 plus 5432?", max_tokens=40), model
            )
            reply = (await model.reply(request, [(0, 0.0)]))[0]
            answered, told = await lever.after(request, reply, model, notes)
        finally:
            await model.close()
        assert told["calls"] and told["calls"][0]["name"] == "calculator"
        assert answered.spent.completion_tokens > reply.spent.completion_tokens

    asyncio.run(work())
