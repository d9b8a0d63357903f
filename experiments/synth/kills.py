"""1,000 rows, a server of which one request in ten fails, and ten kills: rows in are rows out and
rejects, nothing that was kept is paid for again, and the files are those of a run that nobody
killed.

    python experiments/synth/kills.py [--rows 1000] [--kills 10] [--out FOLDER]

Beside the teacher that answers there is one that always fails and one that writes garbage.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FAULTS = 0.1
FILES = ("rows.parquet", "rejects.parquet", "preferences.jsonl", "card.json", "README.md")
RECIPE = """
data: {{rows: {folder}/in.jsonl, id: id}}
teachers:
  good: {{model: "{url}#good", licence: MIT, price: [1, 2], concurrency: 16, samples: 2}}
  down: {{model: "{url}#down", licence: MIT, price: [1, 2], concurrency: 4}}
  garbage: {{model: "{url}#garbage", licence: MIT, price: [1, 2], concurrency: 16}}
rewards: {{placeholders: 1, agreement: 1}}
checks: {{length_ratio: [0.5, 5], placeholders: true, near_duplicates: 0.8}}
preferences: {{}}
stop: {{window: 50}}
"""


class Upstream:
    """Answers by what it is asked alone; one request in ten fails."""

    def __init__(self) -> None:
        self.paid: Counter[str] = Counter()
        self.faults = 0
        self.victim: subprocess.Popen[bytes] | None = None
        self.kill_at: int | None = None
        self._chance = random.Random(0)

    async def answer(self, request: Request) -> Response:
        """One answer, or a fault."""
        body = await request.json()
        await asyncio.sleep(0.002)
        fault = self._chance.random() < FAULTS
        if body["model"] == "down":
            return JSONResponse({"error": {"message": "no such key"}}, 401)
        if fault:
            self.faults += fault
            kind = self._chance.choice(("error", "busy", "cut"))
            if kind == "cut":
                return Response('{"choices": [', media_type="application/json")
            headers = {"Retry-After": "0"}
            return JSONResponse(
                {"error": {"message": kind}}, 500 if kind == "error" else 429, headers
            )
        text = body["messages"][-1]["content"]
        key = json.dumps([body["model"], text, body.get("seed"), body.get("temperature")])
        said = hashlib.sha256(key.encode()).hexdigest()
        answer = (
            "мусор"
            if body["model"] == "garbage"
            else f"{text} {' '.join(said[at : at + 6] for at in range(0, 36, 6))}"
        )
        self.paid[key] += 1
        if self.kill_at is not None and sum(self.paid.values()) >= self.kill_at and self.victim:
            self.victim.send_signal(signal.SIGKILL)
            self.kill_at = None
        message = {"role": "assistant", "content": answer}
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": len(answer.split())}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        return JSONResponse({"choices": choices, "usage": usage})


def served(upstream: Upstream) -> str:
    """The address of a server in a thread."""
    app = Starlette(routes=[Route("/v1/chat/completions", upstream.answer, methods=["POST"])])
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    settings = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(settings)
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def started(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    """The command, in a process of its own."""
    code = "import sys; from pomona.cli import main; sys.exit(main())"
    words = ["synth", "run", str(recipe), "--out", str(out), "--format", "json"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def main() -> None:
    """Print what was found as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="pomona-kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(1)
    words = [
        "save",
        "open",
        "close",
        "window",
        "file",
        "selection",
        "archive",
        "%(name)s",
        "user",
        "folder",
        "{0}",
        "print",
    ]
    rows = [
        {"id": f"r{at}", "lang": "af", "text": f"{at} {' '.join(chance.choices(words, k=6))}"}
        for at in range(given.rows)
    ]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found: dict[str, Any] = {"rows": given.rows, "fault_share": FAULTS}
    upstream = Upstream()
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(folder=folder, url=served(upstream)))
    began = time.monotonic()
    assert started(recipe, folder / "whole").wait() == 0
    whole = sum(upstream.paid.values())
    found["whole"] = {
        "answers_paid": whole,
        "faults": upstream.faults,
        "seconds": round(time.monotonic() - began, 1),
        "paid_twice": sum(count - 1 for count in upstream.paid.values()),
    }
    upstream.paid.clear()
    upstream.faults, kills = 0, 0
    for number in range(1, given.kills + 1):
        upstream.kill_at = whole * number // (given.kills + 1)
        upstream.victim = started(recipe, folder / "killed")
        code = upstream.victim.wait()
        kills += code == -signal.SIGKILL
    upstream.kill_at = None
    assert started(recipe, folder / "killed").wait() == 0
    card = json.loads((folder / "killed" / "card.json").read_text())
    same = {
        name: (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes()
        for name in FILES
    }
    written = pq.read_metadata(folder / "killed" / "rows.parquet").num_rows
    rejected = pq.read_metadata(folder / "killed" / "rejects.parquet").num_rows
    found["killed"] = {
        "kills": kills,
        "answers_paid": sum(upstream.paid.values()),
        "faults": upstream.faults,
        "under_way_at_a_kill_and_paid_again": sum(n - 1 for n in upstream.paid.values()),
        "most_under_way": kills * 32,
    }
    found["rows_in"], found["rows_out"] = card["rows_in"], card["rows_out"]
    found["rejects"], found["files"] = card["rejects"], {"rows": written, "rejects": rejected}
    found["same_bytes"] = same
    found["stopped"] = {name: one["stopped"] for name, one in card["teachers"].items()}
    print(json.dumps(found, indent=1))
    assert card["rows_in"] == given.rows == written + rejected
    assert all(same.values()), same


if __name__ == "__main__":
    main()
