"""The server as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pomona.models.chat.protocol import ChatModel
from pomona.serve import routes
from pomona.serve.call import Call, Desk, Endpoint
from pomona.serve.errors import ApiError
from pomona.serve.metrics import Gate
from pomona.serve.page import page, schema
from pomona.serve.served import Models
from pomona.serve.settings import Settings


def application(models: Mapping[str, ChatModel], settings: Settings | None = None) -> Starlette:
    """The OpenAI-compatible application over `models`, by the names clients use. It closes them
    when it ends.

    Every failure is an error object with its status: 4xx for the client's, 502 and 504 for a
    model's, 429 when all places are taken. A PomonaError when there is no model, or the feedback
    file cannot be opened.
    """
    settings = settings or Settings()
    memory = None
    if settings.feedback is not None:
        from pomona.sample.context import Feedback

        memory = Feedback(settings.feedback)
    desk = Desk(settings, Models(models), Gate(settings.queue), feedback=memory)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.gather(
            *(model.close() for model in desk.models.models), return_exceptions=True
        )
        if memory is not None:
            memory.close()

    handlers: Mapping[Any, Any] = {HTTPException: _refused}
    return Starlette(routes=_routes(desk), exception_handlers=handlers, lifespan=lifespan)


def _routes(desk: Desk) -> list[Route]:
    def route(path: str, work: Any, method: str = "GET", **how: bool) -> Route:
        return Route(path, endpoint(path, work, **how), methods=[method])

    def endpoint(path: str, work: Any, **how: bool) -> Endpoint:
        return Endpoint(desk, path.partition("{")[0].rstrip("/") or "/", work, **how)

    said = _ByMethod(
        POST=endpoint("/v1/feedback", routes.feedback),
        DELETE=endpoint("/v1/feedback", routes.forget),
    )
    return [
        route("/v1/chat/completions", routes.chat, "POST", limited=True),
        route("/v1/completions", routes.completions, "POST", limited=True),
        route("/v1/embeddings", routes.embed, "POST", limited=True),
        route("/v1/models", routes.models),
        route("/v1/models/{name:path}", routes.model),
        Route("/v1/feedback", said, methods=["POST", "DELETE"]),
        route("/metrics", routes.metrics),
        route("/healthz", routes.health, key=False),
        route("/openapi.json", _schema, key=False),
        route("/", _page, key=False),
    ]


class _ByMethod:
    """One path, one endpoint for each method."""

    def __init__(self, **endpoints: Endpoint) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        await self._endpoints[scope["method"]](scope, receive, send)


async def _schema(call: Call) -> None:
    await call.reply(schema())


async def _page(call: Call) -> None:
    text, policy = page()
    headers = {
        "content-security-policy": (
            f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
    }
    await call.reply(text, kind="text/html; charset=utf-8", headers=headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    about = {
        404: ("there is nothing at this address", "not_found"),
        405: ("this address does not take this method", "method_not_allowed"),
    }
    message, code = about.get(error.status_code, (HTTPStatus(error.status_code).phrase, None))
    return JSONResponse(
        ApiError(error.status_code, message, code=code).body,
        error.status_code,
        headers=error.headers,
    )
