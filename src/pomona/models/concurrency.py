"""What asyncio lacks: waiting from programs without a loop, several iterators as one, a fair
semaphore.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import cache
from typing import Any, TypeVar

from pomona.errors import PomonaError

Item = TypeVar("Item")
Result = TypeVar("Result")


async def merged(sources: Sequence[AsyncIterator[Item]]) -> AsyncGenerator[Item, None]:
    """The items of all sources as they come. The first failure is raised at once; all sources are
    closed before this ends.
    """
    if len(sources) == 1:
        only: Any = sources[0]
        async with aclosing(only):
            async for item in only:
                yield item
        return
    coming: asyncio.Queue[Item | _End] = asyncio.Queue(len(sources))
    tasks = [asyncio.ensure_future(_pumped(source, coming)) for source in sources]
    left = len(tasks)
    try:
        while left:
            item = await coming.get()
            if not isinstance(item, _End):
                yield item
                continue
            left -= 1
            if item.error is not None:
                raise item.error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _End:
    """A source has ended, by `error` where there is one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


async def _pumped(source: Any, coming: asyncio.Queue[Any]) -> None:
    try:
        async with aclosing(source):
            async for item in source:
                await coming.put(item)
    except Exception as error:
        await coming.put(_End(error))
    else:
        await coming.put(_End())


class FairSemaphore:
    """`total` places of a shared context, handed out first come first served. Belongs to one event
    loop.
    """

    def __init__(self, total: int) -> None:
        self._total, self._free = total, total
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Wait until `count` places are free, all of them where it is more, and keep them while the
        block runs.
        """
        count = min(count, self._total)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((count, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._queue = deque(waiting for waiting in self._queue if waiting[1] is not turn)
            else:  # let in and cancelled in the same moment
                self._free += count
            self._admit()
            raise
        try:
            yield
        finally:
            self._free += count
            self._admit()

    def _admit(self) -> None:
        while self._queue and self._queue[0][0] <= self._free:
            count, turn = self._queue.popleft()
            if not turn.done():
                self._free -= count
                turn.set_result(None)


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns, for programs that are not asynchronous; an interrupt cancels it.

    Works in notebooks too: all calls share one event loop in a thread of its own, and so may share
    models.
    """
    if asyncio._get_running_loop() is _loop():
        work.close()
        raise PomonaError(
            "cannot wait for an answer within the loop that makes it",
            remedy="await pomona.sample.answer instead",
        )
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="pomona", daemon=True).start()
    return loop
