"""One request under way in a worker thread, and the texts that grow in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pomona.models.chat._text import cut, settled
from pomona.models.chat.protocol import Piece, Request, Sample, Token

# tokens before a stop string that are read again, so that characters split over tokens come out
# whole
_MARGIN = 16


@dataclass
class Job:
    """A request as token ids, the samples wanted of it, and where the answer goes. Only the worker
    touches `growing`.
    """

    request: Request
    prompt: str
    ids: list[int]
    samples: Sequence[Sample]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    told: Callable[[Piece], None] | None = None
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
        """Run `call` in the event loop of whoever waits; a loop that is closed wants nothing any
        more.
        """
        try:
            self.loop.call_soon_threadsafe(call)
        except RuntimeError:
            self.cancelled = True


class Growing:
    """One answer that grows token by token: says when a stop string has come, and tells the text
    that is settled, as sample `index`.
    """

    def __init__(
        self,
        text_of: Callable[[np.ndarray], str],
        stops: Sequence[str],
        told: Callable[[Piece], None] | None,
        index: int,
    ) -> None:
        self._text_of, self._stops, self._told, self._index = text_of, stops, told, index
        self._window = max((len(stop.encode()) for stop in stops), default=0) + _MARGIN
        self._ids: list[int] = []
        self._waiting: deque[Token] = deque()
        self._given = self._given_bytes = self._given_tokens = 0

    def add(self, id: int, token: Token | None) -> bool:
        """Take one token, with what is to be told of it where that was asked for; True when the
        answer ends with it.
        """
        self._ids.append(id)
        if token is not None:
            self._waiting.append(token)
        if self._told is None:
            return cut(self._text_of(np.array(self._ids[-self._window :])), self._stops)[1]
        text, ended = cut(self._text_of(np.array(self._ids)), self._stops)
        if not ended:
            text = settled(text, self._stops)
        if len(text) > self._given:
            self._give(text, self._spelled(text))
        return ended

    def end(self, text: str, tokens: Sequence[Token]) -> None:
        """Tell what is left of the whole text and of its tokens."""
        if len(text) > self._given or len(tokens) > self._given_tokens:
            self._give(text, tokens[self._given_tokens :])

    def _spelled(self, text: str) -> list[Token]:
        """The tokens not yet told that end within the text."""
        found: list[Token] = []
        size = len(text.encode()) if self._waiting else 0
        while self._waiting and (end := self._given_bytes + len(self._waiting[0]["bytes"])) <= size:
            found.append(self._waiting.popleft())
            self._given_bytes = end
        return found

    def _give(self, text: str, tokens: Sequence[Token]) -> None:
        if self._told is not None:
            self._told(Piece(text[self._given :], self._index, tuple(tokens)))
        self._given, self._given_tokens = len(text), self._given_tokens + len(tokens)
