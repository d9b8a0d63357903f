"""Sockets and the servers on them: one that the process is, or one beside its other work."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from pomona.errors import PomonaError

_GRACE = 30
_BACKLOG = 2048
_HEAD = 20.0  # seconds until the head of a request has come
_MOST_HEAD = 1 << 16  # bytes of it
_TURNED_AWAY = "HTTP/1.1 {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listening(
    host: str, port: int, remedy: str = "use another port, or 0 for a free one"
) -> socket.socket:
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
        raise PomonaError(f"cannot listen: {error}", where=f"{host}:{port}", remedy=remedy) from (
            error
        )


def page_headers(policy: str) -> dict[str, str]:
    """The headers of a page: what it may do, and that no other page may hold or read it."""
    return {
        "content-security-policy": f"{policy}; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
    }


def run_server(app: Any, bound: socket.socket) -> None:
    """Serve until the process is told to stop; requests under way may then take 30 seconds to
    end.
    """
    with suppress(KeyboardInterrupt):  # the usual way to end it
        _server(app).run(sockets=[bound])


class BackgroundServer:
    """An application served by a thread of this process until `close`."""

    def __init__(self, app: Any, bound: socket.socket) -> None:
        self._bound, self._server = bound, _server(app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [bound]}, daemon=True
        )
        self.port: int = bound.getsockname()[1]
        self._thread.start()
        # uvicorn tells of its start by a flag alone; a client that comes earlier is turned away.
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)

    def wait(self) -> None:
        """Serve until `close` is called elsewhere or the process is interrupted."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def close(self) -> None:
        """Stop serving; requests under way end first."""
        self._server.should_exit = True
        self._thread.join()
        self._bound.close()


_Uvicorns: Any = AutoHTTPProtocol  # of httptools or h11, whichever there is


class _Protocol(_Uvicorns):
    """uvicorn's own, which waits for ever for the end of a request's head and takes one of any
    size: a client that does not end it within `_HEAD` seconds or `_MOST_HEAD` bytes is turned away
    with status 408 or 431.
    """

    _waiting: asyncio.TimerHandle | None = None
    _received = 0
    _body = False  # whether that of a request is still coming, which may be answered already

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        of_a_head = not self._body
        super().data_received(data)
        self._received += len(data) if of_a_head else 0
        self._look()

    def on_headers_complete(self) -> None:  # of httptools alone, as the next
        super().on_headers_complete()
        self._body = True

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body, self._received = False, 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # uvicorn closes idle connections by itself; it stops to when a byte of the next head comes.
        self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Wait for a head where none is whole, from the first time that this is so."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._received = 0
            self._stop()
        elif self._received > _MOST_HEAD:
            self._turn_away("431 Request Header Fields Too Large")
        elif self._waiting is None:
            self._waiting = self.loop.call_later(_HEAD, self._turn_away, "408 Request Timeout")

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _turn_away(self, status: str) -> None:
        self._stop()
        if not self.transport.is_closing():
            # Where an answer was given and no head has begun, it would be taken for the next one's.
            if not self._body and (self.cycle is None or self._received):
                self.transport.write(_TURNED_AWAY.format(status).encode())
            self.transport.close()


def _server(app: Any) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_Protocol,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_GRACE,
            limit_concurrency=None,
        )
    )
