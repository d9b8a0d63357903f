"""One request on its way: who may ask, what is read, what is sent back, whole or as server-sent
events, and whether the client is still there.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pomona.answers import BudgetSpent
from pomona.db import FileHeld
from pomona.errors import PomonaError
from pomona.models import UNSUPPORTED, ModelError, Spent
from pomona.serve.access import AccessLog
from pomona.serve.metrics import Gate, Metrics
from pomona.serve.served import ServedModel, ServedModels
from pomona.serve.settings import ServeSettings
from pomona.serve.shapes import encode
from pomona.web import ApiError, Bodies, ClientGone, Receive, is_loopback, read_json

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Result = TypeVar("Result")
GONE = 499
FEEDBACK, MEMORY = "/v1/feedback", "/v1/memory"  # whose gates have no model
_SENDING = 60.0
_log = logging.getLogger("pomona.serve")
_AHEAD = 64
_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
_ALIVE = b": still at work\n\n"
_DONE = b"data: [DONE]\n\n"
_LONGEST_PAUSE = 86_400.0  # seconds that a client is told to wait at most
_HOST = re.compile(r"//([\w.-]+)")
_ADDRESS = re.compile(
    r"\b(?:http:)?[a-z][a-z0-9+.-]*://[^\s\"'<>()]*[^\s\"'<>().,:;]"
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.])"
    r"|\[[0-9a-f]*:[0-9a-f:.]+\](?::\d+)?",
    re.IGNORECASE,
)
_CODES = {502: "upstream_failed", 504: "upstream_timeout", 429: "rate_limit_exceeded"}
_Item = bytes | Exception | None


@dataclass
class AppState:
    """What all requests share."""

    settings: ServeSettings
    models: ServedModels
    gates: Mapping[str, Gate]
    metrics: Metrics = field(default_factory=Metrics)
    feedback: Any = None
    log: AccessLog | None = None
    bodies: Bodies = field(init=False)

    def __post_init__(self) -> None:
        self.bodies = Bodies(self.settings.max_body)


class Call:
    """A request. `model` is the name it is counted under, `status` what it is counted as, `begun`
    whether anything was sent, `told` how an error is told to this client.
    """

    def __init__(
        self, state: AppState, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        self.state, self.scope, self._receive, self._send = state, scope, receive, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = "req_" + secrets.token_hex(12)
        self.model, self.status, self.begun = "", 0, False
        self.told: Callable[[ApiError], ApiError] = lambda error: error
        self._entered: float | None = None
        self._gate: Gate | None = None
        self._tenant = ""
        self._spent: Spent | None = None

    def paid(self, model: str, spent: Spent) -> None:
        """Count what its answer cost."""
        self._spent = spent
        self.state.metrics.paid(model, spent)

    def done(self, route: str, seconds: float) -> None:
        """Count it, and write its line of the access log."""
        status, spent = self.status or GONE, self._spent
        self.state.metrics.done(route, self.model, status, seconds)
        if self.state.log is not None:
            self.state.log.add(
                {
                    "id": self.id,
                    "client": (self.scope.get("client") or [None])[0],
                    "tenant": self._tenant or None,
                    "method": self.scope["method"],
                    "route": route,
                    "model": self.model or None,
                    "status": status,
                    "seconds": round(seconds, 4),
                    "prompt_tokens": None if spent is None else spent.prompt_tokens,
                    "completion_tokens": None if spent is None else spent.completion_tokens,
                }
            )

    def enter(self, name: str) -> None:
        """Take a place in the queue of a model, once the body is there: who sends slowly keeps
        nobody out. ApiError 429 when there is none.
        """
        gate = self.state.gates[name]
        if not gate.enter():
            message = f"all {gate.most} places are taken — try again later"
            headers = {"Retry-After": str(gate.retry_after)}
            raise ApiError(429, message, code="queue_full", headers=headers)
        self._entered, self._gate = time.monotonic(), gate

    def leave(self) -> None:
        """Give the place back, if it has one: before the last bytes are sent, since the client's
        next request may follow them at once.
        """
        if self._entered is not None and self._gate is not None:
            self._gate.leave(time.monotonic() - self._entered)
            self._entered = None

    async def json(self) -> dict[str, Any]:
        """The JSON object in its body."""
        return await read_json(self._receive, self.headers, self.state.bodies)

    def check_host(self) -> None:
        """Without keys the only guard is the machine itself: another name for it is a page
        elsewhere that rebound its own. ApiError 403.
        """
        if self.state.settings.keys:
            return
        host = self.headers.get(b"host", b"").decode("latin-1").lower()
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if not is_loopback(name):
            message = "only this machine may ask, under the name localhost or 127.0.0.1"
            raise ApiError(403, message, code="host_not_allowed")

    def check_key(self) -> None:
        """ApiError 401 without one of the server's keys."""
        if not self.state.settings.keys:
            return
        kind, _, given = self.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        tenant = self.state.settings.tenant(given.strip()) if kind.lower() == "bearer" else None
        if tenant is None:
            message = "an API key is needed — send the header Authorization: Bearer KEY"
            if given:
                message = "the API key is wrong"
            headers = {"WWW-Authenticate": "Bearer"}
            raise ApiError(401, message, code="invalid_api_key", headers=headers)
        self._tenant = tenant

    @property
    def tenant(self) -> str:
        """Whose key it was, where there are several."""
        return self._tenant

    def user(self, name: str | None) -> str | None:
        """Whose feedback is meant: the user of this name among those of the key; without a name the
        key itself where it has users of its own.
        """
        return f"{self._tenant}/{name or ''}" if self._tenant else name

    async def gone(self) -> None:
        """Returns when the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def while_here(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` returns. It is cancelled, and its end awaited, when the client leaves
        (ClientGone) or time is up (TimeoutError).
        """
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(self.gone())
        seconds = self.state.settings.timeout
        try:
            await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientGone if gone.done() else TimeoutError
        finally:
            await stopped(task, gone)

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status and the headers."""
        self.begun, self.status = True, status
        given = {
            "x-request-id": self.id,
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
            **headers,
        }
        raw = [
            (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in given.items()
        ]
        await self._sent({"type": "http.response.start", "status": status, "headers": raw})

    async def send(self, part: bytes, *, more: bool = True) -> None:
        """Send a part of the body."""
        if not more:
            self.leave()
        await self._sent({"type": "http.response.body", "body": part, "more_body": more})

    async def reply(
        self,
        value: object,
        status: int = 200,
        *,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole answer: bytes as they are, anything else as JSON."""
        payload = value if isinstance(value, bytes) else encode(value)
        await self.start(
            status, {"content-type": kind, "content-length": str(len(payload)), **(headers or {})}
        )
        await self.send(payload, more=False)

    def failure(self, error: BaseException) -> ApiError:
        """What the client is told about an error. What we did not foresee goes to the log."""
        served = self.state.models.named(self.model)
        told = api_error(error, self.state.settings.timeout, served)
        if told is not None and told.message != str(error) and told.status >= 500:
            _log.warning("%s %s: %s", self.id, self.scope.get("path"), error)
        if told is None:
            _log.error("%s %s failed", self.id, self.scope.get("path"), exc_info=error)
            message = "the server failed; its log has the reason under this request's id"
            told = ApiError(500, message, code="internal_error")
        self.status = told.status
        return self.told(told)

    async def _sent(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(_SENDING):
                await self._send(message)
        except (OSError, TimeoutError) as error:
            raise ClientGone from error


async def stopped(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs, wait for its end, and look at how it ended. Once only: a second time
    would break its tidying up.
    """
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


@dataclass(eq=False)
class Endpoint:
    """One route as an ASGI application: guards, errors and counts around `work`."""

    state: AppState
    route: str
    work: Callable[[Call], Awaitable[None]]
    key: bool = True

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        call, started = Call(self.state, scope, receive, send), time.monotonic()
        try:
            call.check_host()
            if self.key:
                call.check_key()
            await self.work(call)
        except ClientGone:
            call.status = GONE
        except Exception as error:
            await _refuse(call, error)
        finally:
            call.leave()
            if self.key:
                call.done(self.route, time.monotonic() - started)


async def _refuse(call: Call, error: Exception) -> None:
    refusal = call.failure(error)
    if call.begun:  # too late to say so; the connection ends in the midst of the answer
        return
    try:
        await call.reply(refusal.body, refusal.status, headers=refusal.headers)
    except ClientGone:
        call.status = GONE


async def send_events(
    call: Call,
    source: AsyncGenerator[bytes, None],
    failed: Callable[[ApiError], bytes] | None = None,
) -> None:
    """Send what `source` gives, then [DONE]. Raises its error when nothing was sent yet; afterwards
    an error event (as `failed` writes it) ends the stream.

    `source` is closed when the client leaves (ClientGone), reads too slowly, or time is up.
    """
    queue: asyncio.Queue[_Item] = asyncio.Queue(_AHEAD)

    async def pumped() -> None:
        try:
            async with asyncio.timeout(call.state.settings.timeout), aclosing(source):
                async for event in source:
                    await queue.put(event)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    pump, gone = asyncio.ensure_future(pumped()), asyncio.ensure_future(call.gone())

    def left(task: asyncio.Future[None]) -> None:
        if not task.cancelled():
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(ClientGone())

    gone.add_done_callback(left)
    try:
        await _forward(call, queue, failed or (lambda error: event(error.body)))
    finally:
        await stopped(pump, gone)


async def _forward(
    call: Call, queue: asyncio.Queue[_Item], failed: Callable[[ApiError], bytes]
) -> None:
    while True:
        try:
            async with asyncio.timeout(call.state.settings.keep_alive):
                item = await queue.get()
        except TimeoutError:
            item = _ALIVE
        if isinstance(item, ClientGone):
            raise item
        if isinstance(item, Exception) and not call.begun:
            raise item
        if not call.begun:
            await call.start(200, _HEADERS)
        if isinstance(item, Exception):
            await call.send(failed(call.failure(item)), more=False)
            return
        if item is None:
            await call.send(_DONE, more=False)
            return
        await call.send(item)


def event(value: Mapping[str, Any]) -> bytes:
    """One event with a JSON value, by the name of its type where it has one."""
    name = f"event: {value['type']}\n".encode() if "type" in value else b""
    return name + b"data: " + encode(value) + b"\n\n"


def api_error(
    error: BaseException, timeout: float, served: ServedModel | None = None
) -> ApiError | None:
    """What to tell a client about `error`; None for an error that only a mistake in this program
    can raise. Clients know the model by its name here: where it is, is for the log.
    """
    if (known := error if isinstance(error, ApiError) else _ran_out(error, timeout)) is not None:
        return known
    if isinstance(error, ModelError):
        headers = {}
        if error.status == 429:
            seconds = min(error.retry_after or 1.0, _LONGEST_PAUSE)
            headers["Retry-After"] = str(max(1, math.ceil(seconds)))
        code = error.code or _CODES.get(error.status)
        param = _param(error) if code == UNSUPPORTED else None
        told = told_of(error, served)
        return ApiError(error.status, told, param=param, code=code, headers=headers)
    # With a path it is about a file of the server.
    if isinstance(error, PomonaError) and not isinstance(error.where, Path):
        status, code = (400, "invalid_value") if error.exit_code == 2 else (502, "failed")
        return ApiError(status, told_of(error, served), code=code)
    return None


def _param(error: ModelError) -> str:
    """The field whose schema cannot be followed."""
    return "tools" if str(error.where).startswith("tools") else "response_format"


def _ran_out(error: BaseException, timeout: float) -> ApiError | None:
    """What to tell where a budget, the time, or the patience with another program ran out."""
    if isinstance(error, BudgetSpent):
        return ApiError(400, str(error), param="pomona.budget", code="budget_spent")
    if isinstance(error, TimeoutError):
        message = f"no answer within {timeout:g} s — ask for fewer tokens or samples"
        return ApiError(504, message, code="timeout")
    if isinstance(error, FileHeld):
        message = "another program holds a file that the server writes to — try again later"
        return ApiError(503, message, code="file_held", headers={"Retry-After": "10"})
    return None


def told_of(error: PomonaError, served: ServedModel | None) -> str:
    """The text of an error without the addresses and paths of the models behind this server."""
    name, text = "the model" if served is None else served.name, str(error)
    own = [] if served is None else [served.model.identity, served.model.name]
    ours = served is not None and not served.remote
    if ours and isinstance(error, ModelError) and error.code == UNSUPPORTED:
        return text  # of a schema, in the client's own words
    for secret in own:
        # A bare name is no secret, and may be a word of the text.
        if {"/", ":", "."} & set(secret):
            text = text.replace(secret, name)
    text = _ADDRESS.sub(name, text)
    for host in {found[1] for found in _HOST.finditer(" ".join([str(error.where), *own]))}:
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?::\d+)?(?![\w-])", name, text)
    return text
