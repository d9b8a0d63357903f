"""Batches of a server with OpenAI's Batch API: a file of JSON lines is uploaded (`/v1/files`) and
handed over (`/v1/batches`), and its results are two files of lines, in any order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field

from pomona.errors import PomonaError
from pomona.models.concurrency import Retries, TransientError, retrying
from pomona.models.http.choices import body_of, choices_of, held, no_option
from pomona.models.http.client import Section, checked, json_of, refused, usage_of, value_of
from pomona.models.http.model import HttpModel
from pomona.models.model import CostModel
from pomona.models.request import Draw, ModelError, Reply, Request, Spent, check

_ABSENT = frozenset({404, 405, 501})  # what a server says that does not have a path at all
_GONE = frozenset({404, 410})
_OK = 200
_MARK = "pomona"  # the key of our mark in the metadata of a batch
_PAGES = 50  # of the server's list that are looked through for a batch of ours
Value = TypeVar("Value")
Single = tuple[Request, Draw]  # a request and the one draw wanted of it
Result = Reply | ModelError | TransientError


@dataclass(frozen=True)
class BatchState:
    """A batch at its server: `status` is the server's word, "unknown" where it does not know the
    batch; `files` hold the results, and `reason` is why there are none. Numbers that it does not
    give are None.
    """

    batch: str
    status: str
    files: tuple[str, ...] = ()
    reason: str | None = None
    done: int | None = None

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return self.status in {"completed", "failed", "expired", "cancelled", "unknown"}


class NoBatches(ModelError):
    """The server has no batches: not one that fails, but one that knows single requests alone."""


class _Made(Section):
    """A file that was taken, or a batch of which nothing more is asked than its name."""

    id: Annotated[str, Field(min_length=1, max_length=512)]


class _Counts(Section):
    """How many requests of a batch are done."""

    completed: int | None = None
    failed: int | None = None


class _Fault(Section):
    """Why a batch or one of its requests failed."""

    code: str | None = None
    message: str | None = None


class _Faults(Section):
    """All faults of a batch."""

    data: list[_Fault] | None = None


class _Told(_Made):
    """A batch as the server tells it."""

    status: str | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Faults | None = None
    request_counts: _Counts | None = None
    metadata: dict[str, Any] | None = None


class _List(Section):
    """One page of a server's batches."""

    data: list[_Told]
    has_more: bool | None = None


class _Response(Section):
    """What a request of a batch would have been answered with."""

    status_code: int | None = None
    body: dict[str, Any] | None = None


class _Line(Section):
    """A line of a batch's results."""

    custom_id: str
    response: _Response | None = None
    error: _Fault | None = None


class HttpBatches:
    """Takes the requests of a model as files of lines, each with an id of ours, and answers them
    later.
    """

    def __init__(self, model: HttpModel) -> None:
        self.terms, self._model, self._where = model.batch_terms, model, model.identity
        self._costs, self.dialect = CostModel(price=self.terms.price), model.dialect

    def cost(self, prompt: int, answer: int) -> Spent:
        """What a request of so many tokens costs in a batch."""
        return self._costs.pool(prompt, answer, 1)

    def line(self, key: str, ask: Single) -> bytes:
        """The line of a request. A ModelError of status 400 where it cannot be asked."""
        request, (index, temperature) = ask
        check(request, [(index, temperature)], self._model.name)
        path, body = body_of(request, self._model.name, temperature, [index])
        body = self.dialect.said(body)
        return json_of({"custom_id": key, "method": "POST", "url": f"/v1/{path}", "body": body})

    def again(self, refused: ModelError | TransientError, ask: Single) -> Result:
        """Why a request has no answer: what may pass where fields were refused by their names, and
        its next line will be in others.
        """
        request, (index, temperature) = ask
        if isinstance(refused, TransientError):
            return refused
        # In the usual names: what it was asked in is not known any more, and is not said twice.
        _, body = body_of(request, self._model.name, temperature, [index])
        learns = self.dialect.learns(refused, body, request.extra)
        return TransientError(refused.message, status=refused.upstream) if learns else refused

    async def upload(self, lines: Sequence[bytes], mark: str) -> str:
        """The name that the server gives to a file of lines. NoBatches where it takes none."""
        content, name = b"".join(line + b"\n" for line in lines), f"pomona-{mark}.jsonl"
        client = self._model.client
        upload = lambda: client.upload("files", name, content, purpose="batch")  # noqa: E731
        return checked(await self._asked(upload), _Made, self._where).id

    async def submit(self, file: str, like: Request, mark: str, *, again: bool) -> str:
        """The name of the batch of an uploaded file, all of whose requests are of the kind of
        `like`. `mark` is ours: with `again`, and after a try that failed, a batch that has it is
        looked for first, where the server lists its batches.
        """
        path, _ = body_of(like, self._model.name, 0.0, [0])
        body = {
            "input_file_id": file,
            "endpoint": f"/v1/{path}",
            "completion_window": "24h",
            "metadata": {_MARK: mark},
        }

        async def once() -> str:
            """One try. The one before may have come through, and only its answer not."""
            nonlocal again
            if again and (found := await self._find(mark)) is not None:
                return found
            again = True
            made = await self._model.client.post("batches", body)
            return checked(made, _Made, self._where).id

        return await self._asked(once)

    async def state(self, batch: str) -> BatchState:
        """How a batch stands."""
        get = lambda: self._model.client.get(f"batches/{batch}")  # noqa: E731
        try:
            told = checked(await self._retried(get), _Told, self._where)
        except ModelError as error:
            if error.upstream not in _GONE:
                raise
            return BatchState(batch, "unknown", reason="the server does not know it any more")
        faults = (told.errors.data if told.errors else None) or []
        reason = next((fault.message or fault.code for fault in faults), None)
        files = tuple(name for name in (told.output_file_id, told.error_file_id) if name)
        done = told.request_counts.completed if told.request_counts else None
        return BatchState(batch, (told.status or "").lower(), files, reason, done)

    async def results(
        self, state: BatchState, asks: Mapping[str, Single]
    ) -> AsyncGenerator[tuple[str, Result], None]:
        """The results of a batch by our ids, in any order: replies, errors that stay, and those
        that may pass. Of some requests there may be none.
        """
        for file in state.files:
            async with aclosing(self._lines(file)) as lines:
                async for raw in lines:
                    try:
                        line = checked(await value_of(raw, "a line"), _Line, self._where)
                    except (PomonaError, TransientError):
                        continue  # whose it is nobody can tell: the request has no result
                    if line.custom_id in asks:
                        yield line.custom_id, await self._result(line, asks[line.custom_id])

    async def _lines(self, file: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file of results; one that was cut is read again, and goes on where it was.
        None where the server has it no more.
        """
        given, retries = 0, Retries(self._model.policy, self._where, file)
        while True:
            try:
                at = 0
                async with aclosing(self._model.client.lines(f"files/{file}/content")) as lines:
                    async for line in lines:
                        at += 1
                        if at > given:
                            given = at
                            yield line
                return
            except TransientError as failure:
                await asyncio.sleep(retries.pause(failure))
            except ModelError as error:
                if error.upstream not in _GONE:
                    raise
                return

    async def _result(self, line: _Line, ask: Single) -> Result:
        """What a line says of its request."""
        response, where = line.response, self._where
        if response is None or response.body is None:
            fault = line.error or _Fault()
            said = fault.message or fault.code or "the server gave no answer"
            if fault.code == "batch_cancelled":
                return ModelError(said, status=502, where=where)
            return TransientError(said)
        if response.status_code not in {None, _OK}:
            said = json.dumps(response.body).encode()
            return self.again(refused(response.status_code or 0, said, where), ask)
        try:
            return await self._reply(response.body, ask)
        except (ModelError, TransientError) as error:
            return error

    async def _reply(self, answer: Mapping[str, Any], ask: Single) -> Reply:
        request, (index, temperature) = ask
        if not answer.get("choices"):
            raise TransientError("the answer has no choices")
        choices = choices_of(answer, request.options, self._where)[:1]
        if not held(choices, request):
            raise no_option(request, self._where)
        spent = await self._model.counter.spent(request, choices, usage_of(answer), self._costs)
        return choices[0].reply(request, self._model.name, index, temperature, spent[0])

    async def _find(self, mark: str) -> str | None:
        """The batch of ours with this mark; None where there is none, or the server does not list
        its batches.
        """
        after = ""
        for _ in range(_PAGES):
            try:
                page = await self._model.client.get(f"batches?limit=100{after}")
            except ModelError as error:
                if error.upstream in _ABSENT:
                    return None
                raise
            listed = checked(page, _List, self._where)
            found = (row.id for row in listed.data if (row.metadata or {}).get(_MARK) == mark)
            if (batch := next(found, None)) is not None:
                return batch
            if not listed.has_more or not listed.data:
                return None
            after = f"&after={listed.data[-1].id}"
        return None

    async def _asked(self, once: Callable[[], Awaitable[Value]]) -> Value:
        """What `once` gives. NoBatches where the server does not have the path."""
        try:
            return await self._retried(_present(once))
        except ModelError as error:
            if error.upstream not in _ABSENT:
                raise
            remedy = "ask it one request at a time (batch: auto or false)"
            message = f"has no batches (status {error.upstream})"
            raise NoBatches(
                message, status=404, where=self._where, remedy=remedy, upstream=error.upstream
            ) from error

    async def _retried(self, once: Callable[[], Awaitable[Value]]) -> Value:
        return await retrying(once, self._model.policy, where=self._where)


def _present(once: Callable[[], Awaitable[Value]]) -> Callable[[], Awaitable[Value]]:
    """`once`, for which "not implemented" is no failure that may pass."""

    async def tried() -> Value:
        """One try."""
        try:
            return await once()
        except TransientError as failure:
            if failure.status not in _ABSENT:
                raise
            raise ModelError(failure.reason, status=502, upstream=failure.status) from failure

    return tried
