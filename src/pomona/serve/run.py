"""From the words of the command line to a server that listens."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from pomona.answers import CachedModel
from pomona.errors import PomonaError
from pomona.models.chat import open_chat
from pomona.models.chat.protocol import ChatModel
from pomona.serve.app import application
from pomona.serve.settings import Settings, check_host

_GRACE = 30
_BACKLOG = 2048


def open_models(
    named: Sequence[str], *, store: str | Path | None = None, **settings: Any
) -> dict[str, ChatModel]:
    """Models from "URI" or "NAME=URI", by the names clients use; `settings` are those of
    `open_chat`.

    With `store` every answer is kept in that file and comes from it when the same is asked again
    with the same seed. A PomonaError when a name is given twice or a model cannot be opened.
    """
    pairs = [_pair(given) for given in named]
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PomonaError(
            f'two models are called "{twice}"',
            where="--model",
            remedy="write NAME=URI with another name",
        )
    models = {name: open_chat(uri, **settings) for name, uri in pairs}
    return (
        {name: CachedModel(model, store) for name, model in models.items()}
        if store is not None
        else models
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to the address; port 0 takes a free one. A PomonaError when that is
    impossible.
    """
    if not 0 <= port <= 65535:
        raise PomonaError(
            f"cannot listen: there is no port {port}",
            where=host,
            remedy="use one from 1 to 65535, or 0 for a free one",
        )
    address = host.strip("[]")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
        except BaseException:
            bound.close()
            raise
        return bound
    except OSError as error:
        raise PomonaError(
            f"cannot listen: {error}",
            where=f"{host}:{port}",
            remedy="use another port, or 0 for a free one",
        ) from error


def run(models: Mapping[str, ChatModel], settings: Settings, bound: socket.socket) -> None:
    """Serve until the process is told to stop; requests under way may then take 30 seconds to
    end.
    """
    check_host(str(bound.getsockname()[0]), settings)
    config = uvicorn.Config(
        application(models, settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_GRACE,
        limit_concurrency=None,
    )
    with suppress(KeyboardInterrupt):  # the usual way to end it
        uvicorn.Server(config).run(sockets=[bound])


def _pair(given: str) -> tuple[str, str]:
    """Name and URI; an address may hold a = of its own, so a name ends before the first one."""
    name, equals, uri = given.partition("=")
    if equals and name and not {"/", ":"} & set(name):
        if not uri:
            raise PomonaError(f'"{given}" names no model', where="--model", remedy="write NAME=URI")
        return name, uri
    return (
        (given.rpartition("#")[2] or given, given)
        if given.startswith(("http:", "https:"))
        else (given, given)
    )
