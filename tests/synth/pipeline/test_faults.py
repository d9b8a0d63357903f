"""A server of which one request in ten fails, and processes that are killed."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.batch_server import BatchServer

from pomona.answers import Submitted
from pomona.errors import GateFailed
from pomona.synth.pipeline import expected, synthesize

Written = Callable[..., Path]
ROOT = Path(__file__).parents[3]


@dataclass
class Upstream:
    """Answers by the prompt, but for one request in ten; counts what it was paid for."""

    url: str = ""
    paid: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        if self.chance.random() < 0.1:
            self.faults += 1
            if self.faults % 2:
                return JSONResponse({"error": {"message": "busy"}}, 429, {"Retry-After": "0"})
            return JSONResponse({"error": {"message": "no"}}, 500, {"Retry-After": "0"})
        text = body["messages"][0]["content"]
        self.paid[text] += 1
        message = {"role": "assistant", "content": f"antwoord {text}"}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": 3}
        return JSONResponse({"choices": choices, "usage": usage})


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    app = Starlette(routes=[Route("/v1/chat/completions", upstream.answer, methods=["POST"])])
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    upstream.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield upstream
    server.should_exit = True
    thread.join()
    listening.close()


def test_faults_upstream_lose_no_row_and_cost_no_answer_twice(
    tmp_path: Path, written: Written, upstream: Upstream
) -> None:
    recipe = written(
        f"teachers: {{m: {{model: '{upstream.url}#x', price: [1, 2]}}}}\n",
        texts=[f"word {at} " * (1 + at % 5) for at in range(100)],
    )
    told = expected(recipe, tmp_path / "o", pilot=20).to_json()
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert (card["rows_in"], card["rows_out"]) == (100, 100) and upstream.faults >= 5
    assert set(upstream.paid.values()) == {1}
    cost = card["cost"]
    assert cost["prompt_tokens"] == sum(len(text.split()) for text in upstream.paid)
    assert cost["money"] == pytest.approx((cost["prompt_tokens"] + 600) / 1e6)
    for kind in ("prompt_tokens", "completion_tokens", "money"):
        assert told["total"][kind] == pytest.approx(cost[kind], rel=0.1)


def test_teachers_of_one_model_pay_once_for_what_both_ask(
    tmp_path: Path, written: Written, upstream: Upstream
) -> None:
    one = f"{{model: '{upstream.url}#x'}}"
    recipe = written(
        f"teachers: {{a: {one}, b: {one}}}\nroute: {{by: all}}\n",
        texts=[f"word {at}" for at in range(40)],
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert card["rows_out"] == 40 and set(upstream.paid.values()) == {1}


def test_a_model_that_is_down_is_not_asked_for_further_draws(
    tmp_path: Path, written: Written, models: dict[str, Any], fake: Any
) -> None:
    models["up"], models["down"] = fake(lambda *_: "ok", name="up"), fake(name="down")
    models["down"].broken = True
    recipe = written("teachers: {u: {model: up}, d: {model: down}}\nrefill: 3\n", rows=3)
    recipe.write_text(recipe.read_text() + "checks: {words: [2, 9]}\n")
    with pytest.raises(GateFailed):
        synthesize(recipe, tmp_path / "o")
    assert models["down"].calls == 3 and len(models["up"].made) == 12


PROGRAM = """
import os, sys
from tests.conftest import Fake
from pomona.synth.pipeline import pool, synthesize
recipe, out, log, at = sys.argv[1:]
made = 0
def say(request, index, temperature):
    global made
    made += 1
    if made == int(at):
        os.kill(os.getpid(), 9)
    with open(log, "a") as file:
        file.write(request.messages[0]["content"] + "\\n")
    return "antwoord " + request.messages[0]["content"]
pool.load = lambda *_, **__: Fake(say, name="m")
synthesize(recipe, out)
"""


def test_after_kills_the_files_are_those_of_a_run_that_nobody_killed(
    tmp_path: Path, written: Written, forked: Path
) -> None:
    recipe = written(
        "teachers: {m: {model: m, concurrency: 1}}\nstop: {window: 10}\n"
        "checks: {near_duplicates: 0.8}\n",
        rows=50,
    )

    def run(out: str, at: int) -> int:
        words = ["-c", PROGRAM, recipe, tmp_path / out, tmp_path / f"{out}.log", str(at)]
        done = subprocess.run([forked / "python", *words], check=False, cwd=ROOT)
        return done.returncode

    assert run("whole", 0) == 0
    assert [run("killed", at) for at in (3, 15, 21, 0)] == [*[-signal.SIGKILL] * 3, 0]
    asked = (tmp_path / "killed.log").read_text().splitlines()
    assert sorted(asked) == sorted(set(asked))
    for name in ("rows.parquet", "rejects.parquet", "card.json", "README.md"):
        whole, killed = (tmp_path / out / name for out in ("whole", "killed"))
        assert whole.read_bytes() == killed.read_bytes()


def test_the_forecast_is_told_before_many_rows_are_answered(
    tmp_path: Path, written: Written, models: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    from pomona.cli import main

    recipe = written("teachers: {m: {model: m}}\nbudget: {tokens: 1000}\n", rows=256)
    words = ["synth", "run", str(recipe), "--out", str(tmp_path / "o")]
    assert main([*words, "--dry-run"]) == 0
    said = capfd.readouterr().out
    assert "at most for 256 rows: " in said and "32,800 answer tokens" in said
    assert not (tmp_path / "o").exists() and not models["m"].made
    assert main(words) == 1
    told = capfd.readouterr()
    assert "forecast from 64 of 256 rows: 2,560 prompt tokens, 1,280 answer tokens" in told.err
    assert "warning: the budget of tokens is spent before all rows are answered" in told.err
    assert "the budget of tokens was spent; raise it and run again" in told.err
    assert "67 out, 189 rejects" in told.out


@pytest.mark.parametrize(
    ("recipe", "out", "made"),
    [
        (
            "steps: [translate, {limit: 3}]\n",
            6,
            10,
        ),  # six in the pilot, too, of which two are those
        ("budget: {tokens: 450}\n", 30, 30),
        ("budget: {tokens: 450}\nsteer: {total: 20}\n", 20, 20),
    ],
)
def test_what_a_pilot_paid_for_is_in_the_budget_and_on_the_card(
    tmp_path: Path,
    written: Written,
    models: dict[str, Any],
    recipe: str,
    out: int,
    made: int,
) -> None:
    card = synthesize(
        written(f"teachers: {{m: {{model: m, price: [1, 1]}}}}\n{recipe}", rows=256),
        tmp_path / "o",
    ).to_json()
    asked = len(models["m"].made)
    assert (card["rows_in"], card["rows_out"]) == (256, out) and asked == made
    cost = card["cost"]
    assert cost["prompt_tokens"] + cost["completion_tokens"] == 15 * asked
    assert cost["money"] == 3.75 * asked


def test_all_rows_go_in_one_batch_and_the_same_command_collects_them(
    tmp_path: Path, written: Written
) -> None:
    server = BatchServer()
    try:
        recipe = written(
            f"teachers:\n  b: {{model: '{server.base}#b', batch: true, samples: 2}}\n"
            f"  c: {{model: '{server.base}#c', batch: true}}\nstop: {{window: 10}}\n",
            rows=30,
        )
        for _ in range(2):  # nothing is submitted twice
            with pytest.raises(Submitted):
                synthesize(recipe, tmp_path / "o")
        assert len(server.batches) == 2
        server.work()
        card = synthesize(recipe, tmp_path / "o").to_json()
        assert set(server.asked.values()) == {1} and len(server.asked) == 90
        assert card["rows_out"] == 30 and server.seen["single"] == 0
        assert card["teachers"]["b"]["completion_tokens"] == 120
    finally:
        server.stop()
