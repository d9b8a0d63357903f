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


async def read_json(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> dict[str, Any]:
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
    if length.isdigit() and int(length[:20]) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(_READING):
            raw = await _read(receive, limit)
    except TimeoutError as error:
        raise ApiError(
            408, f"the body did not arrive within {_READING:g} s", code="timeout"
        ) from error
    # What takes long to read is read while others go on.
    return await asyncio.to_thread(parse, raw) if len(raw) > _LONG else parse(raw)


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


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
