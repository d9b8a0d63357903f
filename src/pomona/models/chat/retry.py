"""One ladder of retries for everything that goes over a network."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from pomona.models.chat.errors import ModelError

PASSING = frozenset({408, 409, 425, 429})  # and every 5xx
_TIMEOUTS = frozenset({408, 504})
Result = TypeVar("Result")


class Passing(Exception):
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
class Ladder:
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
    ladder: Ladder,
    *,
    where: str,
    key: str = "",
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Result:
    """What `once` returns, tried again as long as it raises Passing and the ladder allows; other
    errors end it at once.

    A ModelError when the ladder is used up: 504 after a timeout, 429 after a limit, else 502.
    """
    started = time.monotonic()
    failures = 0
    while True:
        try:
            return await once()
        except Passing as failure:
            failures += 1
            waited = time.monotonic() - started
            pause = max(ladder.pause(failures, key), failure.retry_after or 0.0)
            if failures >= ladder.attempts or waited + pause > ladder.total:
                raise given_up(failure, where, failures, waited) from failure
            await sleep(pause)


def given_up(failure: Passing, where: str, failures: int, waited: float) -> ModelError:
    """The error of a request whose retries are used up."""
    tries = "once" if failures == 1 else f"{failures} times in {waited:.0f} s"
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
        return max(0.0, float(value)) if value.strip().lower() not in {"nan", "inf"} else None
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
