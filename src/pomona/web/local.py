"""A page on this machine for one person: its address holds a token, and only who has that may ask
what the page asks.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pomona.errors import PomonaError
from pomona.pages import Page
from pomona.web.body import Bodies, read_json
from pomona.web.errors import ApiError
from pomona.web.server import page_headers

_LIMIT = 4096
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'"


class LocalApp:
    """The page at /, and what it asks: `gets` by their paths, and `posts`, which take the JSON
    object of the request. Both run in threads of their own, and what they return is the answer.

    `hosts` are the names, with the port, under which it may be asked; `token` has to come in the
    header X-Pomona-Token. A PomonaError is told with status 400, an ApiError with its own.
    """

    def __init__(
        self,
        page: Page,
        gets: Mapping[str, Callable[[], Any]],
        posts: Mapping[str, Callable[[dict[str, Any]], Any]],
    ) -> None:
        self._page, self._gets, self._posts = page, gets, posts
        self._bodies = Bodies(_LIMIT)
        self.token, self.hosts = secrets.token_urlsafe(24), set[str]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # uvicorn goes on without the application's own start and end
            raise RuntimeError("only HTTP is spoken here")
        request = Request(scope, receive)
        try:
            response = await self._answered(request)
        except ApiError as error:
            response = _json({"error": error.message}, error.status)
        except PomonaError as error:
            response = _json({"error": str(error)}, 400)
        shown = request.scope["path"] == "/" and response.status_code == 200
        response.headers.update(page_headers(self._page.policy if shown else _NOTHING))
        response.headers.update({"x-content-type-options": "nosniff", "cache-control": "no-store"})
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        self._check_place(request)
        if request.method not in {"GET", "POST"}:
            raise ApiError(501, "there is nothing here for this method")
        path = request.scope["path"]
        known = {"/", *self._gets} if request.method == "GET" else self._posts
        if path not in known or request.scope["query_string"]:
            raise ApiError(404, "there is nothing here")
        if path == "/":
            return Response(self._page.text, media_type="text/html")
        self._check_token(request)
        if request.method == "GET":
            return _json(await asyncio.to_thread(self._gets[path]))
        try:
            body = await read_json(request.receive, dict(request.headers.raw), self._bodies)
        except ApiError as error:
            raise ApiError(400, error.message) from error
        return _json(await asyncio.to_thread(self._posts[path], body))

    def _check_place(self, request: Request) -> None:
        """Another name for this address, or another page as the origin, is somebody who rebound
        their own name to it, or makes this browser ask.
        """
        host, origin = request.headers.get("host", "").lower(), request.headers.get("origin")
        ours = origin is None or origin.removeprefix("http://") in self.hosts
        if host not in self.hosts or not ours:
            raise ApiError(403, "open the address that was printed")

    def _check_token(self, request: Request) -> None:
        given = request.headers.get("x-pomona-token", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self.token.encode()):
            raise ApiError(
                403, "the token is missing or of another server: open the address that was printed"
            )


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, media_type="application/json")
