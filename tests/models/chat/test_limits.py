"""Rates in any 60 seconds, pauses of the policy, Retry-After: with a clock that tests move."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.models.concurrency import (
    FairSemaphore,
    Rate,
    RequestLimits,
    RetryPolicy,
    TransientError,
    retry_after,
    retrying,
)
from pomona.models.request import ModelError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def _through(limits: RequestLimits, clock: Clock, sizes: list[int]) -> list[float]:
    times = []
    for size in sizes:
        async with limits.turn(size):
            times.append(clock.now)
    return times


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 5), st.integers(20, 60)
)
def test_no_minute_holds_more_than_the_rate(sizes: list[int], requests: int, tokens: int) -> None:
    clock = Clock()
    limits = RequestLimits(1, Rate(requests, tokens), clock=clock.read, sleep=clock.sleep)
    times = asyncio.run(_through(limits, clock, sizes))
    for start in times:
        inside = [
            size
            for time, size in zip(times, sizes, strict=True)
            if start <= time < start + 60 - 1e-6
        ]
        assert len(inside) <= requests
        assert sum(inside) <= tokens or len([size for size in inside if size]) == 1


def test_a_held_server_gets_nothing_for_so_long_and_then_not_all_at_once() -> None:
    clock = Clock()
    limits = RequestLimits(4, clock=clock.read, sleep=clock.sleep)
    limits.hold(7.5)
    first, second = asyncio.run(_through(limits, clock, [1, 1]))
    assert 1007.5 < first < 1008.25 and first <= second < 1009
    clock.now = 1010.0
    assert asyncio.run(_through(limits, clock, [1, 1])) == [1010.0, 1010.0]


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(PomonaError, match="requests is 0"):
        Rate(requests=0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("-1", 0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0),
    ],
)
def test_retry_after_reads_seconds_and_dates(value: str, seconds: float) -> None:
    assert retry_after(value, now=datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("value", [None, "", "soon", "nan", "inf"])
def test_retry_after_that_says_nothing_is_nothing(value: str | None) -> None:
    assert retry_after(value) is None


@given(st.integers(1, 12), st.integers(0, 99))
def test_pauses_double_within_bounds_and_repeat(failures: int, seed: int) -> None:
    policy = RetryPolicy(first=0.5, longest=8.0, seed=seed)
    full = min(8.0, 0.5 * 2 ** (failures - 1))
    assert full / 2 <= policy.pause(failures, "x") <= full
    assert policy.pause(failures, "x") == policy.pause(failures, "x")


def test_the_policy_stops_after_its_attempts() -> None:
    slept: list[float] = []

    async def fails() -> None:
        raise TransientError("status 500: no", status=500)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with pytest.raises(
        ModelError,
        match=(
            r"^server: failed 3 times, the last time: status 500: no — check that the "
            r"server is up"
        ),
    ):
        asyncio.run(retrying(fails, RetryPolicy(attempts=3), where="server", sleep=sleep))
    assert len(slept) == 2


def test_cells_are_never_overbooked_and_come_back_after_a_cancellation() -> None:
    async def main() -> None:
        cells, inside, most = FairSemaphore(10), 0, 0

        async def take(count: int) -> None:
            nonlocal inside, most
            async with cells.taken(count):
                inside += min(count, 10)
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= min(count, 10)

        tasks = [asyncio.ensure_future(take(count)) for count in (4, 5, 40, 3, 3, 9, 1)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        tasks[5].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await take(10)
        assert most == 10

    asyncio.run(main())
