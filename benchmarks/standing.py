"""Whether the server goes on answering while everything goes wrong at once: `/healthz` is asked
fifty times a second, from a process of its own, while

- 64 clients ask for answers by a strategy, whose comparison is compiled first (the cache is cold),
- one client sends prompts of 900 KB to a model in the server's process,
- another process holds the store of answers for a while, then again,
- 70 clients send their bodies a byte at a time, and 300 never end the head of their request,
- 64 requests wait for a model whose server answers 429.

    python benchmarks/standing.py --seconds 40
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from _machine import machine
from serve import free_port, running

from pomona.files import write_json

RESULTS = Path(__file__).parent / "results" / "standing.json"
LIMIT = 0.25  # seconds, at the 99th percentile
CLIENTS, SLOW, HEADS, HELD = 64, 70, 300, 64
LONG = "A long prompt of many words, none of which matters. " * 18_000
UPSTREAM = """
import asyncio, json, sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    held = scope["path"].startswith("/held")
    await asyncio.sleep(0.05)
    text = [{"message": {"content": f"An answer of number {at}."}, "finish_reason": "stop"}
            for at in range(5)]
    body = {"choices": text, "usage": {"prompt_tokens": 9, "completion_tokens": 30}}
    head = [(b"content-type", b"application/json"), (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": 429 if held else 200, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", lifespan="off")
"""


def probe(port: int, seconds: float) -> list[float]:
    """Seconds of each of fifty requests a second to `/healthz`, each over a connection of its
    own; what takes longer than that delays the next.
    """
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            asked.request("GET", "/healthz")
            asked.getresponse().read()
            times.append(time.perf_counter() - started)
        except OSError:
            times.append(60.0)
        finally:
            asked.close()
        time.sleep(max(0.0, 0.02 - times[-1]))
    return times


async def ask(client: httpx.AsyncClient, model: str, text: str, got: Counter[str]) -> None:
    """One request; what came of it is counted."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 16}
    try:
        response = await client.post("/v1/chat/completions", json=body)
        got[f"{model} {response.status_code}"] += 1
    except httpx.HTTPError as error:
        got[f"{model} {type(error).__name__}"] += 1


async def slow_body(port: int, seconds: float) -> None:
    """A request whose body comes a byte at a time."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    head += b"content-type: application/json\r\ncontent-length: 5000\r\n\r\n"
    await trickled(port, head + b'{"model": "', seconds)


async def trickled(port: int, first: bytes, seconds: float) -> None:
    """Send what is given, then blanks, until the server ends it or the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = time.monotonic() + seconds
    writer.write(first)
    while time.monotonic() < end and not (reader.at_eof() or writer.is_closing()):
        writer.write(b" ")
        await asyncio.sleep(1.0)
    writer.close()


async def load(port: int, seconds: float) -> Counter[str]:
    """All of it at once."""
    got: Counter[str] = Counter()
    end = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=1000)

    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=180, limits=limits, trust_env=False
    ) as client:

        async def again(model: str, text: str, number: int) -> None:
            at = 0
            while time.monotonic() < end:
                await ask(client, model, f"{text} {number} {at}", got)
                at += 1

        heads = (
            trickled(port, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ", seconds)
            for _ in range(HEADS)
        )
        await asyncio.gather(
            *(again("up@hedged5-mbr", "Say", number) for number in range(CLIENTS)),
            again("ui", LONG, 0),
            *(slow_body(port, seconds) for _ in range(SLOW)),
            *(ask(client, "held", f"Say {number}", got) for number in range(HELD)),
            *heads,
        )
    return got


def hold(store: Path, seconds: float) -> None:
    """Lock the store again and again, ten seconds each."""
    file, end = sqlite3.connect(store, timeout=60, isolation_level=None), time.monotonic() + seconds
    while time.monotonic() < end:
        file.execute("begin exclusive")
        time.sleep(10)
        file.execute("commit")
        time.sleep(1)
    file.close()


def measured(seconds: float) -> dict[str, Any]:
    """Start the server with a cold cache, and ask."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream, port = free_port(), free_port()
        cold = {"POMONA_CACHE": str(folder / "cache"), "NUMBA_CACHE_DIR": str(folder / "numba")}
        program = [sys.executable, "-c", "from pomona.cli import main; raise SystemExit(main())"]
        models = [f"up=http://127.0.0.1:{upstream}/v1#up", "ui=ui-s"]
        models += [f"held=http://127.0.0.1:{upstream}/held#held"]
        command = [*program, "serve", "--port", str(port), "--store", str(folder / "store.sqlite")]
        for model in models:
            command += ["--model", model]
        with (
            running([sys.executable, "-c", UPSTREAM, str(upstream)], upstream, "/"),
            running(command, port, "/healthz", OMP_NUM_THREADS="1", **cold),
        ):
            holder = threading.Thread(target=hold, args=(folder / "store.sqlite", seconds - 12))
            probing = subprocess.Popen(
                [sys.executable, __file__, "--probe", str(port), "--seconds", str(seconds)],
                stdout=subprocess.PIPE,
            )
            holder.start()
            got = asyncio.run(load(port, seconds))
            times = json.loads(probing.communicate()[0])
            holder.join()
    return {
        "requests": dict(sorted(got.items())),
        "asked": len(times),
        **{f"p{share}": round(float(np.percentile(times, share)), 4) for share in (50, 90, 99)},
        "slowest": round(max(times), 4),
        "within the limit": float(np.percentile(times, 99)) <= LIMIT,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--probe", type=int)
    given = parser.parse_args()
    if given.probe:
        print(json.dumps(probe(given.probe, given.seconds)))
        return
    result = measured(given.seconds)
    print(json.dumps(result, indent=2))
    versions = {name: version(name) for name in ("uvicorn", "httptools", "numba", "torch")}
    load_average = round(os.getloadavg()[0], 1)
    about = {"machine": machine(), "versions": versions, "load of the machine": load_average}
    write_json(RESULTS, {**about, "limit, seconds": LIMIT, **result})


if __name__ == "__main__":
    main()
