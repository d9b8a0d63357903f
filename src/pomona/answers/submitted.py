"""Requests handed to a server as batches and collected later, whoever asked for them then: into the
same store, under the same keys, as answers that were asked for one by one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

from pomona.answers.budget import Account, Exhausted
from pomona.answers.store import CachedModel, Wrapper
from pomona.documents import parse_json
from pomona.errors import Later, PomonaError
from pomona.models import (
    Model,
    ModelError,
    Reply,
    Request,
    Spelled,
    Spent,
    TransientError,
)
from pomona.models.http import BatchState, HttpBatches, HttpModel, NoBatches, Single
from pomona.workspace import Lock

# Notes are in the file of the store, where answers come in and notes go out in one transaction.
_NOTES = (
    """create table if not exists batches (
        mark text primary key, model text not null, batch text,
        time real not null) without rowid""",
    """create table if not exists requests (
        key blob primary key, mark text, tries integer not null, sample integer not null,
        temperature real not null, request text not null, error text, status integer)
        without rowid""",
    """create table if not exists refused_fields (
        model text not null, name text not null, primary key (model, name)) without rowid""",
)
_LISTS = ("messages", "stop", "tools", "options", "must_call")  # parts of a request
# Batches that a request may be in where the ones before did not come to it, beside those of which
# a field was refused.
_TRIES = 3
# Where nothing waits any more: until there is something again another server may be there.
_FIELDS_OUTLIVED = """delete from refused_fields where model = ?
    and not exists (select 1 from batches where model = ?)
    and not exists (select 1 from requests where error is null)"""
_KEPT_AT_ONCE = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 60.0
_SHOWN = 3
_NEW = (None, 0)  # of a request that was in no batch

_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, asyncio.Lock]] = WeakKeyDictionary()

Part = tuple[bytes, Single, bytes]  # a request with its key and its line


class Submitted(Later):
    """Requests are with the server. `batches` are its names for them, `requests` how many are not
    there yet.
    """

    def __init__(self, where: str, requests: int, batches: Sequence[str], told: str = "") -> None:
        named = ", ".join(batches[:_SHOWN]) + (", …" if len(batches) > _SHOWN else "")
        super().__init__(
            f"submitted: {requests:,} request{'s are' if requests > 1 else ' is'} under way in "
            f"{len(batches)} "
            f"batch{'es' if len(batches) > 1 else ''} ({named}{told})",
            where=where,
            remedy="run the same command again to collect them",
        )
        self.requests, self.batches = requests, tuple(batches)


@dataclass
class Fetched:
    """What came of requests that were to go in batches: why each has no answer in the store, None
    where it has one; and how many were collected in this call.
    """

    errors: list[ModelError | Exhausted | None]
    fresh: int


@dataclass
class _Round:
    """The requests of one call by their key, and what is known of them."""

    asks: dict[bytes, Single]
    account: Account
    held: dict[bytes, Spent] = field(default_factory=dict)
    errors: dict[bytes, ModelError | Exhausted] = field(default_factory=dict)
    collected: set[bytes] = field(default_factory=set)
    told: str = ""


class InBatches(CachedModel):
    """A stored model whose requests may go to its server as batches.

    A batch is noted in the store before it is submitted and confirmed after. Whatever dies when,
    the next call finds it at the server by the mark in its metadata and does not submit it again;
    only where a server does not list its batches can a death at the moment of submission not be
    told from one before. Answers are collected into the store whether this call asks for them or
    another did.
    """

    def __init__(self, model: Model, path: str | Path) -> None:
        super().__init__(model, path)
        while isinstance(model, Wrapper):
            model = model.model
        if "batches" not in model.abilities:
            raise model.without("batches")
        self._server = HttpBatches(cast("HttpModel", model))

    @property
    def noted(self) -> bool:
        """Whether requests of this model are with the server, or were when it was last asked."""
        known = "select 1 from sqlite_master where name = 'batches'"
        with self._file.reading() as file:
            return file.execute(known).fetchone() is not None and bool(self._marks(file))

    async def fetch(
        self, asks: Sequence[Single], account: Account, *, submit: bool = True, wait: float = 0.0
    ) -> Fetched:
        """See that the store holds the answers to all requests, of those that can be answered.

        What it lacks is submitted as far as the budget holds with each at its most, and collected
        when it is there, for `wait` seconds at most; with `submit` false only what is under way is
        collected. What a server did not come to is submitted again, in three batches at most;
        where it refused a field by its name, without it or by the name that it knows.

        Raises:
            Submitted: some are still under way.
            NoBatches: the server has none; nothing was submitted.
            PomonaError: another process does the same with this store.
        """
        keys = [self._keys(request, [draw])[draw] for request, draw in asks]
        now = _Round(dict(zip(keys, asks, strict=True)), account)
        until = time.monotonic() + min(wait, account.left if account.left is not None else wait)
        pause = _FIRST_PAUSE
        async with self._alone():
            self._write(_NOTES)
            now.held = await self._costs(now.asks)
            self._server.dialect.recall(self._refused_fields())
            self._hear(now)
            await self._take_up(now)
            while True:
                await self._collect(now)
                if submit:
                    await self._submit(now)
                under_way = self._still_out(now)
                if not under_way:
                    break
                left = until - time.monotonic()
                if left <= 0:
                    raise self._later(now, under_way)
                await asyncio.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)
            self._write([(_FIELDS_OUTLIVED, (self.identity, self.identity))])
        fresh = len(now.collected & now.asks.keys())
        return Fetched([now.errors.get(key) for key in keys], fresh)

    def _later(self, now: _Round, under_way: Mapping[str, Sequence[bytes]]) -> Submitted:
        requests = sum(key in now.asks for keys in under_way.values() for key in keys)
        return Submitted(self.identity, requests, [*under_way], now.told)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody else submits or collects what is of this model. Others in this process take turns;
        another process may wait for a day and is not waited for.
        """
        name = hashlib.sha256(self.identity.encode()).hexdigest()[:8]
        path = self.path.with_name(f".{self.path.name}.{name}.batches")
        turns = _TURNS.setdefault(asyncio.get_running_loop(), {})
        doing = f"submitting or collecting batches of {self.identity}"
        async with turns.setdefault(path, asyncio.Lock()):
            with Lock(path, doing=doing, where=self.path, other="store"):
                yield

    # What was noted

    def _marks(self, file: sqlite3.Connection) -> dict[str, str | None]:
        """The batches of this model by their mark, None where the server has not confirmed one."""
        query = "select mark, batch from batches where model = ? order by time"
        return dict(file.execute(query, (self.identity,)).fetchall())

    def _noted(self) -> dict[str, str | None]:
        with self._file.reading() as file:
            return self._marks(file)

    def _refused_fields(self) -> list[str]:
        """The fields that the server refused in batches of which some are still under way."""
        query = "select name from refused_fields where model = ?"
        with self._file.reading() as file:
            return [name for (name,) in file.execute(query, (self.identity,))]

    def _still_out(self, now: _Round) -> dict[str, list[bytes]]:
        """The batches that hold requests of this call, with their keys."""
        query = "select key from requests where mark = ?"
        under_way: dict[str, list[bytes]] = {}
        with self._file.reading() as file:
            for mark, batch in self._marks(file).items():
                keys = [key for (key,) in file.execute(query, (mark,)) if key in now.asks]
                if batch is not None and keys:
                    under_way[batch] = keys
        return under_way

    def _of(self, mark: str) -> dict[bytes, Single]:
        """The requests that a mark stands for."""
        query = "select key, request, sample, temperature from requests where mark = ?"
        with self._file.reading() as file:
            rows = file.execute(query, (mark,)).fetchall()
        return {key: (self._request(text), (at, heat)) for key, text, at, heat in rows}

    def _request(self, text: str) -> Request:
        try:
            parts = parse_json(text.encode(), self.path)
            lists = {name: tuple(parts[name]) for name in _LISTS if name in parts}
            bias = {int(token): value for token, value in parts.get("logit_bias", {}).items()}
            parts["logit_bias"] = bias
            if given := parts.get("spelled"):
                lists["spelled"] = Spelled(given[0], tuple(given[1]))
            return Request(**{**parts, **lists})
        except (PomonaError, TypeError, KeyError) as error:
            raise self._file.damaged(error) from error

    def _write(self, *work: Iterable[Any]) -> None:
        """Statements, each a text or a text with its values, all of them or none."""
        with self._file.writing() as file:
            for statement in (one for some in work for one in some):
                text, values = (statement, ()) if isinstance(statement, str) else statement
                file.execute(text, values)

    async def _costs(self, asks: Mapping[bytes, Single]) -> dict[bytes, Spent]:
        """What the answers that the store holds cost."""
        query, found = "select reply from replies where key = ?", {}

        def read() -> None:
            with self._file.reading() as file:
                for key in asks:
                    if (row := file.execute(query, (key,)).fetchone()) is not None:
                        found[key] = self._read(row[0]).spent

        await self._file.run(read)
        return found

    # To the server

    def _hear(self, now: _Round) -> None:
        """Why requests of this call failed that another call collected. It is told once."""
        with self._file.reading() as file:
            query = "select key, error, status from requests where error is not null"
            told = [row for row in file.execute(query).fetchall() if row[0] in now.asks]
        now.errors |= {key: ModelError(error, status=status) for key, error, status in told}
        self._write([("delete from requests where key = ?", (key,)) for key, *_ in told])

    async def _take_up(self, now: _Round) -> None:
        """Submit what was noted and not confirmed: the process died in between."""
        for mark, batch in self._noted().items():
            if batch is None:
                asks = self._of(mark)
                part = [(key, ask, self._line(key, ask)) for key, ask in asks.items()]
                await self._hand_over(mark, part, now, again=True)

    async def _submit(self, now: _Round) -> None:
        """Hand over what is neither held, nor under way, nor known to fail."""
        tries = self._tries()
        for part in self._parts(now, self._within(now, tries)):
            mark = secrets.token_hex(16)
            self._write(
                [
                    (
                        "insert into batches values (?, ?, null, ?)",
                        (mark, self.identity, time.time()),
                    )
                ],
                [
                    (
                        "insert or replace into requests values (?, ?, ?, ?, ?, ?, null, null)",
                        (key, mark, tries.get(key, _NEW)[1] + 1, *ask[1], _text(ask[0])),
                    )
                    for key, ask, _ in part
                ],
            )
            await self._hand_over(mark, part, now, again=False)

    async def _hand_over(
        self, mark: str, part: Sequence[Part], now: _Round, *, again: bool
    ) -> None:
        """Submit a batch that is noted, and confirm it. What is refused is forgotten; where nobody
        knows whether the server has it, the next call looks for it.
        """
        try:
            file = await self._server.upload([line for *_, line in part], mark)
            _, (like, _), _ = part[0]
            batch = await self._server.submit(file, like, mark, again=again)
        except ModelError as error:
            if _refused(error):
                self._write(_forgotten(mark))
            if isinstance(error, NoBatches):
                raise
            now.errors |= dict.fromkeys((key for key, *_ in part), error)
        else:
            self._write([("update batches set batch = ? where mark = ?", (batch, mark))])

    def _line(self, key: bytes, ask: Single) -> bytes:
        return self._server.line(key.hex(), ask)

    def _tries(self) -> dict[bytes, tuple[str | None, int]]:
        """The mark of each request that is under way, None where it waits to be submitted again,
        and in how many batches it was.
        """
        with self._file.reading() as file:
            rows = file.execute("select key, mark, tries from requests").fetchall()
        return {key: (mark, tries) for key, mark, tries in rows}

    def _within(
        self, now: _Round, tries: Mapping[bytes, tuple[str | None, int]]
    ) -> dict[bytes, Single]:
        """The requests to submit, as many as the budget holds with each at its most. The others
        wait for what is under way, or are past the budget.
        """
        left = {
            key: ask
            for key, ask in now.asks.items()
            if key not in now.held and key not in now.errors
        }
        under_way = {key for key in left if tries.get(key, _NEW)[0] is not None}
        new = {key: ask for key, ask in left.items() if key not in under_way}
        if not now.account.budget.limits:
            return new
        total = sum((self._most(left[key][0]) for key in under_way), Spent())
        total += sum(now.held.values(), Spent())
        wanted: dict[bytes, Single] = {}
        for key, ask in new.items():
            more = total + self._most(ask[0])
            limit = now.account.met or now.account.short(more)
            if limit is None:
                wanted[key], total = ask, more
            elif not under_way and not wanted:
                now.errors[key] = Exhausted(limit)
        return wanted

    def _most(self, request: Request) -> Spent:
        return self._server.cost(self.model.tokens(request), request.max_tokens)

    def _parts(self, now: _Round, wanted: Mapping[bytes, Single]) -> Iterator[list[Part]]:
        """Files of requests with their lines, none larger than the server takes; chats and plain
        prompts are answered at different addresses.
        """
        terms = self._server.terms
        for plain in (False, True):
            part: list[Part] = []
            size = 0
            for key, ask in wanted.items():
                if (ask[0].prompt is not None) != plain:
                    continue
                try:
                    line = self._line(key, ask)
                except ModelError as error:
                    now.errors[key] = error
                    continue
                if part and (len(part) >= terms.requests or size + len(line) + 1 > terms.bytes):
                    yield part
                    part, size = [], 0
                part.append((key, ask, line))
                size += len(line) + 1
            if part:
                yield part

    # From the server

    async def _collect(self, now: _Round) -> None:
        """Take in what has ended. A server that does not answer now still has it."""
        now.told = ""
        for mark, batch in self._noted().items():
            if batch is None:
                continue
            try:
                state = await self._server.state(batch)
                if state.ended:
                    await self._take(mark, state, now)
                else:
                    done = "" if state.done is None else f", {state.done:,} done"
                    now.told = f"; {state.status}{done}"
            except ModelError as error:
                now.told = f"; the server does not answer now: {error}"

    async def _take(self, mark: str, state: BatchState, now: _Round) -> None:
        """Keep the answers of a batch, and forget it when all are kept."""
        asks = self._of(mark)
        missing = _missing(state, self.identity)
        if state.status == "failed" and asks:
            said = ModelError(state.reason or "", status=400, upstream=400)
            again = self._server.again(said, next(iter(asks.values())))
            missing = again if isinstance(again, TransientError) else missing
        left: dict[bytes, ModelError | TransientError] = dict.fromkeys(asks, missing)
        kept: dict[bytes, Reply] = {}
        names = {key.hex(): ask for key, ask in asks.items()}
        async with aclosing(self._server.results(state, names)) as results:
            async for name, result in results:
                key = bytes.fromhex(name)
                if isinstance(result, Reply):
                    kept[key] = result
                    left.pop(key, None)
                elif key in left:
                    left[key] = result
                if len(kept) >= _KEPT_AT_ONCE:
                    kept = await self._take_in(kept, now)
        await self._take_in(kept, now)
        settled = list(self._settled(left, now, self._tries()))
        insert = "insert or ignore into refused_fields values (?, ?)"
        learnt = [(insert, (self.identity, name)) for name in self._server.dialect.learnt]
        self._write(settled, learnt, _forgotten(mark))

    async def _take_in(self, kept: Mapping[bytes, Reply], now: _Round) -> dict[bytes, Reply]:
        await self._keep(kept)
        now.collected |= kept.keys()
        now.held |= {key: reply.spent for key, reply in kept.items() if key in now.asks}
        return {}

    def _settled(
        self,
        left: Mapping[bytes, ModelError | TransientError],
        now: _Round,
        tries: Mapping[bytes, tuple[str | None, int]],
    ) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """What becomes of requests without an answer: they wait to be submitted again, or their
        error is told to this call, or kept for the call that asks for them.
        """
        most = _TRIES + len(self._server.dialect.learnt)
        for key, error in left.items():
            if isinstance(error, TransientError):
                if tries[key][1] < most:
                    yield "update requests set mark = null where key = ?", (key,)
                    continue
                said = f"has no answer after {tries[key][1]} batches, the last time: {error}"
                error = ModelError(said, status=502, where=self.identity)
            if key in now.asks:
                now.errors[key] = error
            else:
                query = "update requests set mark = null, error = ?, status = ? where key = ?"
                yield query, (str(error), error.status, key)


def _missing(state: BatchState, where: str) -> ModelError | TransientError:
    """Why a request has no result in a batch that has ended."""
    if state.status in {"completed", "expired"}:
        return TransientError(f"the batch {state.batch} is {state.status} without it")
    why = state.reason or f"it was {state.status}"
    remedy = "run the same command again to submit it anew"
    return ModelError(f"batch {state.batch}: {why}", status=502, where=where, remedy=remedy)


def _refused(error: ModelError) -> bool:
    """Whether the server certainly did not take what was submitted."""
    status = error.upstream
    return status is not None and 400 <= status < 500 and status not in {408, 409}


def _forgotten(mark: str) -> list[tuple[str, tuple[str]]]:
    return [
        ("delete from requests where mark = ?", (mark,)),
        ("delete from batches where mark = ?", (mark,)),
    ]


def _text(request: Request) -> str:
    parts = {name: value for name, value in vars(request).items() if name != "steer"}
    return json.dumps(parts, ensure_ascii=False, default=dict)
