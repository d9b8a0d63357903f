"""What asyncio lacks: waiting from programs without a loop, several iterators as one, a fair
semaphore, how much may be asked of a server at once and a minute, and when to try again.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, TypeVar

from pomona.errors import PomonaError
from pomona.models.request import ModelError

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


_STARTING = threading.Lock()


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


def _loop() -> asyncio.AbstractEventLoop:
    with _STARTING:  # threads that come first at the same moment must not make two
        return _started_loop()


@cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="pomona", daemon=True).start()
    return loop


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


class RequestLimits:
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


TRANSIENT = frozenset({408, 409, 425, 429})  # and every 5xx
_TIMEOUTS = frozenset({408, 504})


class TransientError(Exception):
    """A failure that may pass: `status` as the server gave it (None without an answer),
    `retry_after` seconds it asked to wait.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        timeout: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.status, self.retry_after = reason, status, retry_after
        self.timeout = timeout or status in _TIMEOUTS


@dataclass(frozen=True)
class RetryPolicy:
    """At most `attempts` tries within `total` seconds; the pauses double from `first` to `longest`
    seconds.

    Each pause is shortened by a random factor from ½ to 1 that depends on `seed`.
    Where a server says how long to wait it is obeyed, unless that is past `total`.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 30.0
    total: float = 120.0
    seed: int = 0

    def pause(self, failures: int, key: str = "") -> float:
        """Seconds to wait after the `failures`-th failure (from 1) of the request called `key`."""
        jitter = random.Random(f"{self.seed}:{key}:{failures}").uniform(0.5, 1.0)
        return min(self.longest, self.first * 2 ** (failures - 1)) * jitter


async def retrying(
    once: Callable[[], Awaitable[Result]],
    policy: RetryPolicy,
    *,
    where: str,
    key: str = "",
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Result:
    """What `once` returns, tried again as long as it raises TransientError and the policy
    allows; other errors end it at once.

    A ModelError when the policy is used up: 504 after a timeout, 429 after a limit, else 502.
    """
    retries = Retries(policy, where, key)
    while True:
        try:
            return await once()
        except TransientError as failure:
            await sleep(retries.pause(failure))


class Retries:
    """The failures of one request so far, from now on."""

    def __init__(self, policy: RetryPolicy, where: str, key: str) -> None:
        self._policy, self._where, self._key = policy, where, key
        self._started, self._failures = time.monotonic(), 0

    def pause(self, failure: TransientError) -> float:
        """Seconds until the next try after one more failure; raises the ModelError of `retrying`
        when the policy is used up.
        """
        self._failures += 1
        waited = time.monotonic() - self._started
        pause = max(self._policy.pause(self._failures, self._key), failure.retry_after or 0.0)
        if self._failures >= self._policy.attempts or waited + pause > self._policy.total:
            raise _given_up(failure, self._where, self._failures) from failure
        return pause


def _given_up(failure: TransientError, where: str, failures: int) -> ModelError:
    """The error of a request whose retries are used up. It does not say how long they took: rows
    keep it as their reason, and the same run shall write the same.
    """
    tries = "once" if failures == 1 else f"{failures} times"
    if failure.timeout:
        status, remedy = 504, "raise the timeout, or ask for fewer tokens"
    elif failure.status == 429:
        status, remedy = 429, "set a lower rate or concurrency, or try again later"
    else:
        status, remedy = 502, "check that the server is up and healthy"
    message = f"failed {tries}, the last time: {failure.reason}"
    return ModelError(
        message,
        status=status,
        where=where,
        remedy=remedy,
        upstream=failure.status,
        retry_after=failure.retry_after,
    )


def retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds from a Retry-After header, a number or an HTTP date (RFC 9110, section 10.2.3); None
    where it says nothing usable.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
            when = when if when.tzinfo else when.replace(tzinfo=UTC)
            seconds = (when - (now or datetime.now(UTC))).total_seconds()
        except (TypeError, ValueError, OverflowError, IndexError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
