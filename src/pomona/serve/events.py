"""Server-sent events: an answer as it grows, signs of life where it does not, an error event where
it breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pomona.serve.call import Call, stopped
from pomona.serve.errors import ClientGone
from pomona.serve.shapes import encode

_AHEAD = 64
_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}
_ALIVE = b": still at work\n\n"
_DONE = b"data: [DONE]\n\n"
_Item = bytes | Exception | None


async def send_events(call: Call, source: AsyncGenerator[bytes, None]) -> None:
    """Send what `source` gives, then [DONE]. Raises its error when nothing was sent yet; afterwards
    an error event ends the stream.

    `source` is closed when the client leaves (ClientGone), reads too slowly, or time is up.
    """
    queue: asyncio.Queue[_Item] = asyncio.Queue(_AHEAD)
    pump = asyncio.ensure_future(_pump(source, queue, call.desk.settings.timeout))
    gone = asyncio.ensure_future(call.gone())

    def left(task: asyncio.Future[None]) -> None:
        if not task.cancelled():
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(ClientGone())

    gone.add_done_callback(left)
    try:
        await _forward(call, queue)
    finally:
        await stopped(pump, gone)


async def _pump(
    source: AsyncGenerator[bytes, None], queue: asyncio.Queue[_Item], seconds: float
) -> None:
    try:
        async with asyncio.timeout(seconds), aclosing(source):
            async for event in source:
                await queue.put(event)
    except Exception as error:
        await queue.put(error)
    else:
        await queue.put(None)


async def _forward(call: Call, queue: asyncio.Queue[_Item]) -> None:
    while True:
        try:
            async with asyncio.timeout(call.desk.settings.keep_alive):
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
            await call.send(event(call.failure(item).body), more=False)
            return
        if item is None:
            await call.send(_DONE, more=False)
            return
        await call.send(item)


def event(value: Any) -> bytes:
    """One event with a JSON value."""
    return b"data: " + encode(value) + b"\n\n"
