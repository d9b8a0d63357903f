"""Steering is the formula, on a real checkpoint."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.models import ModelError, Request, locate
from pomona.models.http import HttpModel
from pomona.models.torch import TorchModel
from pomona.sample import answer, parse_strategy
from pomona.sample.context import Context, Datastore, Steering
from pomona.sample.context.steering import steered

WANTED = [
    "<|de|>Delete the page<|to|>Seite entfernen",
    "<|de|>Delete<|to|>Entfernen",
    "<|de|>Delete the user<|to|>Benutzer entfernen",
]
UNWANTED = [
    "<|de|>Delete the page<|to|>Seite löschen",
    "<|de|>Delete<|to|>Löschen",
    "<|de|>Delete the user<|to|>Benutzer löschen",
]


@pytest.fixture
def model() -> Iterator[TorchModel]:
    model = TorchModel("ui-xs", locate("ui-xs"))
    yield model
    asyncio.run(model.close())


def naive(
    logits: list[float], wanted: list[float], unwanted: list[float], alpha: float, top_p: float
) -> list[float]:
    """The formula, one token after the other."""
    total = math.log(sum(math.exp(z) for z in logits))
    kept, mass = set(), 0.0
    for token in sorted(range(len(logits)), key=lambda token: (-logits[token], token)):
        if mass >= top_p and top_p < 1:
            break
        kept.add(token)
        mass += math.exp(logits[token] - total)
    scores = {
        token: logits[token] - total + alpha * (wanted[token] - unwanted[token]) for token in kept
    }
    norm = math.log(sum(math.exp(score) for score in scores.values()))
    return [scores[token] - norm if token in kept else -math.inf for token in range(len(logits))]


rows = st.lists(st.integers(-60, 60).map(lambda n: n / 10), min_size=6, max_size=6, unique=True)


@settings(max_examples=40)
@given(rows, rows, rows, st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.3, 0.9, 1.0]))
def test_the_formula(
    logits: list[float], wanted: list[float], unwanted: list[float], alpha: float, top_p: float
) -> None:
    logits_steered = steered(
        torch.tensor([logits]),
        torch.tensor([wanted]),
        torch.tensor([unwanted]),
        alpha=alpha,
        top_p=top_p,
    )[0].tolist()
    assert logits_steered == pytest.approx(naive(logits, wanted, unwanted, alpha, top_p), abs=1e-4)


def test_neighbours_vote_with_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Datastore(
        torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]),
        torch.tensor([1, 2, 1, 3]),
        "x",
    )
    weights = [math.exp(-distance / 2) for distance in (0, 1, 4)]
    expected = {1: (weights[0] + weights[2]) / sum(weights), 2: weights[1] / sum(weights)}
    least = min(expected.values())
    for block in (1 << 16, 1, 3):
        monkeypatch.setattr("pomona.models.torch.datastore._KEYS", block)
        found = (
            store.log_probabilities(torch.zeros(1, 2), 5, k=3, temperature=2.0)[0].exp().tolist()
        )
        assert found == pytest.approx([least, expected[1], expected[2], least, least], rel=1e-5)


def test_answers_move_towards_what_is_wanted_and_others_beside_them_do_not(
    model: TorchModel,
) -> None:
    plain = Request(prompt="<|de|>Delete the page<|to|>", max_tokens=16)
    pair = ["Seite entfernen", "Seite löschen"]

    async def gap(request: Request) -> float:
        one, other = (await model.logprobs(request, pair))[0]
        return float(one.sum() - other.sum())

    async def work() -> None:
        one, other = Datastore.build(model, WANTED), Datastore.build(model, UNWANTED)
        lever = Steering(one, other, temperature=10.0, top_p=1.0)
        assert isinstance(lever, Context)
        led, notes = await lever.before(plain, model)
        assert (
            notes == {"steer": lever.identity}
            and lever.identity != Steering(one, other, alpha=1.0).identity
        )
        assert await gap(led) > await gap(plain) + 1
        alone = [(await model.reply(request, [(1, 1.0)]))[0] for request in (plain, led)]
        beside = await asyncio.gather(
            model.reply(plain, [(1, 1.0)]), model.reply(led, [(0, 0.0), (1, 1.0)])
        )
        assert [beside[0][0].text, beside[1][1].text] == [reply.text for reply in alone]
        assert beside[0][0].logprob == pytest.approx(alone[0].logprob, abs=1e-3)

    asyncio.run(work())


def test_a_judge_scores_by_itself(model: TorchModel) -> None:
    async def work() -> None:
        store, judge = Datastore.build(model, WANTED), TorchModel("ui-s", locate("ui-s"))
        asked = Request(prompt="<|de|>Delete the page<|to|>", max_tokens=8)
        try:
            lever = Steering(store, store, temperature=10.0, top_p=1.0)
            found = await answer(
                asked, model, parse_strategy("hedged3-best"), judge=judge, context=[lever]
            )
            plain, _ = await judge.logprobs(asked, [reply.text for reply in found.candidates])
        finally:
            await judge.close()
        assert found.scores == pytest.approx([float(logs.mean()) for logs in plain], abs=1e-4)

    asyncio.run(work())


def test_only_the_model_of_the_datastores_can_be_steered(model: TorchModel) -> None:
    async def work() -> None:
        store = Datastore.build(model, WANTED)
        other = Datastore(store.keys, store.tokens, "torch:other")
        request = Request(prompt="a", steer=Steering(other, other))
        for ask in (model.reply(request, [(0, 0.0)]), model.logprobs(request, ["b"])):
            with pytest.raises(
                ModelError,
                match="ui-xs: the datastores are from another model — build them with this one",
            ):
                await ask
        http = HttpModel("http://127.0.0.1:9/v1#x")
        with pytest.raises(ModelError, match="x: cannot be steered — use a torch model"):
            await http.reply(request, [(0, 0.0)])
        await http.close()

    asyncio.run(work())


def test_a_datastore_is_written_whole_and_belongs_to_its_model(
    model: TorchModel, tmp_path: Path
) -> None:
    store = Datastore.build(model, WANTED)
    again = Datastore.open(store.save(tmp_path / "wanted.safetensors"))
    assert again.digest == store.digest and again.identity == model.identity
    ids = model.codec.prompts(WANTED[:1])[0]
    assert store.tokens[: len(ids) - 1].tolist() == ids[1:]
    other = Datastore(store.keys, store.tokens, "torch:other")
    with pytest.raises(
        PomonaError,
        match="Steering: the datastores are from different models — build both with the same one",
    ):
        Steering(store, other)
    with pytest.raises(PomonaError, match="alpha is out of range"):
        Steering(store, store, alpha=math.nan)
    with pytest.raises(PomonaError, match="no text has two tokens"):
        Datastore.build(model, ["a"])
    (tmp_path / "bad").write_text("x")
    with pytest.raises(PomonaError, match="bad: is no datastore"):
        Datastore.open(tmp_path / "bad")
