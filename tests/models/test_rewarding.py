"""Reward models over HTTP, from a real server on a loopback port."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.models import ModelError
from pomona.models.http import Judged, RewardModel


def lengths(texts: list[str]) -> list[int]:
    """Of the answers, which are what follows the last "A:"."""
    return [len(text.rsplit("A:")[-1]) for text in texts]


def classified(body: dict[str, Any]) -> tuple[int, Any]:
    """vLLM's /classify, and SGLang's /v1/classify: a conversation, or texts."""
    told = body.get("messages")
    texts = [told[1]["content"]] if told else body["input"]
    data = [
        {"index": at, "label": "LABEL_0", "probs": [float(size)], "num_classes": 1}
        for at, size in enumerate(lengths(texts))
    ]
    usage = {"prompt_tokens": 10 * len(texts), "total_tokens": 10 * len(texts)}
    return 200, {"object": "list", "data": data[::-1], "usage": usage}


def pooled(body: dict[str, Any]) -> tuple[int, Any]:
    """vLLM's /pooling, of a model that rewards each token."""
    roles = [turn["role"] for turn in body["messages"]]
    size = len(body["messages"][1]["content"])
    data = [[0.5]] * 4 + [[float(size)]] if roles == ["user", "assistant"] else []
    return 200, {"data": [{"index": 0, "object": "pooling", "data": data}], "usage": {}}


def scored(body: dict[str, Any]) -> tuple[int, Any]:
    """vLLM's /score."""
    assert body["text_1"] == "why?"
    data = [{"index": at, "score": float(len(text))} for at, text in enumerate(body["text_2"])]
    usage = {"prompt_tokens": 33, "total_tokens": 33, "completion_tokens": 0}
    return 200, {"data": data, "usage": usage}


def native(body: dict[str, Any]) -> tuple[int, Any]:
    """SGLang's /classify: texts alone, answered as a list."""
    if "text" not in body:
        return 400, {"error": {"message": "text, input_ids, and image cannot all be None."}}
    return 200, [
        {"embedding": [float(size)], "meta_info": {"id": "1", "prompt_tokens": 7}}
        for size in lengths(body["text"])
    ]


def odd(body: dict[str, Any]) -> tuple[int, Any]:
    """A model that is none of rewards: two classes."""
    return 200, {"data": [{"index": 0, "probs": [0.4, 0.6]}] * len(body["input"])}


def odder(body: dict[str, Any]) -> tuple[int, Any]:
    """No form at all."""
    shapes: dict[str, Any] = {"a": {"data": [{"index": 0, "probs": ["high"]}]}, "b": {"data": 3}}
    return 200, shapes.get(body["input"][0], {"choices": []})


FORMS = {
    "/vllm/classify": classified,
    "/vllm/pooling": pooled,
    "/vllm/score": scored,
    "/sglang/classify": native,
    "/sglang/rerank": lambda body: (
        200,
        [{"score": len(text), "index": at} for at, text in enumerate(body["documents"])][::-1],
    ),
    "/odd/classify": odd,
    "/odder/classify": odder,
}


class Rewarder(BaseHTTPRequestHandler):
    """Rewards length; fails the first request to /flaky with a 503, answers /short with too few
    scores.
    """

    asked: list[dict[str, Any]]
    failed = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        if self.path == "/flaky" and not type(self).failed:
            type(self).failed = True
            self._send(503, {"error": "busy"})
        elif self.path == "/v1/rerank":
            scores = [
                {"index": at, "relevance_score": len(text)}
                for at, text in enumerate(body["documents"])
            ]
            self._send(200, {"results": sorted(scores, key=lambda row: -row["relevance_score"])})
        elif self.path == "/short":
            self._send(200, {"scores": [1]})
        elif self.path in FORMS:
            self._send(*FORMS[self.path](body))
        else:
            self._send(200, {"scores": [len(text) for text in body["answers"]]})

    def _send(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    Rewarder.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Rewarder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


async def rewards(address: str, prompt: str, answers: list[str]) -> list[float]:
    return (await judge(address, prompt, answers)).scores


async def judge(address: str, prompt: str, answers: list[str], whole: str | None = None) -> Judged:
    model = RewardModel(address, whole=whole)
    try:
        return await model.judge(prompt, answers)
    finally:
        await model.close()


@pytest.mark.parametrize("path", ["/reward", "/v1/rerank", "/flaky"])
def test_every_answer_gets_its_reward(address: str, path: str) -> None:
    assert asyncio.run(rewards(address + path + "#rm", "why?", ["a", "ccc", "bb"])) == [1, 3, 2]
    asked = Rewarder.asked[-1]
    assert asked["model"] == "rm"
    assert asked.get("prompt", asked.get("query")) == "why?"


WHOLE = "Q: {prompt} A:{answer}"


@pytest.mark.parametrize(
    ("path", "whole", "tokens", "requests"),
    [
        ("/vllm/classify", None, 30, 3),
        ("/vllm/classify", WHOLE, 30, 1),
        ("/vllm/pooling", None, None, 3),
        ("/vllm/score", None, 33, 1),
        ("/sglang/classify", WHOLE, 21, 1),
        ("/sglang/rerank", None, None, 1),
    ],
)
def test_servers_are_asked_in_their_own_forms(
    address: str, path: str, whole: str | None, tokens: int | None, requests: int
) -> None:
    before = len(Rewarder.asked)
    judged = asyncio.run(judge(address + path, "why?", ["a", "ccc", "bb"], whole))
    assert judged.scores == [1, 3, 2] and len(Rewarder.asked) == before + requests
    assert judged.estimated == (tokens is None) and judged.tokens == (tokens or judged.tokens) > 0


@pytest.mark.parametrize(
    ("path", "answer", "told"),
    [
        ("/odd/classify", "a", "a reward is one number, not 2"),
        ("/odder/classify", "a", r"data\[0\].probs\[0\] must be a number, not .high"),
        ("/odder/classify", "b", "data must be a list, not 3"),
        ("/odder/classify", "c", 'it has neither "results" nor "data"'),
        ("/sglang/classify", None, "status 400: text, input_ids"),
    ],
)
def test_other_forms_are_errors(address: str, path: str, answer: str | None, told: str) -> None:
    whole = "{answer}" if answer else None
    with pytest.raises(ModelError, match=told):
        asyncio.run(judge(address + path, "why?", [answer or "a"], whole))


def test_templates_of_prompt_and_answer_are_checked(address: str) -> None:
    for whole, told in (("{prompt}", r"has no \{answer\}"), ("{anwser}", "no place for 'anwser'")):
        with pytest.raises(PomonaError, match=told):
            RewardModel(address + "/classify", whole=whole)


def test_answers_without_scores_are_errors(address: str) -> None:
    with pytest.raises(ModelError, match="1 scores for 2 answers"):
        asyncio.run(rewards(address + "/short", "why?", ["a", "b"]))
    with pytest.raises(PomonaError, match="http://host: names no path"):
        asyncio.run(rewards("http://host", "why?", ["a"]))
