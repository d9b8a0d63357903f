"""Requests to an OpenAI-compatible server, one try at a time: what may pass is a TransientError,
what cannot a ModelError. What the server says is checked once, by the sections below: fields that
nobody reads may be anything, those that are read have their types.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pomona.documents import parse_json
from pomona.errors import PomonaError, first_line
from pomona.models.concurrency import (
    TRANSIENT,
    TransientError,
    retry_after,
)
from pomona.models.request import ModelError, wrong_request

_SAME = frozenset(
    {400, 404, 413, 422}
)  # the client's own mistake; other refusals are between us and the server
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST = 1 << 28  # bytes of an answer
_MOST_EVENT = 1 << 24  # bytes of a line in a stream
_LONG = 1 << 16  # bytes that take a millisecond to read
_SIGNS = 10  # times the timeout that signs of life are taken for a whole answer that is on its way


class HttpClient:
    """A pool of connections to one server. `key` goes into a header and nowhere else."""

    def __init__(self, base: str, *, key: str | None, timeout: float, connections: int) -> None:
        self.base = base
        self._longest = _SIGNS * timeout
        self._urls: dict[str, httpx.URL] = {}
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
        return answer

    async def get(self, path: str) -> Any:
        """The JSON value at a path."""
        return await self._answer("GET", path)

    async def post_any(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON value that the server answers."""
        answer = await self._answer("POST", path, **_sent(body))
        if isinstance(answer, dict):
            _refuse_error(answer)
        return answer

    async def upload(self, path: str, name: str, lines: bytes, **fields: str) -> Any:
        """The JSON value that the server answers to a file of JSON lines called `name`, with the
        fields of its form.
        """
        files = {"file": (name, lines, "application/jsonl")}
        return await self._answer("POST", path, files=files, data=fields)

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file, as they come; of one that is too long nothing."""
        try:
            async with self._client.stream("GET", path) as response:
                if response.status_code != httpx.codes.OK:
                    self._check(response, await _whole(response))
                async with aclosing(_lines(response.aiter_bytes(), cut=True)) as coming:
                    async for line in coming:
                        yield line
        except httpx.HTTPError as error:
            raise _transient(error) from error

    async def _answer(self, method: str, path: str, **sent: Any) -> Any:
        try:
            # A server that sends white space for ever has not answered.
            async with (
                asyncio.timeout(None if "files" in sent else self._longest),
                self._client.stream(method, self._url(path), **sent) as response,
            ):
                content = await _whole(response)
        except httpx.HTTPError as error:
            raise _transient(error) from error
        except TimeoutError as error:  # once is long enough: it is not asked again
            raise ModelError(
                f"no whole answer within {self._longest:g} s, {_SIGNS} times the timeout",
                status=504,
                where=self.base,
                remedy="raise the timeout, or ask for fewer tokens",
            ) from error
        self._check(response, content)
        return await value_of(content, "the answer")

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

    def _url(self, path: str) -> httpx.URL:
        """The whole address of a path: put together by the client, it is parsed twice a request."""
        if path not in self._urls:
            self._urls[path] = httpx.URL(self.base + path)
        return self._urls[path]

    def _check(self, response: httpx.Response, body: bytes) -> None:
        if response.status_code != httpx.codes.OK:
            if response.has_redirect_location:
                raise _elsewhere(response, self.base)
            wait = retry_after(response.headers.get("retry-after"))
            raise refused(response.status_code, body, self.base, wait)


def _elsewhere(response: httpx.Response, where: str) -> ModelError:
    """The error of an answer that another address would give: with the key, we go to none."""
    to = response.headers["location"][:200]
    return ModelError(
        f'refused with status {response.status_code}: it leads to "{to}"',
        status=502,
        where=where,
        remedy="give the address where the server is",
        upstream=response.status_code,
    )


def refused(
    status: int, body: bytes, where: str, wait: float | None = None
) -> TransientError | ModelError:
    """The error of an answer with such a status: one that may pass, or one that cannot."""
    reason = f"status {status}: {_said(body)}"
    if status in TRANSIENT or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return TransientError(reason, status=status, retry_after=wait)
    remedy = (
        "check the API key" if status in {401, 403} else "check the model's name and the parameters"
    )
    return ModelError(
        f"refused with {reason}",
        status=status if status in _SAME else 502,
        where=where,
        remedy=remedy,
        upstream=status,
        code=_told(body, "code"),
        param=_told(body, "param"),
    )


def _sent(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": json_of(body), "headers": {"Content-Type": "application/json"}}


def json_of(body: Mapping[str, Any]) -> bytes:
    """A body as JSON. A ModelError of status 400 where it cannot be written so."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
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


async def _lines(parts: AsyncIterator[bytes], *, cut: bool = False) -> AsyncGenerator[bytes, None]:
    """Each line; one of more than `_MOST_EVENT` bytes is an error, or empty where it is `cut`."""
    begun: list[bytes] = []
    size, after_return = 0, False
    async for part in parts:
        if after_return and part:  # a LF now is the other half of a CRLF
            part, after_return = part.removeprefix(b"\n"), False
        after_return = after_return or part.endswith(b"\r")
        for line in part.splitlines(keepends=True):
            size += len(line)
            if size <= _MOST_EVENT:
                begun.append(line)
            elif cut:
                begun.clear()
            else:
                raise TransientError(f"a line of the stream has more than {_MOST_EVENT:,} bytes")
            if line.endswith((b"\n", b"\r")):
                yield b"".join(begun).rstrip(b"\r\n")
                begun, size = [], 0
    if begun:
        yield b"".join(begun)


async def value_of(data: bytes, what: str) -> Any:
    """The JSON value that `data` is; what takes long to read is read while others go on. Half of a
    surrogate pair, as some servers write where an answer ends within a character, is U+FFFD: asking
    again would be paid for, and end there again.
    """
    if b"\\ud" in data or b"\\uD" in data:
        data = _SURROGATES.sub(lambda found: found[0] if found[1] is None else rb"\ufffd", data)
    try:
        if len(data) > _LONG:
            return await asyncio.to_thread(parse_json, data, what, top=None)
        return parse_json(data, what, top=None)
    except PomonaError as error:
        raise TransientError(f"{what} {error.message}: {_short(data)}") from error


async def _event(data: bytes) -> dict[str, Any]:
    event = await value_of(data, "an event")
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
    refused = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    if isinstance(error, httpx.TimeoutException):
        reason = f"no answer in time ({type(error).__name__})"
        return TransientError(reason, timeout=True, refused=refused)
    broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
    return TransientError(reason, refused=refused, broken=broken)


def _said(body: bytes) -> str:
    """What an error's body says, as text or as the object `error` of the API."""
    answer = _read(body)
    if not isinstance(answer, dict):
        return _short(body)
    error = answer.get("error", answer.get("detail", answer))
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]


def _told(body: bytes, name: str) -> str | None:
    answer = _read(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    told = error.get(name) if isinstance(error, dict) else None
    return told[:100] if isinstance(told, str) else None


def _read(body: bytes) -> Any:
    try:
        return parse_json(body[:_LONG], "the answer", top=None)
    except PomonaError:
        return None


def _short(body: bytes) -> str:
    text = body[:800].decode("utf-8", "replace").strip()
    return text[:200] if text else "nothing"


Checked = TypeVar("Checked", bound=BaseModel)
_MOST_TOKENS = 100_000_000  # no model reads or writes as many: who says more has not counted
_SHOWN = 60
# Escapes, of which the group is half a pair without its other half.
_SURROGATES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "missing": "there",
}


class Section(BaseModel):
    """A part of an answer, of which only the fields that are read have a type."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


Place = Annotated[int, Field(ge=0, lt=1 << 31)]


class FunctionCall(Section):
    """A function and its arguments, or a piece of them; some servers give arguments as an
    object.
    """

    name: str | None = None
    arguments: str | dict[str, Any] | None = None

    @property
    def written(self) -> str:
        """The arguments as JSON text."""
        given = self.arguments
        return json.dumps(given, ensure_ascii=False) if isinstance(given, dict) else given or ""


class ToolCall(Section):
    """A call of a tool, or a piece of one. Kinds of calls that nobody here knows keep their
    fields.
    """

    model_config = ConfigDict(extra="allow")

    index: Place | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None


class Message(Section):
    """What a model said, or a piece of it. `reasoning` is another name for `reasoning_content`,
    and in other servers something else.
    """

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None

    @property
    def thought(self) -> str:
        """The model's reasoning."""
        other = self.reasoning if isinstance(self.reasoning, str) else ""
        return self.reasoning_content or other

    @property
    def calls(self) -> list[ToolCall]:
        """Its calls; the older `function_call` is one."""
        if self.tool_calls or self.function_call is None:
            return self.tool_calls or []
        return [ToolCall(index=0, type="function", function=self.function_call)]


class Alternative(Section):
    """A token with its log-probability; `bytes` are what it spells."""

    token: str
    logprob: float | None = None
    bytes: list[Annotated[int, Field(ge=0, le=255)]] | None = None


class Scored(Alternative):
    """A token of the answer with its likeliest alternatives."""

    top_logprobs: list[Alternative] | None = None


class Logprobs(Section):
    """The field `logprobs` of a choice: `content` in chats, the other three in completions."""

    content: list[Scored] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class RawChoice(Section):
    """A choice of an answer (`message`, `text`), or a piece of one (`delta`, `text`)."""

    index: Place | None = None
    message: Message | None = None
    delta: Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None

    @property
    def said(self) -> Message:
        """What was said in it, whatever the field is called."""
        return self.message or self.delta or Message()


class Answer(Section):
    """A whole answer, or an event of a streamed one."""

    choices: list[RawChoice] | None = None


class Vector(Section):
    """One embedding."""

    index: Place
    embedding: Annotated[list[float], Field(min_length=1)]


class Vectors(Section):
    """The answer to a request for embeddings."""

    data: list[Vector]


def checked(value: Any, model: type[Checked], where: str) -> Checked:
    """The value as this section. A ModelError of status 502 names the first field that is not what
    it must be, and what it holds.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    expected = _EXPECTED.get(first["type"])
    wanted = f"must be {expected}" if expected else first["msg"].replace("Input should", "must")
    raise malformed(f"{place.lstrip('.') or 'it'} {wanted}, not {_shown(first['input'])}", where)


def malformed(what: str, where: str) -> ModelError:
    """The error of an answer that is JSON, but not what a server of this API says."""
    return ModelError(
        f"its answer is malformed: {what}",
        status=502,
        where=where,
        remedy="check that the server speaks the OpenAI API",
    )


def usage_of(answer: Mapping[str, Any], *, embedding: bool = False) -> tuple[int, int] | None:
    """Prompt and answer tokens as the server counted them; None where it did not, or where no
    model can have used so few or so many. An `embedding` has no answer tokens.
    """
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage.get("prompt_tokens"), 1)
    written = 0 if embedding else _count(usage.get("completion_tokens"), 0)
    return None if prompt is None or written is None else (prompt, written)


def _count(value: Any, least: int) -> int | None:
    """A number of tokens, None where it cannot be one."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and least <= value <= _MOST_TOKENS else None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
