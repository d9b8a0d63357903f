"""What is computed together depends on the rows alone: not on time, not on the store, not on where
a run was killed.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.answers import Budget
from pomona.models import ModelError, Request, load, smollm2_path, wait_for
from pomona.records import read
from pomona.sample import answer_all

TABLE = pa.table({"prompt": [f"question {at}" for at in range(20)]})


@pytest.fixture
def here(fake: Any) -> Any:
    """A model that computes here, and the rounds it was asked: the prompts and the number of
    samples of each.
    """

    class Here(fake):
        local = True

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.rounds: list[list[tuple[str, int]]] = []

        async def together(self, asked: Sequence[Any]) -> list[Any]:
            self.rounds.append(
                [(request.messages[0]["content"], len(samples)) for request, samples in asked]
            )
            return await asyncio.gather(
                *(self.reply(*each) for each in asked), return_exceptions=True
            )

    return Here


class Slow:
    """A lever that takes a random time before and after each answer, and asks the model once
    more.
    """

    name = "slow"

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    async def before(self, request: Any, model: Any) -> Any:
        await asyncio.sleep(self.draw.random() / 200)
        return request, {}

    async def after(self, request: Any, reply: Any, model: Any, notes: Any) -> Any:
        if reply.index == 0:
            await asyncio.sleep(self.draw.random() / 200)
            await model.reply(request, [(9, 0.5)])
        return reply, {}


def rows(path: Path) -> list[dict[str, Any]]:
    return read(path).to_table().to_pylist()


def test_rounds_are_the_same_however_long_rows_take(tmp_path: Path, here: Any) -> None:
    found = []
    for seed in range(3):
        model = here()
        answer_all(
            TABLE,
            tmp_path / f"{seed}.jsonl",
            model=model,
            strategy="hedged3-mbr",
            concurrency=8,
            context=[Slow(seed)],
        )
        found.append(model.rounds)
    assert found[0] == found[1] == found[2]
    assert [len(each) for each in found[0]] == [8, 8, 8, 8, 4, 4]
    assert [size for _, size in found[0][0] + found[0][1]] == [3] * 8 + [1] * 8


def test_a_round_is_kept_whole_and_equal_requests_are_computed_once(
    tmp_path: Path, here: Any
) -> None:
    table, model = pa.table({"prompt": ["a", "a", "b", "c", "a"]}), here()
    answer_all(
        table,
        tmp_path / "o.jsonl",
        model=model,
        strategy="hedged3-mbr",
        concurrency=4,
        store=tmp_path / "s.db",
    )
    assert model.rounds == [[("a", 3), ("b", 3), ("c", 3)]]
    assert [row["candidates"] for row in rows(tmp_path / "o.jsonl")] == [
        ["answer 0", "answer 1", "answer 2"]
    ] * 5
    answer_all(
        table,
        tmp_path / "p.jsonl",
        model=model,
        strategy="hedged5-mbr",
        concurrency=4,
        store=tmp_path / "s.db",
    )
    assert model.rounds[1:] == [[("a", 2), ("b", 2), ("c", 2)]]


def test_panels_judges_and_rows_that_fail_do_not_hold_up_the_others(
    tmp_path: Path, here: Any, fake: Any
) -> None:
    def say(request: Any, index: int, temperature: float) -> str:
        if request.messages[0]["content"].endswith("7"):
            raise ModelError("too long", status=400)
        return f"answer {index}"

    panel, judge = (
        [here(say, name="one"), here(name="two"), fake(name="far")],
        here(lambda *_: "2", name="judge"),
    )
    out = tmp_path / "o.jsonl"
    card = answer_all(
        TABLE, out, model=panel, judge=judge, strategy="hedged6-mbr-judge", concurrency=8
    )
    assert card.details["errors"] == {"too long": 2}
    assert [row["error"] is None for row in rows(out)] == [at not in (7, 17) for at in range(20)]
    assert [len(each) for each in panel[0].rounds] == [8, 8, 4]
    assert [len(each) for each in judge.rounds] == [7 * 15, 8 * 15, 3 * 15]


def test_rows_that_a_server_answers_do_not_wait_for_each_other(tmp_path: Path, fake: Any) -> None:
    class Late(fake):
        async def each(self, request: Any, samples: Any) -> Any:
            while request.messages[0]["content"] == "question 0" and len(self.made) < 19:
                await asyncio.sleep(0.001)
            async for reply in super().each(request, samples):
                yield reply

    model = Late()
    answer_all(TABLE, tmp_path / "o.jsonl", model=model, strategy="greedy", concurrency=4)
    assert model.made[-1][0].messages[0]["content"] == "question 0"
    assert model.most_at_once <= 4


@pytest.mark.parametrize("limit", [100, 640, 1600])
def test_a_budget_ends_within_one_request_and_never_blocks(
    tmp_path: Path, here: Any, limit: int
) -> None:
    model = here()
    options = {
        "model": model,
        "strategy": "hedged5-mbr",
        "concurrency": 8,
        "max_tokens": 5,
        "store": tmp_path / "s.db",
    }
    spent = answer_all(TABLE, tmp_path / "o.jsonl", budget=Budget(tokens=limit), **options).details[
        "spent"
    ]
    assert min(limit, 20 * 35) <= spent["prompt_tokens"] + spent["completion_tokens"] < limit + 15
    answer_all(TABLE, tmp_path / "p.jsonl", **options)
    assert len(model.made) == 100


PROGRAM = """
import os, signal, sys
import pyarrow as pa
from pomona.models.torch import TorchModel
from pomona.sample import answer_all

left, compute = int(sys.argv[2]), TorchModel.together

async def dying(self, asked):
    global left
    found = await compute(self, asked)
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    return found

TorchModel.together = dying
words = ["Save", "Delete the page", "Search", "Log in to your account", "Undo", "All rights reserved"]
table = pa.table({"prompt": [f"<|{lang}|>{word}<|to|>" for lang in ("de", "fr", "ru", "cy") for word in words]})
answer_all(table, sys.argv[1], model="ui-xs", strategy="hedged4-mbr", raw=True, max_tokens=16, concurrency=5)
"""


def _kept(out: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"{out}.answers.db") as file:
        return file.execute(
            "select hex(key), json_remove(reply, '$.spent.seconds') from replies order by key"
        ).fetchall()


def test_killed_and_resumed_all_is_equal_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: Path
) -> None:
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    child = subprocess.run([forked / "python", "-c", PROGRAM, str(killed), "2"], check=False)
    assert child.returncode == -signal.SIGKILL
    assert len(_kept(killed)) == 2 * 5 * 4
    for out in (killed, whole):
        monkeypatch.setattr(sys, "argv", ["", str(out), "1000"])
        exec(compile(PROGRAM, "program", "exec"), {"__name__": "program"})
    assert _kept(killed) == _kept(whole)
    assert rows(killed) == rows(whole)


@pytest.mark.skipif(not smollm2_path().is_file(), reason="smollm2 is not on this machine")
def test_llama_cpp_answers_a_round_one_by_one_and_so_to_the_bit() -> None:
    asked = [
        (Request(prompt=text, max_tokens=8, seed=1, logprobs=0), [(0, 0.0), (1, 0.8), (2, 0.8)])
        for text in ("One two", "Rain is", "")
    ]
    model = load("smollm2", concurrency=4)

    async def rounds() -> tuple[Any, Any]:
        first, again = await model.together(asked), await model.together([asked[1], asked[0]])  # type: ignore[attr-defined]
        await model.close()
        return first, again

    (one, two, error), (two_again, one_again) = wait_for(rounds())
    assert isinstance(error, ModelError)
    for before, after in ((one, one_again), (two, two_again)):
        assert [(reply.text, reply.logprob) for reply in before] == [
            (reply.text, reply.logprob) for reply in after
        ]
