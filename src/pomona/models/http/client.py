"""Requests to an OpenAI-compatible server, one try at a time: what may pass is a TransientError,
what cannot a ModelError.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from pomona.documents import parse_json
from pomona.errors import PomonaError, first_line
from pomona.models.concurrency import TRANSIENT, TransientError, retry_after
from pomona.models.request import ModelError, wrong_request

_SAME = frozenset(
    {400, 404, 413, 422}
)  # the client's own mistake; other refusals are between us and the server
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST = 1 << 28  # bytes of an answer
_MOST_EVENT = 1 << 24  # bytes of a line in a stream
_LONG = 1 << 16  # bytes that take a millisecond to read


class HttpClient:
    """A pool of connections to one server. `key` goes into a header and nowhere else."""

    def __init__(self, base: str, *, key: str | None, timeout: float, connections: int) -> None:
        self.base = base
        self._client = httpx.AsyncClient(
            base_url=base,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=httpx.URL(base).host not in _LOOPBACK,
            verify=base.startswith("https:"),
        )

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that the server answers."""
        answer = await self.post_any(path, body)
        if not isinstance(answer, dict):
            raise TransientError(f"the answer is not a JSON object: {str(answer)[:200]}")
        _refuse_error(answer)
        return answer

    async def post_any(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON value that the server answers."""
        try:
            async with self._client.stream("POST", path, **_sent(body)) as response:
                content = await _whole(response)
        except httpx.HTTPError as error:
            raise _transient(error) from error
        self._check(response, content)
        return await _value(content, "the answer")

    async def events(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The server-sent events of a streamed answer; TransientError when it ends without its end
        mark.
        """
        try:
            async with self._client.stream("POST", path, **_sent(body)) as response:
                if response.status_code != httpx.codes.OK:
                    self._check(response, await _whole(response))
                async with aclosing(_data(response.aiter_bytes())) as coming:
                    async for data in coming:
                        if data.strip() == b"[DONE]":
                            return
                        yield await _event(data)
        except httpx.HTTPError as error:
            raise _transient(error) from error
        raise TransientError("the stream was cut")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _check(self, response: httpx.Response, body: bytes) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            return
        reason = f"status {status}: {_said(body)}"
        if status in TRANSIENT or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise TransientError(
                reason, status=status, retry_after=retry_after(response.headers.get("retry-after"))
            )
        remedy = (
            "check the API key"
            if status in {401, 403}
            else "check the model's name and the parameters"
        )
        raise ModelError(
            f"refused with {reason}",
            status=status if status in _SAME else 502,
            where=self.base,
            remedy=remedy,
            upstream=status,
            code=_code(body),
        )


def _sent(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is posted. A ModelError of status 400 where it cannot be written as JSON."""
    try:
        content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return {"content": content.encode(), "headers": {"Content-Type": "application/json"}}
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "give text of whole characters, and extra parameters that JSON has"
        message = f"the request cannot be written as JSON: {first_line(error)}"
        raise wrong_request(message, remedy=remedy) from error


async def _whole(response: httpx.Response) -> bytes:
    """The body, within `_MOST` bytes."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _MOST:
            raise TransientError(f"the answer has more than {_MOST:,} bytes")
        parts.append(part)
    return b"".join(parts)


async def _data(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each server-sent event: that of its lines, joined. Only CR, LF and CRLF end a
    line (HTML Living Standard, section 9.2.6); U+2028 and its like are text.
    """
    data: list[bytes] = []
    async with aclosing(_lines(parts)) as lines:
        async for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
    if data:  # of a server that ends without the last empty line
        yield b"\n".join(data)


async def _lines(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    begun: list[bytes] = []
    size, after_return = 0, False
    async for part in parts:
        if after_return and part:  # a LF now is the other half of a CRLF
            part, after_return = part.removeprefix(b"\n"), False
        after_return = after_return or part.endswith(b"\r")
        for line in part.splitlines(keepends=True):
            size += len(line)
            if size > _MOST_EVENT:
                raise TransientError(f"a line of the stream has more than {_MOST_EVENT:,} bytes")
            begun.append(line)
            if line.endswith((b"\n", b"\r")):
                yield b"".join(begun).rstrip(b"\r\n")
                begun, size = [], 0
    if begun:
        yield b"".join(begun)


async def _value(data: bytes, what: str) -> Any:
    """The JSON value that `data` is; what takes long to read is read while others go on."""
    try:
        if len(data) > _LONG:
            return await asyncio.to_thread(parse_json, data, what, top=None)
        return parse_json(data, what, top=None)
    except PomonaError as error:
        raise TransientError(f"{what} {error.message}: {_short(data)}") from error


async def _event(data: bytes) -> dict[str, Any]:
    event = await _value(data, "an event")
    if not isinstance(event, dict):
        raise TransientError("an event is not a JSON object")
    _refuse_error(event)
    return event


def _refuse_error(answer: Mapping[str, Any]) -> None:
    """Some servers report failures with status 200."""
    error = answer.get("error")
    if error:
        said = error.get("message", error) if isinstance(error, dict) else error
        raise TransientError(f"the server reports an error: {str(said)[:200]}")


def _transient(error: httpx.HTTPError) -> TransientError:
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return TransientError(f"no answer in time ({type(error).__name__})", timeout=True)
    return TransientError(reason)


def _said(body: bytes) -> str:
    """What an error's body says, as text or as the object `error` of the API."""
    answer = _read(body)
    if not isinstance(answer, dict):
        return _short(body)
    error = answer.get("error", answer.get("detail", answer))
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]


def _code(body: bytes) -> str | None:
    answer = _read(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code[:100] if isinstance(code, str) else None


def _read(body: bytes) -> Any:
    try:
        return parse_json(body[:_LONG], "the answer", top=None)
    except PomonaError:
        return None


def _short(body: bytes) -> str:
    text = body[:800].decode("utf-8", "replace").strip()
    return text[:200] if text else "nothing"
