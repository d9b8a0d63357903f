"""Answers for programs that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from functools import cache
from typing import Any, TypeVar

from pomona.errors import PomonaError
from pomona.models.chat.protocol import ChatModel, Request
from pomona.sample.answer import Answer, answer
from pomona.sample.strategy import Strategy

Result = TypeVar("Result")


def answer_now(
    request: Request, models: ChatModel | Sequence[ChatModel], strategy: Strategy, **options: Any
) -> Answer:
    """`answer`, waited for. Works in notebooks too: all calls share one event loop in a thread of
    its own, and so may share models.
    """
    return wait_for(answer(request, models, strategy, **options))


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns, run in the thread of `answer_now`; an interrupt cancels it."""
    if asyncio._get_running_loop() is _loop():
        work.close()
        raise PomonaError(
            "cannot wait for an answer within the loop that makes it",
            remedy="await pomona.sample.answer.answer instead",
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
