"""What a vote is expected to tell, draws, propensities, and ratings by their inverse."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona.arena import Votes, read_votes
from pomona.arena.prioritizing.inverse import board, levelled, weights_of
from pomona.arena.prioritizing.queue import Goal, State, draw, information, repeated
from pomona.arena.prioritizing.strengths import Strengths, believe, counts_on
from pomona.arena.ratings.bradley_terry import cells
from pomona.errors import PomonaError

K = 5
A, B = np.triu_indices(K, 1)
ALL = Goal()


def _state(goal: Goal = ALL, p_tie: np.ndarray | None = None) -> State:
    strengths = Strengths(
        np.linspace(-1, 1, K), np.eye(K), np.zeros(K), 1.0, {}, float(np.log(0.5)), np.eye(K)
    )
    return State(strengths, A, B, p_tie, goal, 1.0)


def _drawn(goal: Goal = ALL, by: str = "information", times: int = 3, seed: int = 0, **more):
    p_tie = np.linspace(0.05, 0.9, len(A))
    left = np.full(len(A), times)
    return draw(
        _state(goal, p_tie),
        p_tie,
        goal,
        by=by,  # type: ignore[arg-type]
        random=0.2,
        shown=np.zeros(len(A)),
        left=left,
        seed=seed,
        **more,
    )


@given(st.floats(-4, 4), st.floats(-3, 2))
def test_information_is_that_of_davidsons_model(difference: float, tie: float) -> None:
    found = cells(np.array(difference), "davidson", tie)
    chance = np.exp(found.logs)
    expected = float((chance * found.dd).sum())
    assert information(chance[2], np.array(difference)) == pytest.approx(expected, abs=1e-9)


def test_a_sure_tie_tells_nothing_and_the_next_vote_on_a_pair_less() -> None:
    assert information(np.array(1.0), np.array(0.3)) == 0
    assert repeated(np.array(0.0)) == 1
    told = repeated(np.arange(6.0))
    assert (np.diff(told) < 0).all() and (told > 0).all()


@given(st.integers(0, 50), st.sampled_from(["information", "ties", "random"]))
@settings(max_examples=8)
def test_a_queue_has_each_pair_as_often_as_it_may(seed: int, by: str) -> None:
    found = _drawn(by=by, seed=seed)
    assert np.bincount(found.pair).tolist() == [3] * len(A)
    assert found.reached == "all"
    assert found.available.tolist() == list(range(30, 0, -1))
    assert ((found.propensity > 0) & (found.propensity <= 1)).all()
    halves = [one.half_width for one in found.path]
    assert (np.diff(halves) < 1e-9).all()


def test_draws_have_the_frequencies_that_they_say() -> None:
    first = [_drawn(Goal(budget=1), times=1, seed=seed) for seed in range(400)]
    said = {int(one.pair[0]): float(one.propensity[0]) for one in first}
    for pair, came in enumerate(np.bincount([int(one.pair[0]) for one in first], minlength=10)):
        if pair in said:
            error = np.sqrt(said[pair] * (1 - said[pair]) / 400)
            assert abs(came / 400 - said[pair]) < 4 * error
    assert sum(said.values()) == pytest.approx(1, abs=0.05)
    assert min(said.values()) >= 0.2 / len(A) - 1e-12
    random = np.mean([bool(one.random[0]) for one in first])
    assert random == pytest.approx(0.2, abs=0.05)


def test_it_stops_at_the_budget_the_resolution_or_the_order() -> None:
    assert len(_drawn(Goal(budget=7)).pair) == 7
    assert _drawn(Goal(budget=7)).reached == "budget"
    whole = _drawn().path
    goal = Goal(resolution=(whole[0].half_width + whole[-1].half_width) / 2)
    found = _drawn(goal)
    assert found.reached == "resolution"
    assert found.path[-1].half_width <= goal.resolution < found.path[-2].half_width  # type: ignore
    assert _drawn(Goal(order=whole[10].order)).reached == "order"


def test_a_model_of_which_least_is_known_comes_first() -> None:
    known = np.diag([0.2, 5, 5, 5, 5])
    strengths = Strengths(np.zeros(K), known, np.zeros(K), 1.0, {}, 0.0, np.linalg.inv(known))
    state = State(strengths, A, B, None, ALL, 1.0)
    found = draw(
        state, None, Goal(budget=12), by="information", random=0.1, shown=np.zeros(len(A)),
        left=np.full(len(A), 4), seed=0,
    )  # fmt: skip
    assert (A[found.pair[:6]] == 0).sum() >= 5
    assert np.bincount(np.r_[A[found.pair], B[found.pair]], minlength=K).min() >= 2


def test_beliefs_are_less_sure_than_if_the_weights_of_answers_were_known() -> None:
    told = np.column_stack([np.linspace(-1, 1, K), [1, -1, 0, -1, 1]])
    apart = np.array([1.0, 0, 0, 0, -1])
    sizes = []
    for n in (1, 400):
        votes = read_votes(
            pa.table({"model_a": ["0"], "model_b": ["4"], "win_a": [n], "win_b": [n]})
        )
        found = believe(counts_on([str(at) for at in range(K)], votes), told, ["x", "y"])
        known = np.linalg.inv(found.precision)
        sizes.append((apart @ found.covariance @ apart) / (apart @ known @ apart))
    assert sizes[0] > 1.2 and sizes[0] > sizes[1] > 0.99


def test_only_the_first_ranks_matter_where_asked() -> None:
    several = [_drawn(Goal(top=1, budget=10), seed=seed) for seed in range(40)]
    best = np.mean([((A == 4) | (B == 4))[one.pair].mean() for one in several])
    evenly = np.mean([((A == 4) | (B == 4))[_drawn(Goal(budget=10), seed=s).pair].mean()
                      for s in range(40)])  # fmt: skip
    assert best > evenly


def _votes(rows: list[dict]) -> Votes:
    return read_votes(pa.Table.from_pylist(rows))


def _voted(found, rng: np.random.Generator, log: bool = True) -> Votes:
    """Votes on drawn pairs; pairs with many ties favour the second model."""
    rows = []
    for at, pair in enumerate(found.pair):
        p = 1 / (1 + np.exp(-(A[pair] - B[pair]) / 2 - 2 * (pair > 5)))
        row = {
            "model_a": f"m{A[pair]}",
            "model_b": f"m{B[pair]}",
            "winner": "model_a" if rng.random() < p else "model_b",
        }
        if log:
            row |= {
                "rank": at + 1,
                "propensity": float(found.propensity[at]),
                "available": int(found.available[at]),
            }
        rows.append(row)
    return _votes(rows)


def test_levelled_weights_make_a_chosen_sample_an_even_one() -> None:
    """Means of the weights by pair over many queues: all pairs count alike, though they were not
    drawn alike.
    """
    total, plain = np.zeros(len(A)), np.zeros(len(A))
    for seed in range(150):
        found = _drawn(Goal(budget=12), by="ties", times=4, seed=seed)
        rank = np.arange(1.0, 13)
        weights = levelled(rank, found.propensity, found.available.astype(float))
        total += np.bincount(found.pair, weights, len(A))
        plain += np.bincount(found.pair, minlength=len(A))
    even = 150 * 12 / len(A)
    assert np.abs(plain / even - 1).max() > 0.5
    assert np.abs(total / even - 1).max() < 0.3


def test_votes_without_a_log_have_no_weights_and_a_wrong_one_is_named() -> None:
    found, rng = _drawn(Goal(budget=12)), np.random.default_rng(0)
    assert weights_of(_voted(found, rng, log=False)) is None
    votes = _voted(found, rng)
    columns = votes.columns.set_column(1, "propensity", pa.array([0.0] + [0.1] * 11))
    wrong = Votes(votes.models, votes.a, votes.b, votes.outcome, votes.count, columns, "v.csv")
    with pytest.raises(PomonaError, match=r"v\.csv, row 1: has no propensity of a queue"):
        weights_of(wrong)


def test_weights_of_one_are_plain_ratings() -> None:
    votes = _voted(_drawn(times=8), np.random.default_rng(4), log=False)
    plain, same = board(votes), board(votes, np.full(len(votes), 1.0))
    np.testing.assert_allclose(plain.covariance, same.covariance)
    half = board(votes, np.full(len(votes), 0.5))
    np.testing.assert_allclose(plain.strengths, half.strengths, atol=1e-8)
    np.testing.assert_allclose(plain.covariance, half.covariance, atol=1e-8)
    assert half.effective == pytest.approx(len(votes))
