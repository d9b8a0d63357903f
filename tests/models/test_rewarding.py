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
from pomona.models.http import RewardModel


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
    model = RewardModel(address)
    try:
        return await model.scores(prompt, answers)
    finally:
        await model.close()


@pytest.mark.parametrize("path", ["/reward", "/v1/rerank", "/flaky"])
def test_every_answer_gets_its_reward(address: str, path: str) -> None:
    assert asyncio.run(rewards(address + path + "#rm", "why?", ["a", "ccc", "bb"])) == [1, 3, 2]
    asked = Rewarder.asked[-1]
    assert asked["model"] == "rm"
    assert asked.get("prompt", asked.get("query")) == "why?"


def test_answers_without_scores_are_errors(address: str) -> None:
    with pytest.raises(ModelError, match="1 scores for 2 answers"):
        asyncio.run(rewards(address + "/short", "why?", ["a", "b"]))
    with pytest.raises(PomonaError, match="http://host: names no path"):
        asyncio.run(rewards("http://host", "why?", ["a"]))
