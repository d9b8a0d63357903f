"""What asyncio lacks: waiting from programs without a loop, several iterators as one, a fair
semaphore, how much may be asked of a server at once and a minute, and when to try again.
"""

from __future__ import annotations

import asyncio
import logging
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

_log = logging.getLogger("pomona.models")
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
_NOT_READY = frozenset({502, 503})
_LONGEST_LOOK = 5.0  # seconds between two looks for a server that is waited for


class TransientError(Exception):
    """A failure that may pass: `status` as the server gave it (None without an answer),
    `retry_after` seconds it asked to wait; `refused` where there was no connection to it, `broken`
    where it ended before an answer came.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        timeout: bool = False,
        refused: bool = False,
        broken: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.status, self.retry_after = reason, status, retry_after
        self.refused, self.broken = refused, broken
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


class Unreachable(ModelError):
    """A server takes no connections, and was looked for as long as it is waited for."""


class Presence:
    """Whether a server is there. Where it refuses a connection, all that is asked of it waits
    together while `look`, the least that can be asked, is tried again and again.

    It is given up after the attempts of the policy, or after `wait` seconds; from then on whatever
    it refuses fails at once, until it has answered again. With `wait`, a server that has not
    answered yet may say that it is not ready (503, as llama.cpp's does; 502 of what stands before
    it), or end connections, as Docker does for it. Belongs to one event loop.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[object]],
        policy: RetryPolicy,
        where: str,
        wait: float | None = None,
    ) -> None:
        self._look, self._policy, self._where, self._wait = look, policy, where, wait
        self._answered, self._gone, self._in_vain = False, False, 0
        self._looking: asyncio.Task[bool] | None = None
        self._waiting = 0

    def there(self) -> None:
        """It has answered."""
        self._answered, self._gone, self._in_vain = True, False, 0

    def misses(self, failure: TransientError) -> bool:
        """Whether a failure says that it is not there."""
        starting = self._wait is not None and not self._answered
        return failure.refused or (starting and (failure.broken or failure.status in _NOT_READY))

    async def asked(self, once: Callable[[], Awaitable[Result]]) -> Result:
        """What `once` gives, from the server that is there or comes back. Unreachable where it is
        given up.
        """
        while True:
            try:
                result = await once()
            except TransientError as failure:
                if not self.misses(failure):
                    self._gone = False
                    raise
                await self.back(failure)
            else:
                self.there()
                return result

    async def back(self, failure: TransientError) -> None:
        """Wait with all others until it is there again."""
        if not self._gone and self._in_vain < self._policy.attempts:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._come(failure))
            looking, self._waiting = self._looking, self._waiting + 1
            try:
                self._gone = not await asyncio.shield(looking)
            finally:
                self._waiting -= 1
                if not self._waiting:  # nobody wants to know any more
                    looking.cancel()
                    self._looking = None
            if not self._gone:
                return
        remedy = "check that the server is up and healthy"
        message = f"cannot be reached: {failure.reason}"
        raise Unreachable(
            message, status=502, where=self._where, remedy=remedy, upstream=failure.status
        ) from failure

    async def _come(self, failure: TransientError) -> bool:
        """Look until it is there; False where it is given up."""
        started, tries = time.monotonic(), 1
        self._in_vain += 1  # it may take connections for this, and none for what it is asked
        while (pause := self._pause(tries, started)) is not None:
            if tries == 1:
                _log.warning("%s cannot be reached: waiting (%s)", self._where, failure.reason)
            await asyncio.sleep(pause)
            tries += 1
            try:
                await self._look()
            except TransientError as again:
                if not self.misses(again):
                    return True
            except ModelError:  # it need not know what is looked for
                return True
            else:
                return True
        return False

    def _pause(self, tries: int, started: float) -> float | None:
        """Seconds until it is looked for again; None where it is given up."""
        waited, policy = time.monotonic() - started, self._policy
        pause = policy.pause(tries, self._where)
        if self._wait is None:
            over = tries >= policy.attempts or waited + pause > policy.total
            return None if over else pause
        left = self._wait - waited
        return min(pause, left, _LONGEST_LOOK) if left > 0 else None


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
