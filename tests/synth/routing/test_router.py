"""Routers: learned from answers whose worth is known, on rows whose sources they have not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from pomona.errors import PomonaError
from pomona.stats import softmax_regression
from pomona.synth.routing import (
    Features,
    Form,
    Learned,
    Pool,
    Router,
    Sees,
    gains,
    learn_router,
    measure_fixed,
)
from pomona.synth.teachers import Assignment, Candidate, Lesson

WORDS = [
    "file",
    "page",
    "user",
    "delete",
    "save",
    "image",
    "view",
    "comment",
    "error",
    "name",
    "date",
    "language",
]
QUICK = Form(temperatures=(1.0,), penalties=(1e-3, 1e-2), folds=3)


def answers(rows: int = 240, seed: int = 0) -> tuple[Pool, NDArray[np.float64]]:
    """Three teachers: `tm` is good where the text has "file", `m` in be, `l` elsewhere; `tm` does
    not know mk.
    """
    rng = np.random.default_rng(seed)
    candidates, rewards = [], []
    for at in range(rows):
        lang, text = ("af", "be", "mk")[at % 3], " ".join(rng.choice(WORDS, 4))
        row = Assignment(f"r{at}", text, "en", lang, "x", text)
        for teacher, worth in (("l", 0.45), ("m", 0.4), ("tm", 0.3)):
            if teacher == "tm" and lang == "mk":
                continue
            worth += 0.4 * (teacher == "tm" and "file" in text)
            worth += 0.2 * (teacher == "m" and lang == "be")
            candidates.append(Candidate(row, Lesson(row.id, "x", teacher, None)))
            rewards.append(worth + 0.03 * rng.normal())
    return Pool.of(candidates), np.array(rewards)


@pytest.fixture(scope="module")
def learned() -> Router:
    return learn_router(*answers(), form=QUICK)


def test_a_router_sees_text_and_language(learned: Router) -> None:
    pool, rewards = answers(120, seed=1)  # other texts
    fixed, policy = measure_fixed(*answers()), Learned(learned)
    assert fixed.table["be"][0] == "m"
    assert {fixed.table[lang][0] for lang in ("af", "mk")} == {"l"}
    worth = {}
    for one in (fixed, policy):
        routed = pool.route(one, rewards)
        assert routed.answered.all()
        assert routed.generations == 120
        worth[one.name] = np.mean([rewards[kept[0]] for kept in routed.kept])
    best = np.nanmax(pool.matrix(rewards), axis=1).mean()
    assert worth["fixed"] + 0.6 * (best - worth["fixed"]) < worth["learned"] <= best
    # Without the text it can do what the table does, and no more.
    alone = learn_router(*answers(), form=Form("language", folds=3))
    firsts = [names[0] for names in Learned(alone).ask(pool.rows)]
    assert firsts == [names[0] for names in fixed.ask(pool.rows)]


def test_a_router_may_see_another_group_than_the_language() -> None:
    pool, rewards = answers(120)

    def has_file(row: Assignment) -> str:
        return f"{row.lang} {'file' in row.text}"

    router = learn_router(pool, rewards, by=has_file, form=Form("language", folds=3))
    firsts = [names[0] for names in Learned(router, by=has_file).ask(pool.rows)]
    assert firsts == [names[0] for names in measure_fixed(pool, rewards, has_file).ask(pool.rows)]
    assert {"l", "m", "tm"} == set(firsts)


def test_a_row_is_routed_alike_among_others_and_alone(learned: Router) -> None:
    rows = [
        Assignment(str(at), WORDS[at % 12] * (at % 5), "en", ("sw", "be")[at % 2])
        for at in range(20)
    ]
    together = learned.probabilities(rows)
    alone = np.concatenate([learned.probabilities([row]) for row in rows])
    np.testing.assert_array_equal(together, alone)
    assert learned.probabilities([]).shape == (0, 3)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-6)
    for sees in get_args(Sees):
        features = replace(learned.features, sees=sees)
        many = features.of(rows) @ learned.weights
        lone = [features.times(row, learned.weights) for row in rows]
        np.testing.assert_allclose(many, lone, atol=1e-6)


def test_a_saved_router_is_the_same(learned: Router, tmp_path: Path) -> None:
    path = tmp_path / "router.safetensors"
    learned.save(path)
    again = Router.load(path)
    assert (again, again.signature) == (learned, learned.signature)
    assert again.learned["rows"] == learned.learned["rows"]
    rows = answers(9)[0].rows
    assert Learned(again).ask(rows) == Learned(learned).ask(rows)
    for name, content in (("text", b"{}"), ("none", None)):
        other = tmp_path / name
        if content is not None:
            other.write_bytes(content)
        with pytest.raises(PomonaError, match=r"is no router|no such file"):
            Router.load(other)


def test_weights_are_the_least_of_their_loss() -> None:
    rng = np.random.default_rng(0)
    rows = [Assignment(str(at), WORDS[at % 7], "en", "af") for at in range(30)]
    x = Features(("af",), bits=6).of(rows)
    there = rng.random((30, 3)) < 0.8
    there[:, 0] = True
    targets = softmax(np.where(there, rng.normal(size=(30, 3)), -np.inf), axis=1)

    def loss(weights: NDArray[np.float64]) -> float:
        told = np.where(there, x @ weights, -np.inf)
        log = told - np.log(np.exp(told).sum(1, keepdims=True))
        entropy = -np.where(there, targets * np.where(there, log, 0), 0).sum() / 30
        return entropy + 0.01 / 2 * (weights**2).sum()

    found = softmax_regression(x, targets, there, 0.01).astype(np.float64)
    least = loss(found)
    for _ in range(20):
        step = 0.05 * rng.normal(size=found.shape)
        assert loss(found + step) > least - 1e-6


def test_costs_are_taken_off_where_they_buy_nothing() -> None:
    pool, rewards = answers()
    alike = rewards.copy()
    for at, one in enumerate(pool.candidates):  # m is as good as l everywhere, and much cheaper
        if one.lesson.teacher == "m":
            alike[at] = rewards[at - 1]
    costs = {"l": 10.0, "m": 1.0, "tm": 0.0}
    cheap = learn_router(pool, alike, costs=costs, form=QUICK)
    assert cheap.cost_weight > 0
    firsts = [names[0] for names in Learned(cheap).ask(pool.rows)]
    assert firsts.count("l") < 3
    with pytest.raises(PomonaError, match="tm: has no cost"):
        learn_router(pool, rewards, costs={"l": 1, "m": 1}, form=QUICK)


def test_a_router_needs_answers_that_differ() -> None:
    pool, rewards = answers(12)
    with pytest.raises(PomonaError, match="0 sources have answers that differ"):
        learn_router(pool, np.ones_like(rewards))


def test_what_teachers_gain_is_told_apart_from_what_their_rows_are_worth() -> None:
    # b answers the hard rows alone, and is better than a on each that both answer.
    hard, easy = 10.0, 50.0
    matrix = np.array([[easy, np.nan]] * 6 + [[hard, hard + 2]] * 3 + [[np.nan, hard + 2]] * 5)
    told = gains(matrix)
    assert told[1] - told[0] == pytest.approx(2, abs=1e-6)
    # A group of no rows says what all groups say.
    np.testing.assert_allclose(gains(np.zeros((0, 2)), 5.0, told), told)
