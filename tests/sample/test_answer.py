from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from pomona.answers import Account, Answer, Budget
from pomona.errors import PomonaError, ResourceError
from pomona.models import ModelError, Reply, Request, Spent, wait_for
from pomona.sample import answer, answer_now, parse_strategy, temperatures
from pomona.sample.strategy import ladder

ASK = Request(messages=({"role": "user", "content": "How many?"},), max_tokens=5)


def answered(models: Any, strategy: str, request: Request = ASK, **options: Any) -> Answer:
    return asyncio.run(answer(request, models, parse_strategy(strategy), **options))


def test_a_pool_and_its_choice(fake: Any) -> None:
    model = fake(
        lambda _request, index, _temperature: "it is 4" if index in {2, 4} else f"it is {index}"
    )
    found = answered(model, "hedged5-vote-number")
    assert [reply.temperature for reply in found.candidates] == [0.0, 0.8, 0.8, 0.8, 0.8]
    assert (found.text, found.chosen, found.scores) == ("it is 4", 2, (0.2, 0.2, 0.4, 0.2, 0.4))
    assert found.reply == found.candidates[2]
    assert found.spent == Spent(10, 25, 3500.0, 8.75, 2.5)
    assert (found.stopped_by, found.strategy) == ("complete", "hedged5-vote-number")
    assert found.notes["pool"] == {"size": 5, "distinct": 0.8, "agreement": 0.4}
    assert model.calls == 1
    json.dumps(asdict(found))


@pytest.mark.parametrize(
    ("name", "models", "expected"),
    [
        ("greedy", 1, [0.0]),
        ("sample3", 1, [0.3] * 3),
        ("sample3-t1.5", 1, [1.5] * 3),
        ("hedged5", 2, [0.0, 0.0, 0.3, 0.3, 0.3]),
        ("ladder5-t1", 1, [0.0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_temperatures_of_a_pool(name: str, models: int, expected: list[float]) -> None:
    assert temperatures(parse_strategy(name), replace(ASK, temperature=0.3), models) == expected
    assert temperatures(parse_strategy("sample2"), ASK) == [0.8, 0.8]
    assert ladder(1, 0.7) == [0.0]


def test_several_models_share_a_pool(fake: Any) -> None:
    one, other = fake(name="one"), fake(name="other")
    found = answered([one, other], "hedged5-mbr")
    assert [reply.model for reply in found.candidates] == ["one", "other", "one", "other", "one"]
    assert [reply.index for reply in found.candidates] == [0, 1, 2, 3, 4]
    with pytest.raises(
        PomonaError, match=r'strategy "greedy": 2 models for 1 answer — draw at least 2'
    ):
        answered([one, other], "greedy")
    with pytest.raises(PomonaError, match="there is no model"):
        answered([], "greedy")


def test_strategy_and_seed_override_the_request(fake: Any) -> None:
    model = fake()
    answered(model, "sample2-topp0.5-minp0.1", replace(ASK, top_p=0.9, seed=1), seed=7)
    request = model.made[0][0]
    assert (request.top_p, request.min_p, request.seed) == (0.5, 0.1, 7)
    answered(model, "sample2", replace(ASK, top_p=0.9, seed=1))
    assert (model.made[-1][0].top_p, model.made[-1][0].seed) == (0.9, 1)


def test_it_stops_when_answers_agree(fake: Any) -> None:
    agreed = fake(lambda _request, _index, _temperature: "4")
    reply = answered(agreed, "hedged16-vote-stop0.9")
    assert (reply.stopped_by, len(reply.candidates), len(agreed.made)) == ("agreement", 4, 4)
    divided = fake()
    assert answered(divided, "hedged16-vote-stop0.9").stopped_by == "complete"
    assert len(divided.made) == 16
    late = fake(lambda _request, index, _temperature: "4" if index > 2 else str(index))
    assert len(answered(late, "hedged16-vote-stop0.6-round2").candidates) == 8
    assert answered(agreed, "hedged4-vote-stop0.9").stopped_by == "complete"


def test_a_budget_keeps_what_was_paid_and_chooses_from_it(fake: Any) -> None:
    reply = answered(fake(), "hedged5-mbr", budget=Budget(tokens=35))
    assert reply.stopped_by == "tokens"
    assert len(reply.candidates) == len(reply.scores) == 3
    assert reply.spent.prompt_tokens + reply.spent.completion_tokens == 45
    account = Account(Budget(tokens=10))
    assert len(answered(fake(), "hedged5-mbr", budget=account).candidates) == 1
    idle = fake()
    with pytest.raises(
        ResourceError, match="the budget of tokens: was spent before the first answer — raise it"
    ):
        answered(idle, "greedy", budget=account)
    assert not idle.made


def test_what_no_model_can_do_is_refused_before_it_is_paid_for(fake: Any) -> None:
    model = fake()
    with pytest.raises(
        PomonaError,
        match=(
            'strategy "hedged5-mbr-embedding": no model gives embeddings — give a judge that embeds'
        ),
    ):
        answered(model, "hedged5-mbr-embedding")
    assert not model.made


def test_log_probabilities_are_asked_for_where_text_cannot_be_scored(fake: Any) -> None:
    model, scorer = fake(), fake(abilities=frozenset({"score"}))
    assert answered(model, "hedged3-best").scores == (0.0, -0.2, -0.4)
    assert model.made[0][0].logprobs == 0
    answered(model, "hedged3-best", Request(prompt="p"))
    assert model.made[-1][0].logprobs == 0
    answered(scorer, "hedged3-best")
    assert scorer.made[0][0].extra == {}


class Lever:
    """Adds its name to the request, and to each answer, for 3 tokens."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def before(self, request: Request, model: Any) -> tuple[Request, Mapping[str, Any]]:
        content = request.messages[0]["content"] + self.name
        return replace(request, messages=({"role": "user", "content": content},)), {
            "checklist": [f"mentions {self.name}"]
        }

    async def after(
        self, request: Request, reply: Reply, model: Any, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        assert request.messages[0]["content"] == "How many?AB"
        assert notes["checklist"] == [f"mentions {self.name}"]
        return replace(
            reply, text=reply.text + self.name, spent=reply.spent + Spent(completion_tokens=3)
        ), {"index": reply.index}


def test_contexts_go_round_every_candidate_and_are_paid_for(fake: Any) -> None:
    model, account = fake(), Account()
    found = answered(model, "hedged3-chops", context=[Lever("A"), Lever("B")], budget=account)
    assert [reply.text for reply in found.candidates] == ["answer 0BA", "answer 1BA", "answer 2BA"]
    assert found.notes["A"] == {"checklist": ["mentions A"], "index": found.chosen}
    assert found.notes["selection"]["checklist"][:2] == ["mentions A", "mentions B"]
    assert found.spent == account.spent
    assert found.spent.completion_tokens == 3 * 5 + 3 * 6 + 2 * 5


class Loop(Lever):
    """Asks the model ten times more, as a tool loop would."""

    async def after(
        self, request: Request, reply: Reply, model: Any, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        spent = reply.spent
        for turn in range(10):
            spent += (await model.reply(replace(request, seed=turn), [(0, 0.0)]))[0].spent
        return replace(reply, text="looped", spent=spent), {}


def test_a_budget_ends_loops_within_contexts(fake: Any) -> None:
    account = Account(Budget(tokens=100))
    reply = answered(fake(), "greedy", context=[Loop("L")], budget=account)
    assert (reply.text, reply.stopped_by, reply.notes["L"]["stopped_by"]) == (
        "answer 0",
        "complete",
        "tokens",
    )
    assert reply.spent == account.spent
    assert 100 <= account.spent.prompt_tokens + account.spent.completion_tokens < 115
    free = Account()
    assert answered(fake(), "greedy", context=[Loop("L")], budget=free).spent == free.spent
    assert free.spent.completion_tokens == 55


def test_a_failing_model_is_an_error(fake: Any) -> None:
    model = fake()
    model.broken = True
    with pytest.raises(ModelError, match="the server is down"):
        answered([fake(), model], "hedged5-mbr")


def test_waiting_calls_share_one_loop(fake: Any) -> None:
    model, strategy = fake(), parse_strategy("greedy")
    assert answer_now(ASK, model, strategy).text == "answer 0"

    async def within_a_loop() -> str:
        return answer_now(ASK, model, strategy, budget=Budget(tokens=9)).text

    assert asyncio.run(within_a_loop()) == "answer 0"
    told = "cannot wait for an answer within the loop that makes it — await pomona.sample.answer"
    with pytest.raises(PomonaError, match=told):
        wait_for(within_a_loop())
