"""Real servers on free loopback ports: ours, and one behind it that does what a test wants."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pomona.memory import open_memory
from pomona.models import Model, RetryPolicy
from pomona.models.http import HttpModel
from pomona.serve import ServeSettings, application

WORDS = ("one ", "two ", "three ", "four")
QUICK = RetryPolicy(attempts=2, first=0.01, longest=0.02)


@dataclass
class Upstream:
    """`acts` are used up one a request, then every request is answered well. `left` counts clients
    that went before the end.
    """

    port: int = 0
    acts: list[dict[str, Any]] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def model(self, name: str = "fake", **settings: Any) -> HttpModel:
        return HttpModel(
            f"http://127.0.0.1:{self.port}/v1#{name}",
            **{"policy": QUICK, "concurrency": 64, **settings},
        )

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append(body)
        act = self.acts.pop(0) if self.acts else {}
        try:
            await asyncio.wait_for(_left(request), act.get("delay", 0.0))
            self.left += 1
            self.ended.set()
        except TimeoutError:
            pass
        if "status" in act:
            return JSONResponse(
                {"error": {"message": act.get("message", "no"), "code": act.get("code")}},
                act["status"],
                act.get("headers"),
            )
        if body.get("stream"):
            return StreamingResponse(
                self.events(act, body.get("n", 1)), media_type="text/event-stream"
            )
        if "input" in body:
            rows = [{"index": at, "embedding": [3.0, 4.0]} for at in range(len(body["input"]))]
            return JSONResponse({"data": rows, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        key = "message" if "messages" in body else "text"
        made = act.get("texts") or [
            act.get("text", f"answer {at}") for at in range(body.get("n", 1))
        ]
        choices: list[dict[str, Any]] = [
            {
                "index": at,
                "finish_reason": act.get("finish", "stop"),
                key: {"role": "assistant", "content": text, **act.get("message", {})}
                if key == "message"
                else text,
            }
            for at, text in enumerate(made)
        ]
        return JSONResponse(
            {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 5 * len(made)}}
        )

    async def events(self, act: Mapping[str, Any], n: int) -> AsyncIterator[str]:
        try:
            for at, word in enumerate(act.get("words", WORDS)):
                if at == act.get("cut"):
                    return
                logs = (
                    {"content": [{"token": word, "logprob": -0.5, "bytes": list(word.encode())}]}
                    if act.get("logprobs")
                    else None
                )
                for index in range(n):
                    yield _event(
                        {
                            "choices": [
                                {
                                    "index": index,
                                    "delta": {"content": word},
                                    "text": word,
                                    "logprobs": logs,
                                }
                            ]
                        }
                    )
                await asyncio.sleep(act.get("pause", 0.0))
            for delta in act.get("deltas", ()):
                yield _event({"choices": [{"index": 0, "delta": delta}]})
            for index in range(n):
                yield _event(
                    {
                        "choices": [
                            {
                                "index": index,
                                "delta": {},
                                "finish_reason": act.get("finish", "stop"),
                            }
                        ]
                    }
                )
            yield _event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4}})
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise
        finally:
            self.ended.set()


def _event(value: object) -> str:
    return f"data: {json.dumps(value)}\n\n"


async def _left(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.005)


class Running:
    """An ASGI application served by uvicorn in a thread."""

    def __init__(self, app: Any, port: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", port or 0))
        self.port: int = self.socket.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=2)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()


class House(Running):
    """Our server, and a client of it."""

    def __init__(self, models: Mapping[str, Model], settings: ServeSettings) -> None:
        super().__init__(application(models, settings))
        self.client = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def openai(self, key: str = "none") -> openai.OpenAI:
        """The official client of this server."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def chat(self, **body: Any) -> httpx.Response:
        """POST /v1/chat/completions with one message, for the model `fake` unless told
        otherwise.
        """
        given = {
            "model": "fake",
            "messages": [{"role": "user", "content": "Say something."}],
            **body,
        }
        return self.client.post("/v1/chat/completions", json=given)

    def stop(self) -> None:
        self.client.close()
        super().stop()


Open = Callable[..., House]


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    running = Running(
        Starlette(routes=[Route("/v1/{path:path}", upstream.answer, methods=["POST"])])
    )
    upstream.port = running.port
    yield upstream
    running.stop()


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """The server behind ours, as new."""
    _upstream.acts, _upstream.seen, _upstream.left = [], [], 0
    _upstream.ended.clear()
    return _upstream


@pytest.fixture
def open_house() -> Iterator[Open]:
    """`open_house(models, queue=2)`: a server over the models, with these settings."""
    houses: list[House] = []

    def opened(models: Mapping[str, Model], **settings: Any) -> House:
        houses.append(House(models, ServeSettings(**settings)))
        return houses[-1]

    yield opened
    for house in houses:
        house.stop()


@pytest.fixture(scope="session")
def _house(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    memory = open_memory(file=folder / "rows.sqlite")
    settings = ServeSettings(feedback=folder / "feedback.sqlite", memory=memory)
    house = House({"fake": _upstream.model()}, settings)
    yield house
    house.stop()


@pytest.fixture
def house(_house: House, upstream: Upstream) -> House:
    """A server over the model `fake` behind `upstream`; it has counted the requests of other
    tests.
    """
    return _house


@pytest.fixture
def new_house(upstream: Upstream, open_house: Open) -> House:
    """The same, but as new."""
    return open_house({"fake": upstream.model()})


@pytest.fixture
def tiny() -> Model:
    """The smallest embedded checkpoint. The server that serves it closes it."""
    from pomona.models import load

    return load("ui-xs")
