"""The server: models by the names clients use, the ASGI application over them, and the page to try
prompts on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pomona.answers import CachedModel
from pomona.errors import PomonaError, nearest
from pomona.markers import Trained, find_trained, read_trained
from pomona.models import Model, load
from pomona.pages import Page, render
from pomona.sample.context import Feedback
from pomona.serve import routes
from pomona.serve.access import AccessLog
from pomona.serve.call import FEEDBACK, MEMORY, AppState, Call, Endpoint
from pomona.serve.metrics import Gate
from pomona.serve.served import ServedModels
from pomona.serve.settings import ServeSettings, check_host
from pomona.web import ApiError, page_headers, run_server


def open_models(
    named: Sequence[str], *, store: str | Path | None = None, **settings: Any
) -> dict[str, Model]:
    """Models from "URI" or "NAME=URI", by the names clients use; `settings` are those of
    `pomona.models.load`.

    With `store` every answer is kept in that file and comes from it when the same is asked again
    with the same seed. A PomonaError when a name is given twice or a model cannot be opened.
    """
    pairs = [_pair(given) for given in named]
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        remedy = "write NAME=URI with another name"
        raise PomonaError(f'two models are called "{twice}"', where="--model", remedy=remedy)
    models: dict[str, Model] = {name: load(uri, **settings) for name, uri in pairs}
    if store is None:
        return models
    return {name: CachedModel(model, store) for name, model in models.items()}


def open_markers(named: Sequence[str], files: Sequence[str] = ()) -> dict[str, Trained]:
    """What models from "URI" or "NAME=URI" were trained with, by the names clients use: what is in
    their folders, or in `files`, "FILE" or "NAME=FILE". A PomonaError when a file is damaged, or
    names no model.
    """
    models = dict(map(_pair, named))
    given: dict[str, str] = {}
    for file in files:
        name, equals, path = file.partition("=")
        if not equals:
            name, path = next(iter(models)), file
            if len(models) > 1:
                remedy = "write NAME=FILE"
                raise PomonaError("does not say of which model", where=file, remedy=remedy)
        if name not in models:
            remedy = nearest(name, models)
            raise PomonaError(f'no model "{name}"', where="--markers-from", remedy=remedy)
        given[name] = path
    found = {name: find_trained(uri) for name, uri in models.items() if name not in given}
    found |= {name: read_trained(path) for name, path in given.items()}
    return {name: one for name, one in found.items() if one is not None}


def application(models: Mapping[str, Model], settings: ServeSettings | None = None) -> Starlette:
    """The OpenAI-compatible application over `models`, by the names clients use. It closes them
    when it ends.

    Every failure is an error object with its status: 4xx for the client's, 502 and 504 for a
    model's, 429 when all places are taken, 503 while another program holds a file that is needed. A
    PomonaError when there is no model, or the feedback file cannot be opened.
    """
    settings = settings or ServeSettings()
    memory = None if settings.feedback is None else Feedback(settings.feedback)
    lenient = settings.unknown_fields == "ignore"
    served = ServedModels(models, settings.markers, lenient=lenient)
    gates = {name: Gate(settings.queue) for name in (*served.names, FEEDBACK, MEMORY)}
    log = None if settings.access_log is None else AccessLog(settings.access_log)
    state = AppState(settings, served, gates, feedback=memory, log=log)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        closing = (model.close() for model in state.models.models)
        await asyncio.gather(*closing, return_exceptions=True)
        for file in (memory, settings.memory and settings.memory.kept, log):
            if file is not None:
                await asyncio.to_thread(file.close)

    handlers: Mapping[Any, Any] = {HTTPException: _refused}
    return Starlette(
        routes=_routes(state),
        exception_handlers=handlers,
        lifespan=lifespan,
        middleware=_cors(settings.cors),
    )


def _cors(origins: Sequence[str]) -> list[Middleware]:
    """What lets pages of these origins ask, from a browser."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    ]


def run(models: Mapping[str, Model], settings: ServeSettings, bound: socket.socket) -> None:
    """Serve until the process is told to stop; requests under way may then take 30 seconds to
    end.
    """
    check_host(str(bound.getsockname()[0]), settings)
    run_server(application(models, settings), bound)


def _routes(state: AppState) -> list[Route]:
    def route(path: str, work: Any, *methods: str, **how: bool) -> Route:
        endpoint = Endpoint(state, path.partition("{")[0].rstrip("/") or "/", work, **how)
        return Route(path, endpoint, methods=methods or ["GET"])

    return [
        route("/v1/chat/completions", routes.chat, "POST"),
        route("/v1/completions", routes.completions, "POST"),
        route("/v1/responses", routes.responses, "POST"),
        route("/v1/embeddings", routes.embed, "POST"),
        route("/v1/models", routes.models),
        route("/v1/models/{name:path}", routes.model),
        route("/v1/feedback", routes.feedback, "POST", "DELETE"),
        route("/v1/memory", routes.remember, "POST"),
        route("/v1/memory/{row}", routes.forget_row, "DELETE"),
        route("/metrics", routes.metrics),
        route("/healthz", routes.health, key=False),
        route("/openapi.json", _schema, key=False),
        route("/", _page, key=False),
    ]


async def _schema(call: Call) -> None:
    await call.reply(_own("openapi.json").encode())


async def _page(call: Call) -> None:
    shown, kind = await asyncio.to_thread(_rendered), "text/html; charset=utf-8"
    await call.reply(shown.text.encode(), kind=kind, headers=page_headers(shown.policy))


@cache
def _rendered() -> Page:
    """The page runs its own script only, and asks its own server only."""
    return render("pomona.serve", "page.html.j2", scripts=[_own("page.js")], talks=True)


@cache
def _own(name: str) -> str:
    return files("pomona.serve").joinpath(name).read_text(encoding="utf-8")


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    about = {
        404: ("there is nothing at this address", "not_found"),
        405: ("this address does not take this method", "method_not_allowed"),
    }
    message, code = about.get(error.status_code, (HTTPStatus(error.status_code).phrase, None))
    body = ApiError(error.status_code, message, code=code).body
    return JSONResponse(body, error.status_code, headers=error.headers)


def _pair(given: str) -> tuple[str, str]:
    """Name and URI; an address may hold a = of its own, so a name ends before the first one."""
    name, equals, uri = given.partition("=")
    if equals and name and not {"/", ":"} & set(name):
        if not uri:
            raise PomonaError(f'"{given}" names no model', where="--model", remedy="write NAME=URI")
        return name, uri
    after = given.rpartition("#")[2] if given.startswith(("http:", "https:")) else given
    return after or given, given
