"""Several asynchronous iterators as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

Item = TypeVar("Item")


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
