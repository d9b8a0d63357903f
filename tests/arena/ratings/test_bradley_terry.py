"""Strengths are the most likely ones, whatever form the votes come in."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import minimize

from pomona.arena import Votes, read_votes
from pomona.arena.ratings.bradley_terry import (
    Ties,
    cells,
    check_connected,
    check_ties,
    counts_from,
    counts_of,
    gradient,
    points,
    rated,
    scores,
    solve,
)
from pomona.errors import PomonaError

TIES: tuple[Any, ...] = get_args(Ties)
WINS = np.array([[0, 8, 5, 9], [4, 0, 6, 7], [3, 5, 0, 6], [1, 2, 4, 0]], float)
TIED = np.array([[0, 3, 2, 1], [3, 0, 4, 2], [2, 4, 0, 3], [1, 2, 3, 0]], float)


@pytest.mark.parametrize("ties", TIES)
def test_strengths_are_the_most_likely_ones(ties: Ties) -> None:
    counts = counts_from(WINS, TIED)
    found = solve(counts, ties)
    n = counts.outcomes * ([1, 1, 0] if ties == "drop" else [1, 1, 1])

    def loss(x: Any) -> float:
        d = x[counts.first] - x[counts.second]
        if ties == "davidson":
            logs = np.stack([d / 2, -d / 2, np.full_like(d, x[4])], -1)
            logs -= np.log(np.exp(logs).sum(-1, keepdims=True))
        elif ties == "rao_kupper":
            p = 1 / (1 + np.exp(-d + np.exp(x[4]))), 1 / (1 + np.exp(d + np.exp(x[4])))
            logs = np.log(np.stack([*p, 1 - p[0] - p[1]], -1))
        else:
            win, lose = -np.log1p(np.exp(-d)), -np.log1p(np.exp(d))
            logs = np.stack([win, lose, (win + lose) / 2], -1)
        return float(-(n * logs).sum())

    best = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-7})
    strengths = best.x[:4] - best.x[:4].mean()
    np.testing.assert_allclose(found.strengths, strengths, atol=2e-6)
    assert found.log_likelihood == pytest.approx(-best.fun, abs=1e-9)
    assert found.converged and found.gradient_norm < 1e-10 and found.steps < 10
    if ties == "davidson":
        assert found.tie == pytest.approx(best.x[4], abs=1e-5)
    elif ties == "rao_kupper":
        assert found.tie == pytest.approx(np.exp(best.x[4]), abs=1e-5)
    else:
        assert found.tie is None
    again = solve(counts, ties, start=found)
    assert again.steps == 0
    np.testing.assert_allclose(again.strengths, found.strengths, atol=1e-15)


@pytest.mark.parametrize("ties", TIES)
def test_scores_are_derivatives(ties: Ties) -> None:
    d, tie, step = np.linspace(-3, 3, 13), 0.4, 1e-5
    at = cells(d, ties, tie)
    if ties not in ("half", "drop"):
        np.testing.assert_allclose(np.exp(at.logs).sum(-1), 1)
        up, down = cells(d, ties, tie + step), cells(d, ties, tie - step)
        np.testing.assert_allclose(at.t, (up.logs - down.logs) / 2 / step, atol=1e-8)
        np.testing.assert_allclose(at.tt, (down.t - up.t) / 2 / step, atol=1e-8)
        np.testing.assert_allclose(at.dt, (down.d - up.d) / 2 / step, atol=1e-8)
    up, down = cells(d + step, ties, tie), cells(d - step, ties, tie)
    np.testing.assert_allclose(at.d, (up.logs - down.logs) / 2 / step, atol=1e-8)
    np.testing.assert_allclose(at.dd, (down.d - up.d) / 2 / step, atol=1e-8)


def test_probabilities_are_those_of_the_model_of_ties() -> None:
    davidson = solve(counts_from(WINS, TIED), "davidson")
    p = davidson.probabilities(np.array([0.0, 1.0]))
    nu = np.exp(davidson.tie or 0)
    assert p[0].tolist() == pytest.approx([1 / (2 + nu), 1 / (2 + nu), nu / (2 + nu)])
    assert p[1, 0] / p[1, 1] == pytest.approx(np.e)
    kupper = solve(counts_from(WINS, TIED), "rao_kupper")
    p = kupper.probabilities(np.array([1.0]))[0]
    assert p[0] == pytest.approx(1 / (1 + np.exp((kupper.tie or 0) - 1)))
    for ties in ("half", "drop"):
        p = solve(counts_from(WINS, TIED), ties).probabilities(np.array([1.0]))[0]
        assert p.tolist() == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0])


def test_without_ties_all_models_of_ties_are_one() -> None:
    counts = counts_from(WINS)
    found = [solve(counts, ties) for ties in TIES]
    for one in found:
        np.testing.assert_allclose(one.strengths, found[0].strengths, atol=1e-9)
        assert one.tie is None and one.probabilities(np.zeros(1))[0].tolist() == [0.5, 0.5, 0]


def test_a_long_run_agrees_on_the_real_board(leaderbot: Votes) -> None:
    counts = counts_of(leaderbot)
    for ties in TIES:
        found = solve(counts, ties)
        assert np.abs(gradient(counts, found)).max() < 1e-4 and found.converged
    half = points(solve(counts, "half").strengths)
    best = sorted(zip(half, leaderbot.models, strict=True), reverse=True)
    assert [name for _, name in best[:3]] == [
        "chatgpt-4o-latest",
        "gemini-1.5-pro-exp-0801",
        "gpt-4o-2024-05-13",
    ]
    assert half.mean() == pytest.approx(1000)
    assert points(half, (3, 1114.0))[3] == 1114


def table(rows: list[tuple[int, int, str, int]]) -> pa.Table:
    columns = ("model_a", "model_b", "winner", "n")
    told = [(f"m{a}", f"m{b}", winner, n) for a, b, winner, n in rows]
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in told])


votes = st.tuples(
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from(["model_a", "model_b", "tie", "tie (bothbad)"]),
    st.integers(1, 4),
).map(lambda t: (t[0], (t[0] + t[1]) % 4, t[2], t[3]))


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(votes, min_size=4, max_size=30), ties=st.sampled_from(TIES))
def test_form_order_and_sides_do_not_matter(rows: list[Any], ties: Ties) -> None:
    one = read_votes(table(rows))
    other = {"model_a": "model_b", "model_b": "model_a"}
    turned = [(b, a, other.get(w, w), 1) for a, b, w, n in reversed(rows) for _ in range(n)]
    two = read_votes(table(turned))
    first, second = counts_of(one), counts_of(two)
    np.testing.assert_array_equal(first.outcomes, second.outcomes)
    halves = counts_of(two, np.full(len(two), 0.5))
    np.testing.assert_array_equal(halves.outcomes, first.outcomes / 2)
    if not rated(first, ties).all():
        return
    try:
        check_ties(first, "votes", ties)
    except PomonaError:
        return  # nothing is the most likely
    found, again = solve(first, ties), solve(halves, ties)
    assert found.converged
    np.testing.assert_allclose(found.strengths, again.strengths, atol=1e-6)
    along, tied = scores(one, found)
    k = len(one.models)
    counted = one.count * (one.outcome < 2 if ties == "drop" else 1)
    total = np.bincount(one.a, counted * along, k) - np.bincount(one.b, counted * along, k)
    np.testing.assert_allclose(total, gradient(first, found)[:k], atol=1e-9)
    if found.tie is not None:
        assert counted @ tied == pytest.approx(gradient(first, found)[k], abs=1e-9)


def test_groups_without_votes_between_them_are_named() -> None:
    rows = [(0, 1, "model_a", 1), (1, 0, "model_a", 1), (2, 3, "tie", 1)]
    read = read_votes(table(rows))
    with pytest.raises(PomonaError) as raised:
        check_connected(counts_of(read), read.models, "votes.csv")
    assert str(raised.value) == (
        "votes.csv: 2 groups of models have no votes between them: m0, m1; m2, m3 — add votes "
        "between them, or rate each by itself"
    )
    read = read_votes(table([*rows, (1, 2, "tie", 1)]))
    check_connected(counts_of(read), read.models, "votes.csv")
    with pytest.raises(PomonaError, match="groups of models have no votes"):
        check_connected(counts_of(read), read.models, "votes.csv", "drop")


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([(0, 1, "model_a", 1), (1, 2, "model_a", 1), (2, 0, "model_a", 1)], [1, 1, 1]),
        ([(0, 1, "model_a", 1), (0, 1, "model_b", 1), (1, 2, "model_a", 3)], [1, 1, 0]),
        ([(0, 1, "model_a", 1), (0, 1, "model_b", 1), (1, 2, "tie", 3)], [1, 1, 1]),
    ],
)
def test_who_has_a_finite_strength(rows: list[Any], wanted: list[int]) -> None:
    assert rated(counts_of(read_votes(table(rows)))).tolist() == [bool(one) for one in wanted]


@pytest.mark.parametrize("ties", ["davidson", "rao_kupper"])
def test_votes_that_no_amount_of_ties_contradicts_are_refused(ties: Ties) -> None:
    # Found by hypothesis: one above one below one, with ties between neighbours, is likelier the
    # farther they are apart and the more ties there are.
    rows = [(0, 1, "model_a", 1), (0, 1, "tie", 1), (0, 2, "model_a", 1), (1, 2, "tie", 1)]
    counts = counts_of(read_votes(table(rows)))
    assert rated(counts, ties).all() and not solve(counts, ties).converged
    with pytest.raises(PomonaError) as raised:
        check_ties(counts, "votes.csv", ties)
    assert str(raised.value) == (
        "votes.csv: the votes are too few to tell how often there is a tie — collect more votes, "
        "or give --ties half"
    )
    check_ties(counts, "votes.csv", "half")
    cycle = [(0, 1, "model_a", 1), (1, 2, "model_a", 1), (2, 0, "model_a", 1), (0, 1, "tie", 1)]
    counts = counts_of(read_votes(table(cycle)))
    check_ties(counts, "votes.csv", ties)
    assert solve(counts, ties).converged


def test_ties_alone_are_refused() -> None:
    with pytest.raises(PomonaError, match="all votes are ties"):
        check_ties(counts_of(read_votes(table([(0, 1, "tie", 5)]))), "votes.csv", "half")


def test_an_infinite_strength_does_not_converge() -> None:
    counts = counts_of(read_votes(table([(0, 1, "model_a", 2), (1, 2, "model_a", 1)])))
    assert not solve(counts).converged
