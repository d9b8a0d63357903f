"""What asking a teacher costs beside the teacher: CPU of a request through `ModelTeacher` and
`pomona synth run`, beside distilabel and NeMo Data Designer.

All sides ask the same upstream, a bare ASGI application in a process of its own that answers at
once, eight requests at a time, and take turns. A side is a process that answers so many rows and
writes them down; its CPU is that of the process and its children, user and system. What a request
costs is the difference between many rows and few, so that starting is not in it. Every answer is
compared with the one its prompt must have.

    python benchmarks/synth.py --distilabel VENV/bin/python --data-designer VENV/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _machine import compile_package, machine
from serve import free_port, running, words_of

from pomona.files import write_json

RESULTS = Path(__file__).parent / "results" / "synth.json"
SIDES = Path(__file__).parent / "synth_sides"
PEERS = {"distilabel": "distilabel", "data-designer": "data_designer"}


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """Answers every prompt with its words."""
    if scope["type"] != "http":
        return
    raw, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        raw, more = raw + message.get("body", b""), message.get("more_body", False)
    content = json.loads(raw)["messages"][-1]["content"] if raw else ""
    prompt = content if isinstance(content, str) else "".join(part["text"] for part in content)
    message = {"role": "assistant", "content": "".join(words_of(prompt))}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": "dummy"}
    body = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def cpu_of(command: list[str], count: int, folder: Path) -> float:
    """CPU seconds of a side that answers so many rows, all of them right."""
    out, log = folder / "answers.json", folder / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, str(count), str(out)],
            stdout=said,
            stderr=said,
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "DISTILABEL_LOG_LEVEL": "WARNING"},
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not out.exists():
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    answers = json.loads(out.read_text(encoding="utf-8"))
    wanted = {f"text {at}": "".join(words_of(f"text {at}")).strip() for at in range(count)}
    wrong = sum((answers.get(text) or "").strip() != said for text, said in wanted.items())
    if wrong:
        raise SystemExit(f"{' '.join(command)}: {wrong} of {count} answers are wrong")
    return used.ru_utime + used.ru_stime


def measure(sides: dict[str, list[str]], rounds: int, few: int, many: int) -> dict[str, Any]:
    """CPU milliseconds of a request and CPU seconds of starting by side, medians of turns."""
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, command in sides.items():
            used = []
            for count in (few, many):
                with tempfile.TemporaryDirectory() as folder:
                    used.append(cpu_of(command, count, Path(folder)))
            turns[name].append((used[0], used[1]))
            print(name, *(f"{seconds:.2f}" for seconds in used), file=sys.stderr, flush=True)
    found: dict[str, Any] = {}
    for name, pairs in turns.items():
        each = [(more - less) / (many - few) * 1000 for less, more in pairs]
        start = [less - cost * few / 1000 for (less, _), cost in zip(pairs, each, strict=True)]
        found[name] = {
            "CPU ms a request": round(statistics.median(each), 3),
            "CPU s to start": round(statistics.median(start), 2),
            "turns": [round(cost, 3) for cost in each],
        }
    return found


def version_of(python: str, name: str) -> str:
    """The version of a package in an environment."""
    code = f"from importlib.metadata import version; print(version('{name}'))"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def main() -> None:
    """Read the arguments, measure, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in PEERS:
        parser.add_argument(f"--{name}", help=f"Python of an environment with {name}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--few", type=int, default=100, help="rows of the shorter run")
    parser.add_argument("--many", type=int, default=1100, help="rows of the longer run")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.upstream:
        import uvicorn

        uvicorn.run(
            upstream, port=given.upstream, log_level="critical", access_log=False, lifespan="off"
        )
        return
    compile_package()
    port = free_port()
    pythons = {"teach": sys.executable, "run": sys.executable}
    pythons |= {name: getattr(given, name.replace("-", "_")) for name in PEERS}
    sides = {
        name: [python, str(SIDES / f"{PEERS.get(name, name)}.py"), str(port)]
        for name, python in pythons.items()
        if python
    }
    versions = {name: version_of(pythons[name], name) for name in PEERS if pythons[name]}
    versions |= {name: version_of(sys.executable, name) for name in ("pomona", "httpx", "uvicorn")}
    serving = [sys.executable, __file__, "--upstream", str(port)]
    with running(serving, port, "/"):
        found = measure(sides, given.rounds, given.few, given.many)
    settings = {"rounds": given.rounds, "few": given.few, "many": given.many, "at once": 8}
    signature = {"machine": machine(), "packages": versions, "settings": settings}
    write_json(given.out, {**signature, "sides": found})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
