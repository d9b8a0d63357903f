"""A budget ends within one sample of its limit, whatever runs at the same time, and everything paid for is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.errors import PomonaError
from pomona.models.chat import Request, Spent
from pomona.sample.budget import Account, Budget, Exhausted
from pomona.sample.drawing import draw

ASK = Request(messages=({"role": "user", "content": "hi"},), max_tokens=5)


def free(samples: int) -> Spent:
    return Spent()


def dear(samples: int) -> Spent:
    return Spent(40)


@given(limit=st.integers(1, 400), together=st.integers(1, 8), pool=st.integers(1, 6))
def test_the_limit_is_passed_by_less_than_one_sample(limit: int, together: int, pool: int, fake: Any) -> None:
    async def main() -> None:
        model, account = fake(), Account(Budget(tokens=limit))
        samples = [(at, 0.5) for at in range(pool)]
        results = await asyncio.gather(*(draw(model, ASK, samples, account) for _ in range(together)))
        used = account.spent.prompt_tokens + account.spent.completion_tokens
        assert used < limit + 15
        assert sum(len(replies) for replies, _ in results) == len(model.made)
        everything = together * pool
        if len(model.made) < everything:
            assert used >= limit
            assert any(met == "tokens" for _, met in results)
        assert all(met is None for replies, met in results if len(replies) == pool)

    asyncio.run(main())


def test_requests_run_together_while_all_fit(fake: Any) -> None:
    async def main() -> None:
        model, account = fake(), Account(Budget(tokens=100_000))
        await asyncio.gather(*(draw(model, ASK, [(0, 0.0), (1, 0.5)], account) for _ in range(8)))
        assert model.most_at_once == 8
        tight, account = fake(), Account(Budget(tokens=60))
        await asyncio.gather(*(draw(tight, ASK, [(0, 0.0)], account) for _ in range(8)))
        assert tight.most_at_once == 1

    asyncio.run(main())


def test_without_limits_a_pool_is_one_request(fake: Any) -> None:
    async def main() -> None:
        model = fake()
        await draw(model, ASK, [(at, 0.5) for at in range(9)], Account())
        assert model.calls == 1

    asyncio.run(main())


@pytest.mark.parametrize(("name", "limit"), [("flops", 2000.0), ("money", 5.0)])
def test_flops_and_money_end_it_too(name: str, limit: float, fake: Any) -> None:
    async def main() -> None:
        model, account = fake(), Account(Budget(**{name: limit}))
        for _ in range(9):
            _, met = await draw(model, ASK, [(0, 0.5)], account)
        assert met == name
        assert getattr(account.spent, name) < limit * 1.75
        assert len(model.made) == 2

    asyncio.run(main())


def test_time_ends_it() -> None:
    async def main() -> None:
        now = [0.0]
        account = Account(Budget(seconds=10), clock=lambda: now[0])
        async with account.turn(free):
            now[0] = 11.0
        assert account.met == "seconds"
        with pytest.raises(Exhausted):
            async with account.turn(free):
                pass

    asyncio.run(main())


def test_a_failure_frees_its_place() -> None:
    async def main() -> None:
        account = Account(Budget(tokens=50))
        with pytest.raises(ZeroDivisionError):
            async with account.turn(dear):
                raise ZeroDivisionError
        async with asyncio.timeout(1), account.turn(dear) as turn:
            assert turn.count == 1

    asyncio.run(main())


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_limits_are_positive(limit: float) -> None:
    with pytest.raises(PomonaError, match=r"budget: money is .* — give a positive number, or leave it out for no limit"):
        Budget(money=limit)
