"""Every answer kept, so that none is paid for twice: a SQLite file in front of any model."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.db import Database
from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.models import Draw, Model, ModelError, Reply, ReplyPiece, Request, Spent, Token

_TABLE = """create table replies (
    key blob primary key, model text not null, sample integer not null, temperature real not null,
    reply text not null, money real not null, flops real not null,
    time real not null) without rowid"""


class Wrapper(Model):
    """A model in front of another, which does what is not said otherwise."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.name, self.identity, self.abilities = model.name, model.identity, model.abilities
        self.local, self.chat_template = model.local, model.chat_template

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[NDArray[np.float32]], Spent]:
        """The model's own."""
        return await self.model.logprobs(request, completions, end=end)

    async def vectors(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], Spent]:
        """The model's own."""
        return await self.model.vectors(texts)

    async def echo(self, request: Request) -> tuple[list[Token], Spent]:
        """The model's own."""
        return await self.model.echo(request)

    async def spell(self, ids: Sequence[int]) -> str:
        """The model's own."""
        return await self.model.spell(ids)

    def tokens(self, request: Request) -> int:
        """The model's own."""
        return self.model.tokens(request)

    def cost(self, prompt: int, answer: int = 0, samples: int = 1) -> Spent:
        """The model's own."""
        return self.model.cost(prompt, answer, samples)


_LATER = ("steer", "logprobs", "schema", "must_call", "spelled", "prefix", "top_k")
_LATER += ("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias")
_NOTHING = Request()


def open_store(path: str | Path) -> Database:
    """The file of a store, made where there is none. Raises PomonaError when it is damaged or
    something else.
    """
    return Database(
        path,
        [_TABLE],
        what="a store of answers",
        application=b"POMS",
        lost="move it away; what it held must be generated again",
    )


class CachedModel(Wrapper):
    """A Model that asks `model` only for what the file at `path` does not hold, and writes each
    answer as soon as it is there.

    The key of an answer is the model's identity, messages or prompt, all parameters, the sample
    index and its temperature: so a pool stays diverse, and a larger pool reuses a smaller one.
    Equal samples asked at the same time are generated once. Replies come back with what they cost
    when they were generated; `paid` sums up what this object generated itself. Several processes
    may use one file. What is written survives the death of the process (and, but for the last
    moments, that of the machine). A PomonaError when the file is damaged or not such a store.
    Belongs to one event loop. Log-probabilities and vectors are not stored.
    """

    def __init__(self, model: Model, path: str | Path) -> None:
        super().__init__(model)
        self.path, self.paid = Path(path), Spent()
        self._under_way: dict[bytes, asyncio.Future[None]] = {}
        self._file = open_store(path)

    async def reply(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """See the protocol."""
        replies = {
            (reply.index, reply.temperature): reply async for reply in self.each(request, samples)
        }
        return [replies[sample] for sample in samples]

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """See the protocol: what is stored first, then what is generated, as it comes."""
        left = self._keys(request, samples)
        while left:
            for sample, reply in (await self._held(left)).items():
                del left[sample]
                yield reply
            mine = [sample for sample, key in left.items() if key not in self._under_way]
            if mine:
                keys = {sample: left[sample] for sample in mine}
                async with aclosing(self._generated(request, keys)) as replies:
                    async for sample, reply in replies:
                        left.pop(sample, None)
                        yield reply
                if any(sample in left for sample in mine):
                    raise ModelError(
                        "gave fewer answers than were asked", status=502, where=self.name
                    )
            elif left:  # others generate the rest: take each as soon as it is kept
                await asyncio.wait(
                    {self._under_way[key] for key in left.values()},
                    return_when=asyncio.FIRST_COMPLETED,
                )

    async def stream(
        self, request: Request, samples: Sequence[Draw]
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        """See the protocol; a stored answer comes in one piece."""
        keys = self._keys(request, samples)
        for sample, held in (await self._held(keys)).items():
            del keys[sample]
            if held.text or held.reasoning:
                yield ReplyPiece(held.text, held.index, held.tokens, held.reasoning or "")
            yield held
        if not keys:
            return
        pieces: Any = self.model.stream(request, list(keys))
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Reply):
                    await self._keep({keys[piece.index, piece.temperature]: piece})
                yield piece

    def close_file(self) -> None:
        """Close the file alone; the model stays open."""
        self._file.close()

    async def close(self) -> None:
        """Close the file and the model."""
        await asyncio.to_thread(self._file.close)  # another process may hold it
        await self.model.close()

    async def _generated(
        self, request: Request, keys: dict[Draw, bytes]
    ) -> AsyncGenerator[tuple[Draw, Reply], None]:
        """Ask the model, and keep each reply before anybody sees it. Others who want the same wait
        for the future of its key.
        """
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way |= dict.fromkeys(keys.values(), ended)
        try:
            replies = self.model.each(request, list(keys))
            async with aclosing(replies):
                async for reply in replies:
                    sample = (reply.index, reply.temperature)
                    # Before anybody sees it: what was seen must be there after a kill.
                    await self._keep({keys[sample]: reply})
                    yield sample, reply
        finally:
            for key in keys.values():
                self._under_way.pop(key, None)
            ended.set_result(None)

    def _keys(self, request: Request, samples: Sequence[Draw]) -> dict[Draw, bytes]:
        base = _base(self.identity, request)
        return {sample: _key(base, *sample) for sample in samples}

    async def _held(self, keys: Mapping[Draw, bytes]) -> dict[Draw, Reply]:
        """What is stored of these samples."""
        wanted = dict(keys)

        def read() -> dict[Draw, Reply]:
            query, held = "select reply from replies where key = ?", {}
            with self._file.reading() as file:
                for sample, key in wanted.items():
                    if (row := file.execute(query, (key,)).fetchone()) is not None:
                        held[sample] = self._read(row[0])
            return held

        return await self._file.run_short(read)

    def _read(self, text: str) -> Reply:
        try:
            row = {"tokens": (), **parse_json(text.encode(), self.path, finite=False)}
            sequences = {name: tuple(row[name]) for name in ("tool_calls", "tokens")}
            return Reply(**{**row, "spent": Spent(**row["spent"]), **sequences})
        except (PomonaError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._file.damaged(error) from error

    async def _keep(self, replies: Mapping[bytes, Reply]) -> None:
        """Write replies by their key, all of them or, where the process dies meanwhile, none."""
        self.paid = sum((reply.spent for reply in replies.values()), self.paid)
        rows = [_row(key, self.identity, reply) for key, reply in replies.items()]

        def write() -> None:
            query = "insert or ignore into replies values (?, ?, ?, ?, ?, ?, ?, ?)"
            with self._file.writing() as file:
                # What another process kept meanwhile stays: somebody may have seen it.
                file.executemany(query, rows)

        await self._file.run_short(write)


def _base(identity: str, request: Request) -> bytes:
    """The hash of everything that all samples of a request share. What each sample brings itself is
    left out: its temperature.

    What came later than the first stores is left out too where a request says nothing of it.
    """
    parts = {
        **vars(request),
        "identity": identity,
        "steer": request.steer and request.steer.identity,
        # As it is written: properties come in the order of the schema.
        "schema": None if request.schema is None else json.dumps(request.schema),
    }
    del parts["temperature"]
    for name in _LATER:
        if getattr(request, name) == getattr(_NOTHING, name):
            del parts[name]
    return hashlib.sha256(
        json.dumps(parts, sort_keys=True, ensure_ascii=True, default=_plain).encode()
    ).digest()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return list(value) if isinstance(value, Iterable) else repr(value)


def _key(base: bytes, index: int, temperature: float) -> bytes:
    return hashlib.sha256(base + f":{index}:{float(temperature)!r}".encode()).digest()


def _row(key: bytes, identity: str, reply: Reply) -> tuple[Any, ...]:
    # asdict would copy every part; what a kind of reply has beside is not kept.
    own = {name: getattr(reply, name) for name in Reply.__dataclass_fields__}
    parts = {**own, "spent": vars(reply.spent)}
    text = json.dumps(parts, ensure_ascii=False, default=dict)
    costs = (reply.spent.money, reply.spent.flops)
    return (key, identity, reply.index, reply.temperature, text, *costs, time.time())
