"""A budget ends within one sample of its limit, whatever runs at the same time, and everything paid
for is kept.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pomona.answers import Account, Budget, Exhausted, draw, forecaster
from pomona.errors import PomonaError
from pomona.models import Request, Spent
from pomona.sample import answer, forecast_answer, parse_strategy

ASK = Request(messages=({"role": "user", "content": "hi"},), max_tokens=5)


def free(samples: int) -> Spent:
    return Spent()


def dear(samples: int) -> Spent:
    return Spent(40)


@given(limit=st.integers(1, 400), together=st.integers(1, 8), pool=st.integers(1, 6))
def test_the_limit_is_passed_by_less_than_one_sample(
    limit: int, together: int, pool: int, fake: Any
) -> None:
    async def main() -> None:
        model, account = fake(), Account(Budget(tokens=limit))
        samples = [(at, 0.5) for at in range(pool)]
        results = await asyncio.gather(
            *(draw(model, ASK, samples, account) for _ in range(together))
        )
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


SCORED = frozenset({"score", "embed"})


def spend(
    fake: Any, name: str, limit: int | None, say: Any = None, **settings: Any
) -> tuple[Any, Any, Any]:
    """The answer of a strategy judged by another model, with that model and what the budget
    says.
    """
    judge = fake(name="judge", abilities=SCORED)
    account = Account(Budget(tokens=limit))
    reply = asyncio.run(
        answer(ASK, fake(say), parse_strategy(name), judge=judge, budget=account, **settings)
    )
    return reply, judge, account


@pytest.mark.parametrize("name", ["hedged5-best", "hedged5-mbr-embedding"])
def test_scoring_and_embedding_are_paid_for(fake: Any, name: str) -> None:
    found, judge, account = spend(fake, name, None)
    drawn = sum((reply.spent for reply in found.candidates), Spent())
    texts = sum(len(reply.text) for reply in found.candidates)
    assert account.spent == found.spent
    judged = (
        found.spent.prompt_tokens
        + found.spent.completion_tokens
        - drawn.prompt_tokens
        - drawn.completion_tokens
    )
    assert judged == texts + (50 if name.endswith("best") else 0)
    assert sum(judge.scored) == (5 if name.endswith("best") else 0)
    most = forecast_answer([fake()], ASK, parse_strategy(name), judge)
    pool = forecaster(fake(), ASK)(5)
    assert (
        most.prompt_tokens + most.completion_tokens - pool.prompt_tokens - pool.completion_tokens
        >= 5 * ASK.max_tokens
    )


@pytest.mark.parametrize(("limit", "scored"), [(36, 0), (100, 4), (1000, 5)])
def test_a_limit_ends_scoring_within_one_text(fake: Any, limit: int, scored: int) -> None:
    found, judge, account = spend(fake, "hedged5-best", limit)
    used = account.spent.prompt_tokens + account.spent.completion_tokens
    assert sum(judge.scored) == scored
    assert used < limit + 18  # one text with its prompt
    if scored == 5:
        assert judge.scored == [5]
    else:
        assert (
            "the budget of tokens was spent before the choice"
            in found.notes["selection"]["fallback"]
        )
        assert set(judge.scored) <= {1}


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
    with pytest.raises(
        PomonaError,
        match=r"budget: money is .* — give a positive number, or leave it out for no limit",
    ):
        Budget(money=limit)


@pytest.mark.parametrize("local", [False, True])
def test_seconds_end_what_is_under_way_and_keep_what_came(fake: Any, local: bool) -> None:
    class Slow(fake):  # type: ignore[misc]
        async def each(self, request: Request, samples: Any) -> Any:
            async for reply in super().each(request, samples):
                await asyncio.sleep(0.05 if reply.index < 2 else 60)
                yield reply

    async def main() -> None:
        model, account = Slow(), Account(Budget(seconds=0.5))
        model.local = local
        samples = [(at, 0.5) for at in range(4)]
        replies, met = await asyncio.wait_for(draw(model, ASK, samples, account), 10)
        assert [reply.index for reply in replies] == [0, 1]
        assert met == "seconds"
        assert account.spent.completion_tokens == 10
        with pytest.raises(Exhausted):
            async with account.turn(free):
                raise AssertionError("the time was over before")

    asyncio.run(main())
