"""Waiting for asynchronous work in programs that are not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

from pomona.errors import PomonaError

Result = TypeVar("Result")


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns, run in a thread that all calls share; an interrupt cancels it."""
    if asyncio._get_running_loop() is _loop():
        work.close()
        raise PomonaError(
            "cannot wait for an answer within the loop that makes it",
            remedy="await pomona.answers.answer.answer instead",
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
    threading.Thread(target=loop.run_forever, name="pomona sample", daemon=True).start()
    return loop
