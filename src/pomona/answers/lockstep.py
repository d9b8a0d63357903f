"""Rows in step: what a model computes together is a function of the rows alone, whatever is fast,
slow, or already there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pomona.answers.budget import Account
from pomona.answers.store import CachedModel
from pomona.models import Ask, Draw, Model, Reply, Request, load

Result = TypeVar("Result")
Work = Callable[[], Awaitable[Result]]
_ROW: ContextVar[int] = ContextVar("row")


class InStep(CachedModel):
    """A stored model whose requests wait for a round of `steps`. All of a round is computed
    together and kept together.
    """

    def __init__(self, model: Model, path: Path, steps: Lockstep) -> None:
        super().__init__(model, path)
        self._steps = steps

    async def each(self, request: Request, samples: Sequence[Draw]) -> AsyncGenerator[Reply, None]:
        """See the protocol; belongs to a row of the group that is in step."""
        for reply in await self._steps.ask(self, request, samples):
            yield reply

    async def answered(self, asked: Sequence[Ask]) -> list[list[Reply] | BaseException]:
        """A round: what is stored, and what is not from one call of the model, kept in one
        transaction before anybody sees it.
        """
        keys = [self._keys(*each) for each in asked]
        known: dict[bytes, Reply | BaseException] = {}
        hands: list[tuple[Request, dict[bytes, Draw]]] = []  # what is computed for each request
        claimed: set[bytes] = set()
        for (request, _), mine in zip(asked, keys, strict=True):
            known |= {mine[sample]: reply for sample, reply in (await self._held(mine)).items()}
            left = {key: at for at, key in mine.items() if key not in known and key not in claimed}
            claimed |= left.keys()  # of equal samples the first is computed
            if left:
                hands.append((request, left))
        fresh = await self._computed(hands) if hands else {}
        await self._keep({key: reply for key, reply in fresh.items() if isinstance(reply, Reply)})
        known |= fresh
        return [
            _all_or_error([known[mine[sample]] for sample in samples])
            for (_, samples), mine in zip(asked, keys, strict=True)
        ]

    async def _computed(
        self, hands: Sequence[tuple[Request, Mapping[bytes, Draw]]]
    ) -> dict[bytes, Reply | BaseException]:
        computed: dict[bytes, Reply | BaseException] = {}
        asks = [(request, list(hand.values())) for request, hand in hands]
        for (_, hand), replies in zip(hands, await self.model.together(asks), strict=True):
            failed = isinstance(replies, BaseException)
            computed |= (
                dict.fromkeys(hand, replies) if failed else dict(zip(hand, replies, strict=True))
            )
        return computed


def _all_or_error(replies: Sequence[Reply | BaseException]) -> list[Reply] | BaseException:
    error = next((reply for reply in replies if isinstance(reply, BaseException)), None)
    return error or [reply for reply in replies if isinstance(reply, Reply)]


@dataclass(eq=False)
class _Call:
    row: int
    model: InStep
    asked: Ask
    replies: asyncio.Future[list[Reply]]


class Lockstep:
    """Runs a group of rows in rounds.

    A round begins when each row that has not ended waits for it, and takes all that they ask; its
    replies come back at the same moment. So its composition does not depend on time, and since the
    store keeps a round wholly or not at all, a run that was killed makes the very same rounds
    again. Only where a request waits for room in the budget, which nothing but answers can make,
    the others go ahead.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        account.when_waiting = self._look_soon
        self._rows: set[int] = set()
        self._calls: list[_Call] = []
        self._round: asyncio.Task[None] | None = None

    async def run(self, work: Mapping[int, Work[Result]]) -> list[Result]:
        """What the work of each row gives, in order; the next group can be run afterwards. An error
        ends them all.
        """
        self._rows = set(work)
        try:
            return await together([self._until_end(row, each) for row, each in work.items()])
        finally:
            if self._round is not None:
                self._round.cancel()
            self._calls, self._round = [], None

    async def ask(self, model: InStep, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        """The replies to a request of the row that the caller's task belongs to, after the next
        round.
        """
        call = _Call(
            _ROW.get(), model, (request, samples), asyncio.get_running_loop().create_future()
        )
        self._calls.append(call)
        self._look_soon()
        return await call.replies

    async def _until_end(self, row: int, work: Work[Result]) -> Result:
        _ROW.set(row)
        try:
            return await work()
        finally:
            self._rows.discard(row)
            self._look_soon()

    def _look_soon(self) -> None:
        """Look after all that can go on now has gone on: a row may ask several things at once."""
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if (
            self._calls
            and self._round is None
            and (self.account.waiting or self._rows <= {call.row for call in self._calls})
        ):
            self._round = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        # By row, not by arrival, so that what is computed together does not depend on time.
        calls, self._calls = sorted(self._calls, key=lambda call: call.row), []
        by_model: dict[InStep, list[_Call]] = {}
        for call in calls:
            by_model.setdefault(call.model, []).append(call)
        works = (model.answered([call.asked for call in mine]) for model, mine in by_model.items())
        answers = await asyncio.gather(*works, return_exceptions=True)
        for mine, pools in zip(by_model.values(), answers, strict=True):
            each = [pools] * len(mine) if isinstance(pools, BaseException) else pools
            for call, replies in zip(mine, each, strict=True):
                if call.replies.done():
                    continue
                if isinstance(replies, BaseException):
                    call.replies.set_exception(replies)
                else:
                    call.replies.set_result(replies)
        self._round = None
        self._look_soon()


@dataclass
class Opener:
    """Opens each model once, behind the store of its answers. What it opened is closed with the
    stack, what was given is not.

    Without a store nothing is kept. Models that compute here answer in rounds of `steps`.
    """

    options: Mapping[str, Any]
    store: Path | None
    steps: Lockstep
    stack: AsyncExitStack
    opened: dict[str, Model] = field(default_factory=dict)

    def __call__(self, model: str | Model) -> Model:
        """A model, opened where it is a URI."""
        if not isinstance(model, str):
            kept = self._kept(model)
            if isinstance(kept, CachedModel) and kept is not model:
                self.stack.callback(kept.close_file)
            return kept
        if model not in self.opened:
            self.opened[model] = self._kept(load(model, **self.options))
            self.stack.push_async_callback(self.opened[model].close)
        return self.opened[model]

    def _kept(self, model: Model) -> Model:
        if self.store is None or isinstance(model, CachedModel):
            return model
        if model.local:
            return InStep(model, self.store, self.steps)
        return CachedModel(model, self.store)


async def together(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """What all of the work gives, in order. When one fails or the caller is cancelled, the others
    are cancelled too.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as failed:  # callers know the error of a row, not a group of one
        raise failed.exceptions[0] from failed.exceptions[0].__cause__
    return [task.result() for task in tasks]
