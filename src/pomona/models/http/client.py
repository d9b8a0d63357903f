"""Requests to an OpenAI-compatible server, one try at a time: what may pass is a TransientError,
what cannot a ModelError.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx

from pomona.models.concurrency import TRANSIENT, TransientError, retry_after
from pomona.models.request import ModelError

_SAME = frozenset(
    {400, 404, 413, 422}
)  # the client's own mistake; other refusals are between us and the server
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


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
            response = await self._client.post(path, json=body)
        except httpx.HTTPError as error:
            raise _transient(error) from error
        self._check(response, response.content)
        try:
            return response.json()
        except ValueError as error:
            raise TransientError(f"the answer is not JSON: {_short(response.content)}") from error

    async def events(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The server-sent events of a streamed answer; TransientError when it ends without its end
        mark.
        """
        try:
            async with self._client.stream("POST", path, json=body) as response:
                if response.status_code != httpx.codes.OK:
                    self._check(response, await response.aread())
                async for line in response.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line[5:].strip()
                    if data == "[DONE]":
                        return
                    yield _event(data)
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


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise TransientError(f"an event is not JSON: {_short(data.encode())}") from error
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
    try:
        answer = json.loads(body)
        error = answer.get("error", answer.get("detail", answer))
        return str(error.get("message", error) if isinstance(error, dict) else error)[:300]
    except (ValueError, AttributeError):
        return _short(body)


def _code(body: bytes) -> str | None:
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


def _short(body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    return text[:200] if text else "nothing"
