"""The server as a proxy: CPU of a request, beside optillm's approach `none`; and a minute of 64
clients before a failing upstream.

Both proxies stand before the same upstream, a bare ASGI application, and take turns, so that what
else the machine does falls on both. CPU is that of the proxy's process alone (user and system). In
the load test one request in ten meets a 429, a 500, a cut stream or a cut connection upstream;
every answer is compared with the one its prompt must have.

    python benchmarks/serve.py --optillm VENV/bin/python
    python benchmarks/serve.py --seconds 60 --clients 64
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
from _machine import machine

from pomona.files import write_json

RESULTS = Path(__file__).parent / "results" / "serve.json"
TICK = os.sysconf("SC_CLK_TCK")
SHARE = 0.1
DELAY = 0.02
FAILURES = ("429", "500", "cut stream", "cut connection")


def words_of(prompt: str) -> list[str]:
    """The answer that a prompt must have."""
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    return [digest[at : at + 8] + " " for at in range(0, 64, 8)]


class Upstream:
    """A server that answers every prompt with its words, and fails a share of requests where
    `share` is above 0.
    """

    def __init__(self, share: float, delay: float) -> None:
        self._chance, self._share, self._delay = random.Random(0), share, delay
        self._failed: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "GET":
            await _send(send, 200, json.dumps(self._failed).encode())
            return
        raw, more = b"", True
        while more:
            message = await receive()
            raw, more = raw + message.get("body", b""), message.get("more_body", False)
        body = json.loads(raw)
        if self._delay:
            await asyncio.sleep(self._delay)
        failure = self._chance.choice(FAILURES) if self._chance.random() < self._share else ""
        if failure == "cut stream" and not body.get("stream"):
            failure = "cut connection"
        self._failed[failure or "none"] += 1
        if failure in {"429", "500"}:
            headers = [(b"retry-after", b"1")] if failure == "429" else []
            await _send(send, int(failure), b'{"error":{"message":"no"}}', headers)
        elif body.get("stream"):
            await self._stream(send, body, failure)
        else:
            await self._whole(send, body, failure)

    async def _whole(self, send: Any, body: Any, failure: str) -> None:
        text = "".join(words_of(body["messages"][-1]["content"]))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}
        head = {"id": "x", "object": "chat.completion", "created": 1, "model": "dummy"}
        answer = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
        if failure:  # promises more than it sends
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-length", b"%d" % (len(answer) + 9))],
                }
            )
            await send({"type": "http.response.body", "body": answer})
            return
        await _send(send, 200, answer)

    async def _stream(self, send: Any, body: Any, failure: str) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        words = words_of(body["messages"][-1]["content"])
        for word in words[:3] if failure else words:
            await _event(send, {"choices": [{"index": 0, "delta": {"content": word}}]})
        if not failure:
            await _event(send, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            await _event(
                send, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 8}}
            )
            await send(
                {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True}
            )
        await send({"type": "http.response.body", "body": b""})


async def _send(send: Any, status: int, body: bytes, headers: Any = ()) -> None:
    given = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})


async def _event(send: Any, value: Any) -> None:
    await send(
        {
            "type": "http.response.body",
            "body": b"data: " + json.dumps(value).encode() + b"\n\n",
            "more_body": True,
        }
    )


@contextmanager
def running(command: list[str], port: int, path: str, **environment: str) -> Iterator[int]:
    """A process that listens on a port; its id. It is stopped when the block ends."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        for _ in range(1200):
            try:
                httpx.get(f"http://127.0.0.1:{port}{path}", timeout=1)
                break
            except httpx.HTTPError:
                if process.poll() is not None:
                    raise SystemExit(f"it ended: {' '.join(command)}") from None
                time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def cpu_of(process: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_of(process: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ask_many(port: int, count: int, clients: int) -> None:
    """Ask a proxy `count` times over kept connections; every answer is checked."""

    def one(number: int) -> None:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            timeout=60,
            headers={"authorization": "Bearer none"},
        ) as client:
            for at in range(count // clients):
                prompt = f"{number}-{at}"
                body = {
                    "model": "dummy",
                    "messages": [{"role": "user", "content": prompt}],
                    "max_tokens": 64,
                    "temperature": 0.7,
                }
                response = client.post("/v1/chat/completions", json=body)
                assert response.json()["choices"][0]["message"]["content"] == "".join(
                    words_of(prompt)
                ), response.text

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pass_through(python: Path | None, rounds: int, count: int) -> dict[str, Any]:
    """CPU milliseconds of a request through each proxy, medians of turns."""
    upstream, ours, theirs = free_port(), free_port(), free_port()
    with (
        running([sys.executable, __file__, "--upstream", str(upstream)], upstream, "/"),
        running(_pomona(upstream, ours), ours, "/healthz") as pid,
    ):
        if python is None:
            return {"pomona": _turns({"pomona": (ours, pid)}, rounds, count)["pomona"]}
        command = [
            str(python),
            "-c",
            "from optillm.server import main; main()",
            "--approach",
            "none",
            "--port",
            str(theirs),
        ]
        command += ["--base-url", f"http://127.0.0.1:{upstream}/v1"]
        with running(
            command, theirs, "/health", OPENAI_API_KEY="none", OPTILLM_API_KEY=""
        ) as other:
            found = _turns({"pomona": (ours, pid), "optillm none": (theirs, other)}, rounds, count)
            times = statistics.median(
                b / a
                for a, b in zip(
                    found["pomona"]["turns"], found["optillm none"]["turns"], strict=True
                )
            )
            return {**found, "times less CPU": round(times, 2)}


def _turns(proxies: dict[str, tuple[int, int]], rounds: int, count: int) -> dict[str, Any]:
    turns: dict[str, list[float]] = {name: [] for name in proxies}
    for place in range(rounds + 1):
        for name, (port, process) in proxies.items():
            before = cpu_of(process)
            ask_many(port, count, 8)
            if place:  # the first turn warms up
                turns[name].append(round((cpu_of(process) - before) / count * 1000, 3))
    return {
        name: {"CPU ms a request": statistics.median(found), "turns": found}
        for name, found in turns.items()
    }


def _pomona(upstream: int, port: int) -> list[str]:
    model = f"dummy=http://127.0.0.1:{upstream}/v1#dummy"
    program = [sys.executable, "-c", "from pomona.cli import main; raise SystemExit(main())"]
    return [
        *program,
        "serve",
        "--model",
        model,
        "--port",
        str(port),
        "--concurrency",
        "64",
        "--queue",
        "64",
    ]


def load(seconds: float, clients: int) -> dict[str, Any]:
    """So many clients for so long before an upstream that fails; what they got, and the proxy's
    memory over time.
    """
    upstream, ours = free_port(), free_port()
    failing = [
        sys.executable,
        __file__,
        "--upstream",
        str(upstream),
        "--share",
        str(SHARE),
        "--delay",
        str(DELAY),
    ]
    with (
        running(failing, upstream, "/"),
        running(_pomona(upstream, ours), ours, "/healthz") as process,
    ):
        before = cpu_of(process)
        got, memory, slowest = asyncio.run(_clients(ours, process, seconds, clients))
        asked = sum(got.values())
        failed = httpx.get(f"http://127.0.0.1:{upstream}/").json()
        settled = memory[len(memory) // 4 :]
        return {
            "clients": clients,
            "seconds": seconds,
            "requests": asked,
            "answers": dict(got),
            "upstream": failed,
            "CPU ms a request": round((cpu_of(process) - before) / max(asked, 1) * 1000, 2),
            "slowest seconds": round(slowest, 2),
            "resident MB over time": [round(size / 1e6, 1) for size in memory],
            "growth after the first quarter": round(settled[-1] / settled[0] - 1, 4),
        }


async def _clients(
    port: int, process: int, seconds: float, clients: int
) -> tuple[Counter[str], list[int], float]:
    got: Counter[str] = Counter()
    memory, slowest, end = [memory_of(process)], 0.0, time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def client(number: int, http: httpx.AsyncClient) -> None:
        nonlocal slowest
        at = 0
        while time.monotonic() < end:
            started = time.monotonic()
            got[await _ask(http, f"{number}-{at}", stream=bool(at % 2))] += 1
            slowest, at = max(slowest, time.monotonic() - started), at + 1

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(seconds / 24)
            memory.append(memory_of(process))

    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=150, limits=limits
    ) as http:
        await asyncio.gather(watch(), *(client(number, http) for number in range(clients)))
    return got, memory, slowest


async def _ask(http: httpx.AsyncClient, prompt: str, *, stream: bool) -> str:
    """How one request ended: "right", "wrong", "cut", or the status it got."""
    body = {
        "model": "dummy",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 64,
        "stream": stream,
    }
    expected = "".join(words_of(prompt))
    try:
        response = await http.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        return f"lost: {type(error).__name__}"
    if response.status_code != 200:
        return f"status {response.status_code}"
    if not stream:
        return (
            "right" if response.json()["choices"][0]["message"]["content"] == expected else "wrong"
        )
    blocks = [
        block[6:] for block in response.text.strip().split("\n\n") if block.startswith("data: ")
    ]
    if blocks[-1] != "[DONE]":
        return "error event" if '"error"' in blocks[-1] else "cut"
    deltas = [choice["delta"] for block in blocks[:-1] for choice in json.loads(block)["choices"]]
    return (
        "right, streamed"
        if "".join(delta.get("content") or "" for delta in deltas) == expected
        else "wrong"
    )


def _version(name: str, python: Path | None = None) -> str | None:
    if python is not None:
        code = f"from importlib.metadata import version; print(version('{name}'))"
        return subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Read the arguments, measure, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--optillm",
        type=Path,
        help="Python of an environment with optillm; without it only Pomona is measured",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=400, help="requests of a turn")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--delay", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.upstream:
        import uvicorn

        uvicorn.run(
            Upstream(given.share, given.delay),
            port=given.upstream,
            log_level="critical",
            access_log=False,
            lifespan="off",
        )
        return
    packages = {
        name: _version(name) for name in ("uvicorn", "starlette", "httpx", "httptools", "uvloop")
    }
    found = {"machine": machine(), "packages": packages}
    found["pass-through"] = pass_through(given.optillm, given.rounds, given.count)
    if given.optillm:
        packages["optillm"] = _version("optillm", given.optillm)
    found["load"] = load(given.seconds, given.clients)
    write_json(given.out, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
