"""`pomona serve` as a process: its address, its refusals, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import Upstream


@contextmanager
def program(
    forked: Path, upstream: Upstream, *options: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program before `upstream`, and its address."""
    command = [
        str(forked / "pomona"),
        "serve",
        "--model",
        f"fake=http://127.0.0.1:{upstream.port}/v1#fake",
        "--port",
        "0",
        *options,
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


@pytest.fixture
def served(forked: Path, upstream: Upstream) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with program(forked, upstream) as started:
        yield started


SERVER = """
import os, sys
from mcp.server import MCPServer
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
server = MCPServer("test")
@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b
server.run()
"""


def test_tools_of_mcp_servers_are_started_once_and_end_with_the_program(
    upstream: Upstream, tmp_path: Path, forked: Path
) -> None:
    script, pids = tmp_path / "tools.py", tmp_path / "pids"
    script.write_text(SERVER)
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 40, "b": 2}'},
    }
    body = {
        "model": "fake",
        "messages": [{"role": "user", "content": "40 + 2?"}],
        "pomona": {"context": "tools", "strategy": "greedy"},
    }
    tools = f"{sys.executable} {script} {pids}"
    with program(forked, upstream, "--mcp", tools) as (process, url):
        _until_up(url)
        for _ in range(2):
            upstream.acts = [
                {"text": "", "message": {"content": None, "tool_calls": [call]}},
                {"text": "42"},
            ]
            response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20).json()
            assert response["choices"][0]["message"]["content"] == "42"
            assert response["pomona"]["notes"]["tools"]["calls"] == [
                {"name": "add", "arguments": {"a": 40, "b": 2}, "result": "42"}
            ]
        assert upstream.seen[-1]["messages"][-1] == {
            "role": "tool",
            "tool_call_id": "1",
            "content": "42",
        }
        process.send_signal(signal.SIGINT)
        process.wait(10)
    (pid,) = map(int, pids.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_bad_rows_of_the_memory_stop_it_or_are_left_out(
    upstream: Upstream, tmp_path: Path, forked: Path
) -> None:
    table, rejects = tmp_path / "rows.jsonl", tmp_path / "r.jsonl"
    good = '{"source": "Save", "answer": "Sichern"}'
    table.write_text(f'{good}\nnope\n{{"source": "Open", "answer": null}}\n')
    options = ["--memory-table", str(table)]
    with program(forked, upstream, *options) as (process, _):
        assert process.wait(20) == 2 and process.stderr
        assert "rows.jsonl, line 2: not valid JSON" in process.stderr.read()
    options += ["--on-error", "reject", "--rejects", str(rejects)]
    with program(forked, upstream, *options) as (process, url):
        _until_up(url)
        assert process.stderr
        assert "rows.jsonl: 2 rows, malformed" in process.stderr.readline()
        assert len(rejects.read_text().splitlines()) == 2
        process.send_signal(signal.SIGINT)
        process.wait(10)
        assert process.stderr.read() == ""


def _until_up(url: str) -> None:
    for _ in range(400):
        try:
            assert httpx.get(f"{url}/healthz").json() == {"status": "ok", "models": 1}
            return
        except httpx.ConnectError:
            continue
    raise AssertionError("it never came up")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_after_the_requests_under_way(
    served: Any, upstream: Upstream, sign: signal.Signals
) -> None:
    process, url = served
    _until_up(url)
    upstream.acts = [{"delay": 0.5, "text": "in time"}]
    found: list[httpx.Response] = []
    body = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}
    client = threading.Thread(
        target=lambda: found.append(httpx.post(f"{url}/v1/chat/completions", json=body, timeout=10))
    )
    client.start()
    while not upstream.seen:
        pass
    process.send_signal(sign)
    client.join()
    assert found[0].json()["choices"][0]["message"]["content"] == "in time"
    process.wait(10)
    assert process.returncode == (0 if sign == signal.SIGINT else -signal.SIGTERM)
    assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ["--model", "http://127.0.0.1:9/v1#a", "--host", "0.0.0.0"],
            "there is no API key — give --api-key-file",
        ),
        (
            ["--model", "http://127.0.0.1:9/v1#a", "--mcp", "/no/such/program"],
            "the MCP server did not start",
        ),
        (
            ["--model", "http://127.0.0.1:9/v1#a", "--steer-to", "x"],
            "--steer-to and --steer-from: give both or none",
        ),
        (["--model", "nothing-like-it"], 'unknown model "nothing-like-it"'),
        (["--model", "http://127.0.0.1:9/v1#a", "--max-body", "lots"], '"lots" is not a size'),
        (
            ["--model", "http://127.0.0.1:9/v1#a", "--queue", "0"],
            "queue is 0 — give a positive number",
        ),
        (["--model", "http://127.0.0.1:9/v1#a", "--port", "70000"], "cannot listen"),
    ],
)
def test_what_it_refuses(given: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    from pomona.cli import main

    assert main(["serve", *([] if "--port" in given else ["--port", "0"]), *given]) == 2
    assert says in capsys.readouterr().err
