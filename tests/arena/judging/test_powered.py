"""Ratings by few votes of people and many verdicts of a judge are those of people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.arena.judging.powered import powered, rate
from pomona.arena.judging.prompting import claims_verdict, verdict_in
from pomona.arena.ratings.bradley_terry import ELO

STRENGTHS = np.linspace(-1, 1, 5)


def simulated(
    seed: int, judge: str, n: int = 1500, voted: int = 300
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Pairs of five models, votes of people on some of them, and verdicts of a judge on all."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 5, n)
    b = (a + rng.integers(1, 5, n)) % 5
    d = STRENGTHS[a] - STRENGTHS[b]
    odds = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(n, 0.7)], 1)
    shares = (odds / odds.sum(1, keepdims=True)).cumsum(1)
    people = (rng.random(n)[:, None] > shares).sum(1)
    said = {
        "good": np.where(rng.random(n) < 0.85, people, rng.integers(0, 3, n)),
        "noise": rng.integers(0, 3, n),
        "against": np.where(people < 2, 1 - people, 2),
        "partial": np.where(a > b, 0, 1),
    }[judge]
    seen = np.arange(n) < voted
    votes = np.where(seen[:, None], np.eye(3)[people], 0)
    return a, b, votes, np.eye(3)[said], [str(at) for at in range(n)]


@pytest.mark.parametrize("judge", ["good", "noise", "against", "partial"])
def test_whatever_the_judge_is_worth_the_ratings_are_peoples(judge: str) -> None:
    inside, narrower, weights, alone = [], [], [], []
    for seed in range(12):
        a, b, votes, said, clusters = simulated(seed, judge)
        both = powered(5, a, b, votes, said, clusters)
        people = rate(5, a, b, votes, clusters)
        off = np.abs(both.points - 1000 - ELO * STRENGTHS)
        inside.append(off <= both.half_widths)
        only = rate(5, a, b, said, clusters)
        alone.append(np.abs(only.points - 1000 - ELO * STRENGTHS) <= only.half_widths)
        narrower.append(float(np.median(both.half_widths / people.half_widths)))
        weights.append(both.weight)
    assert np.mean(inside) >= 0.85  # 60 intervals of 95 %; the experiment has thousands
    if judge == "good":
        assert np.mean(narrower) < 0.75 and np.mean(weights) > 0.5
    else:  # a judge that is worth nothing costs nothing
        assert np.mean(narrower) < 1.03 and np.mean(alone) < 0.5


def test_without_the_judge_they_are_peoples_alone() -> None:
    a, b, votes, said, clusters = simulated(3, "good")
    none, people = powered(5, a, b, votes, said, clusters, 0.0), rate(5, a, b, votes, clusters)
    np.testing.assert_allclose(none.points, people.points, rtol=1e-9)
    np.testing.assert_allclose(none.errors, people.errors, rtol=1e-9)
    nothing = powered(5, a, b, votes, np.zeros_like(said), clusters)
    np.testing.assert_allclose(nothing.points, people.points, rtol=1e-9)


def test_a_judge_that_says_what_people_say_is_as_good_as_their_votes() -> None:
    a, b, votes, _, clusters = simulated(4, "good", voted=1500)
    few = np.where(np.arange(1500)[:, None] < 300, votes, 0)
    both = powered(5, a, b, few, votes, clusters, 1.0)
    # With weight 1 the corrections cancel: what is left is the mean over the others.
    others = rate(5, a[300:], b[300:], votes[300:], clusters[300:])
    np.testing.assert_allclose(both.points, others.points, atol=1e-6)


def test_models_that_lost_everything_have_no_rating() -> None:
    a, b = np.array([0, 1, 0, 1, 0]), np.array([1, 0, 1, 0, 2])
    votes = np.eye(3)[[0, 0, 1, 2, 0]]
    found = rate(3, a, b, votes, list("abcde"))
    assert np.isfinite(found.points[:2]).all() and np.isnan(found.points[2])
    assert np.isnan(rate(3, a[4:], b[4:], votes[4:], ["e"]).points).all()


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("A", "A"), (" b.", "B"), ("**C**", "C"), ("Answer B", "B"), ("The better answer is A.", "A"),
        ("[[B]]", "B"), ("A is wordy. B is right.\n[[B]]", "B"), ("[[A]] or [[B]]", None),
        ("A good answer is B", None), ("", None), ("D", None), ("Both", None), ("[[ C ]]", "C"),
        ("A" * 500, None), ("!" * 5000, None), ("Answer A is better", "A"),
    ],
)  # fmt: skip
def test_a_verdict_stands_by_itself_or_is_marked(said: str, verdict: str | None) -> None:
    assert verdict_in(said) == verdict


@given(st.text())
def test_any_reply_has_a_verdict_or_none(said: str) -> None:
    assert verdict_in(said) in ("A", "B", "C", None)
    assert claims_verdict(said) in (True, False)
