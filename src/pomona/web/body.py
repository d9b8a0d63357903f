"""From the bytes of a request to a JSON object, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.web.errors import ApiError, ClientGone

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_READING = 30.0
_LONG = 1 << 16  # bytes
_MOST = 64_000_000  # bytes of all bodies that are coming


class Bodies:
    """The bodies that one server is about to read: `limit` bytes each, `most` bytes together.

    Where they get more, those that have been coming for the longest are given up, since who sends
    slowly must not keep out who sends at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.most = limit, max(_MOST, 4 * limit)
        self._size, self._coming = 0, dict[asyncio.Timeout, int]()

    async def read(self, receive: Receive) -> bytes:
        """A whole body. ApiError 408 or 413; ClientGone when the client leaves before its end."""
        try:
            async with asyncio.timeout(_READING) as time:
                self._coming[time] = 0
                try:
                    return await self._read(receive, time)
                finally:
                    self._size -= self._coming.pop(time, 0)
        except TimeoutError as error:
            message = f"the body did not arrive within {_READING:g} s, or before too many others"
            raise ApiError(408, message, code="timeout") from error

    async def _read(self, receive: Receive, time: asyncio.Timeout) -> bytes:
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            if time in self._coming:
                self._grow(time, len(parts[-1]))
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _grow(self, time: asyncio.Timeout, size: int) -> None:
        self._coming[time] += size
        self._size += size
        if self._coming[time] > self.limit:
            raise _too_large(self.limit)
        for other in list(self._coming):
            if self._size <= self.most:
                break
            if other is not time:
                self._size -= self._coming.pop(other)
                other.reschedule(0)  # it ends with the next step of the event loop


async def read_json(
    receive: Receive, headers: Mapping[bytes, bytes], bodies: Bodies
) -> dict[str, Any]:
    """The JSON object in the body. ApiError 408, 413, 415 or 400; ClientGone when the client leaves
    before its end.

    Only JSON is taken: a page elsewhere can send forms to this machine without asking, but not
    JSON.
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise ApiError(
            415,
            "the body must be JSON — send the header Content-Type: application/json",
            code="unsupported_media_type",
        )
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > bodies.limit:
        raise _too_large(bodies.limit)
    raw = await bodies.read(receive)
    # What takes long to read is read while others go on.
    return await asyncio.to_thread(parse, raw) if len(raw) > _LONG else parse(raw)


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object that `raw` is: UTF-8, finite numbers, whole characters. ApiError 400 for
    anything else.
    """
    try:
        value = parse_json(raw, "the body", top=None, wrong="is not valid JSON")
    except PomonaError as error:
        raise ApiError(400, f"the body {error.message}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body is not a JSON object", code="invalid_json")
    return value


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit:,} bytes", code="request_too_large")
