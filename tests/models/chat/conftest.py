"""A real server on a free loopback port that does what a test wants: answer, refuse, lie, cut
streams, hang.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = ("one", "two", "three", "four")


@dataclass
class Fake:
    """`acts` are used up one a request, then every request is answered well. An act is a dict: see
    `_answer`.
    """

    port: int = 0
    acts: list[dict[str, Any]] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1#fake"


async def _answer(fake: Fake, request: Request) -> Response:
    fake.at_once += 1
    fake.most_at_once = max(fake.most_at_once, fake.at_once)
    try:
        body = await request.json()
        fake.seen.append(body)
        fake.headers.append(dict(request.headers))
        fake.times.append(time.monotonic())
        act = fake.acts.pop(0) if fake.acts else {}
        await asyncio.sleep(act.get("delay", 0.0))
        if "status" in act:
            error = {"error": {"message": act.get("message", "no"), "code": act.get("code")}}
            return JSONResponse(error, act["status"], headers=act.get("headers"))
        if "raw" in act:
            return Response(act["raw"], media_type="application/json")
        if body.get("stream"):
            return StreamingResponse(_events(act), media_type="text/event-stream")
        if "input" in body:
            rows = [{"index": at, "embedding": [3.0, 4.0 * at]} for at in range(len(body["input"]))]
            return JSONResponse(
                {"data": rows[::-1], **({"usage": act["usage"]} if "usage" in act else {})}
            )
        return JSONResponse(_whole(body, act))
    finally:
        fake.at_once -= 1


def _whole(body: Mapping[str, Any], act: Mapping[str, Any]) -> dict[str, Any]:
    n = min(body.get("n", 1), act.get("most", 99))
    texts = act.get("texts") or [f"{body.get('seed')}-{at}" for at in range(n)]
    choices = [
        {"index": at, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for at, text in enumerate(texts)
    ]
    usage = act.get("usage", {"prompt_tokens": 7, "completion_tokens": 5 * n})
    return {"choices": choices, "usage": usage} if usage else {"choices": choices}


async def _events(act: Mapping[str, Any]) -> Any:
    words = act.get("words", WORDS)
    for at, word in enumerate(words):
        if at == act.get("cut"):
            return
        for index in range(act.get("streams", 1)):
            yield f"data: {json.dumps({'choices': [{'index': index, 'delta': {'content': word + ' '}}]})}\n\n"
    for index in range(act.get("streams", 1)):
        yield f"data: {json.dumps({'choices': [{'index': index, 'delta': {}, 'finish_reason': 'length'}]})}\n\n"
    yield f"data: {json.dumps({'choices': [], 'usage': {'prompt_tokens': 7, 'completion_tokens': 4}})}\n\n"
    yield "data: [DONE]\n\n"


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()

    async def handler(request: Request) -> Response:
        return await _answer(fake, request)

    app = Starlette(routes=[Route("/v1/{path:path}", handler, methods=["POST"])])
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    fake.port = listening.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield fake
    server.should_exit = True
    thread.join()
    listening.close()
