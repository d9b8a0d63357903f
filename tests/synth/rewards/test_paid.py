"""Rewards that cost something: a third model's likelihood, and a server's reward model."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pomona.answers import Budget
from pomona.errors import PomonaError
from pomona.models import RetryPolicy, Spent, load
from pomona.synth.rewards import HttpReward, Likelihood, reward_from
from pomona.synth.teachers import Assignment, Candidate, Lesson

PROMPT = "<|{lang}|>{text}<|to|>"


def candidate(row: str, teacher: str, text: str, source: str = "Save") -> Candidate:
    return Candidate(Assignment(row, source, "en", "de"), Lesson(row, text, teacher, None))


ROWS = [
    candidate("1", "a", "Speichern"),
    candidate("2", "a", "Datei öffnen", "Open file"),
    candidate("1", "b", "Öffnen"),
    candidate("1", "c", "Speichern"),
]


def test_the_likelihood_under_a_third_model_is_paid_once(tmp_path: Path) -> None:
    model: Any = load("ui-xs")
    store = tmp_path / "rewards.db"
    reward = Likelihood(model, PROMPT, store=store, raw=True)
    scores = reward.score(ROWS)
    logs = model.score(["<|de|>Save<|to|>"], ["Speichern"], end=True)[0]
    assert scores[0] == pytest.approx(float(np.mean(logs)), abs=2e-5)
    assert scores[0] == scores[3] > scores[2]
    usage = reward.usage
    assert usage.fresh == 3 and usage.flops and usage.completion_tokens > 6 and usage.money is None
    reward.close()

    # What is likely without the text, too, counts less; it costs twice as much.
    above = Likelihood(model, PROMPT, against="<|{lang}|><|to|>", raw=True)
    alone = model.score(["<|de|><|to|>"], ["Speichern"], end=True)[0]
    expected = float(np.mean(logs) - np.mean(alone))
    assert above.score(ROWS[:1])[0] == pytest.approx(expected, abs=3e-5)
    assert above.usage.completion_tokens == 2 * len(logs)

    # What is there is neither computed nor paid for again, and what it cost is known.
    model.score = None
    again = Likelihood(model, PROMPT, store=store, raw=True)
    np.testing.assert_array_equal(again.score(ROWS), scores)
    assert again.usage.fresh == 0 and again.usage.flops == usage.flops
    again.close()


class Scorer:
    """A model that scores by length, and nothing longer than 20 characters."""

    name = identity = "scorer"
    abilities = frozenset({"score"})

    def score(self, prompts: Sequence[str], texts: Sequence[str], *, end: bool) -> list[Any]:
        if max(map(len, texts)) > 20:
            raise PomonaError("is too long", where="scorer")
        return [np.full(2, -float(len(text)), np.float32) for text in texts]

    def count_tokens(self, prompts: Sequence[str]) -> Any:
        return np.array([len(prompt) for prompt in prompts])

    def cost(self, prompt: int, answer: int) -> Any:
        return Spent(prompt, answer)


def test_an_answer_that_is_too_long_is_a_failure_of_its_own(fake: Any) -> None:
    scorer: Any = Scorer()
    reward = Likelihood(scorer, PROMPT)
    scores = reward.score([*ROWS[:2], candidate("3", "a", "x" * 30)])
    np.testing.assert_array_equal(scores, [-9, -12, np.nan])
    assert reward.failures == {("3", "a", 0): "scorer: is too long"}
    assert reward.usage.flops is None
    with pytest.raises(PomonaError, match="score with torch"):
        Likelihood(fake(), PROMPT).score(ROWS)
    with pytest.raises(PomonaError, match="no place for 'lnag'"):
        Likelihood(scorer, "{lnag}{text}")


@dataclass
class Judge:
    """A server that rewards length. An act of `acts` is a status, or seconds that it asks to wait."""

    acts: list[Any] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append(body)
        self.times.append(time.monotonic())
        act = self.acts.pop(0) if self.acts else 200
        if isinstance(act, float):
            return JSONResponse({"error": "busy"}, 429, {"retry-after": str(act)})
        if act != 200 or "poison" in str(body):
            return JSONResponse({"error": "no"}, 422 if act == 200 else act)
        return JSONResponse({"scores": [len(text) for text in body["answers"]]})


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    judge = Judge()
    app = Starlette(routes=[Route("/reward", judge.answer, methods=["POST"])])
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    judge.url = f"http://127.0.0.1:{listening.getsockname()[1]}/reward#rm"
    settings = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield judge
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture
def fresh(judge: Judge) -> Judge:
    judge.acts, judge.seen, judge.times = [], [], []
    return judge


QUICK = RetryPolicy(attempts=2, first=0.01, longest=0.02)


def test_a_servers_rewards_come_row_by_row_and_are_paid_once(tmp_path: Path, fresh: Judge) -> None:
    store = tmp_path / "rewards.db"
    spec = {"http": {"url": fresh.url, "prompt": "to {lang}: {text}"}}
    scores = reward_from(spec, store=store).score(ROWS)
    np.testing.assert_array_equal(scores, [9, 12, 6, 9])
    told = {body["prompt"]: body["answers"] for body in fresh.seen}
    assert told == {"to de: Save": ["Speichern", "Öffnen"], "to de: Open file": ["Datei öffnen"]}
    assert fresh.seen[0]["model"] == "rm"
    again = reward_from(spec, store=store)
    np.testing.assert_array_equal(again.score(ROWS), scores)
    assert len(fresh.seen) == 2 and again.usage.fresh == 0 and again.usage.money is None


def test_a_server_that_asks_to_wait_is_obeyed(fresh: Judge) -> None:
    fresh.acts = [0.2]
    scores = HttpReward(fresh.url, policy=QUICK).score(ROWS[:1])
    assert list(scores) == [9] and fresh.times[1] - fresh.times[0] >= 0.2


def test_a_row_that_fails_is_a_failure_of_its_own(fresh: Judge) -> None:
    reward = HttpReward(fresh.url, policy=QUICK)
    rows = [*ROWS, candidate("3", "a", "x", "poison")]
    np.testing.assert_array_equal(reward.score(rows), [9, 12, 6, 9, np.nan])
    assert list(reward.failures) == [("3", "a", 0)]
    assert "refused with status 422: no" in reward.failures["3", "a", 0]


def test_a_server_that_is_down_is_not_asked_for_ever(fresh: Judge) -> None:
    fresh.acts = [500] * 99
    reward = HttpReward(fresh.url, policy=QUICK, concurrency=1)
    rows = [candidate(str(at), "a", "x", f"text {at}") for at in range(9)]
    assert np.isnan(reward.score(rows)).all() and len(fresh.seen) == 10
    assert reward.failures["8", "a", 0].startswith(
        "not asked: 5 requests in a row failed, the last"
    )
    fresh.acts = []
    assert not np.isnan(reward.score(rows)).any() and reward.failures == {}


def test_a_servers_rewards_keep_to_a_budget(fresh: Judge) -> None:
    left: list[tuple[Budget | None, str | None]] = [(Budget(tokens=20), None), (None, "money")]
    reward = HttpReward(fresh.url, policy=QUICK, price=2, left=lambda: left.pop(0))
    rows = [candidate(str(at), "a", f"{at}" * 30) for at in range(9)]
    scores = reward.score(rows)
    usage = reward.usage
    each = usage.prompt_tokens // len(fresh.seen)
    assert usage.estimated and usage.money == pytest.approx(2 * usage.prompt_tokens / 1e6)
    assert 20 <= usage.prompt_tokens < 20 + each and reward.met == "tokens"
    assert np.isnan(scores).sum() == 9 - len(fresh.seen)
    assert set(reward.failures.values()) == {"the budget of tokens is spent"}
    # What was there is not judged again, and nothing beyond another limit.
    again = reward.score(rows)
    np.testing.assert_array_equal(again, scores)
    assert set(reward.failures.values()) == {"the budget of money is spent"}
