"""One request under way in a worker thread, and the texts that grow in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pomona.models.chat._text import cut, settled
from pomona.models.chat.protocol import Request

_MARGIN = 16  # tokens before a stop string that are read again, so that characters split over tokens come out whole


@dataclass
class Job:
    """A request as token ids, the samples wanted of it, and where the answer goes. Only the worker touches `growing`."""

    request: Request
    prompt: str
    ids: list[int]
    samples: Sequence[tuple[int, float]]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    told: Callable[[str], None] | None = None
    cancelled: bool = False
    growing: list[Growing] = field(default_factory=list)

    def finish(self, result: object = None, error: BaseException | None = None) -> None:
        """Give the result or the error to whoever waits, unless that is gone."""

        def settle() -> None:
            if not self.future.done():
                if error is not None:
                    self.future.set_exception(error)
                else:
                    self.future.set_result(result)

        self.tell(settle)

    def tell(self, call: Callable[[], None]) -> None:
        """Run `call` in the event loop of whoever waits; a loop that is closed wants nothing any more."""
        try:
            self.loop.call_soon_threadsafe(call)
        except RuntimeError:
            self.cancelled = True


class Growing:
    """One answer that grows token by token: says when a stop string has come, and tells the text that is settled."""

    def __init__(self, text_of: Callable[[np.ndarray], str], stops: Sequence[str], told: Callable[[str], None] | None) -> None:
        self._text_of, self._stops, self._told = text_of, stops, told
        self._window = max((len(stop.encode()) for stop in stops), default=0) + _MARGIN
        self._ids: list[int] = []
        self._given = 0

    def add(self, token: int) -> bool:
        """Take one token; True when the answer ends with it."""
        self._ids.append(token)
        if self._told is None:
            return cut(self._text_of(np.array(self._ids[-self._window :])), self._stops)[1]
        text, ended = cut(self._text_of(np.array(self._ids)), self._stops)
        self._give(text if ended else settled(text, self._stops))
        return ended

    def end(self, text: str) -> None:
        """Tell what is left of the whole text."""
        self._give(text)

    def _give(self, text: str) -> None:
        if self._told is not None and len(text) > self._given:
            self._told(text[self._given :])
            self._given = len(text)
