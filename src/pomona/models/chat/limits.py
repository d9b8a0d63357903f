"""How much may be asked of a server at once and a minute."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pomona.errors import PomonaError

_MINUTE = 60.0
_SPREAD = 0.1


@dataclass(frozen=True)
class Rate:
    """Requests and tokens a minute, None for no limit."""

    requests: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("requests", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PomonaError(
                    f"{name} is {value}",
                    where="rate",
                    remedy="give a positive number, or leave it out",
                )


@dataclass
class Turn:
    """One request under way. `tokens` is the estimate it was let in with; set it to what was used
    before the turn ends.
    """

    tokens: int
    started: float = field(default=0.0)


class Limits:
    """Lets requests in, first come first served: never more than `concurrency` at once, nor more
    than the rate in any 60 seconds.

    Belongs to one event loop. A request larger than the whole limit of tokens goes alone.
    `hold(seconds)` keeps everybody back: a server that told one request to wait meant all.
    """

    def __init__(
        self,
        concurrency: int,
        rate: Rate | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if concurrency < 1:
            raise PomonaError(
                f"concurrency is {concurrency}", remedy="allow at least one request at a time"
            )
        self._places = asyncio.Semaphore(concurrency)
        self._gate = asyncio.Lock()
        self._rate = rate or Rate()
        self._recent: deque[Turn] = deque()
        self._held_until = self._spread = 0.0
        self._clock, self._sleep = clock, sleep

    @asynccontextmanager
    async def turn(self, tokens: int = 0) -> AsyncIterator[Turn]:
        """Wait for a place and for the rate to allow `tokens` more."""
        async with self._places:
            async with self._gate:
                while (wait := self._wait(tokens)) > 0:
                    await self._sleep(wait)
                turn = Turn(tokens, self._clock())
                if self._rate.requests is not None or self._rate.tokens is not None:
                    self._recent.append(turn)
            if turn.started < self._held_until + self._spread:
                await self._sleep(random.uniform(0.0, self._spread))
                turn.started = self._clock()
            yield turn

    def hold(self, seconds: float) -> None:
        """Let nobody in for so many seconds; those who waited come at random moments of the next
        tenth of that, not all at once.
        """
        until = self._clock() + seconds
        if until > self._held_until:
            self._held_until, self._spread = until, _SPREAD * seconds

    def _wait(self, tokens: int) -> float:
        """Seconds until a request of so many tokens may go; 0 for now."""
        now = self._clock()
        while self._recent and self._recent[0].started <= now - _MINUTE:
            self._recent.popleft()
        wait = max(0.0, self._held_until - now)
        rate, used = self._rate, sum(turn.tokens for turn in self._recent)
        if self._recent and rate.requests is not None and len(self._recent) >= rate.requests:
            wait = max(
                wait, self._recent[len(self._recent) - rate.requests].started + _MINUTE - now
            )
        if rate.tokens is not None:
            for turn in self._recent:
                if used + tokens <= rate.tokens:
                    break
                used -= turn.tokens
                wait = max(wait, turn.started + _MINUTE - now)
        return wait
