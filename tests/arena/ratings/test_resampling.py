from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pomona.arena.ratings.bradley_terry import TIES, Counts, counts_from, rated, solve
from pomona.arena.ratings.clusters import Clusters, grouped
from pomona.arena.ratings.resampling import refit, resampled
from pomona.errors import PomonaError


def board(models: int = 6, votes: int = 60, seed: int = 0) -> Counts:
    rng = np.random.default_rng(seed)
    pairs = rng.multinomial(votes * models, np.ones(models * models) / models**2)
    wins = rng.binomial(pairs, 0.35).reshape(models, models)
    ties = np.triu(rng.binomial(pairs, 0.3).reshape(models, models), 1)
    np.fill_diagonal(wins, 0)
    return counts_from(wins.astype(float), ties.astype(float))


def places(counts: Counts) -> tuple[Any, Any]:
    votes = counts.outcomes.ravel().astype(np.int64)
    return np.flatnonzero(votes), votes[votes > 0]


def single(place: Any, count: Any) -> Clusters:
    return Clusters("vote", np.full(len(place), -1), place, count)


@pytest.mark.parametrize("ties", TIES)
def test_all_resamples_together_are_rated_as_one_by_one(ties: Any) -> None:
    counts = board()
    solution = solve(counts, ties)
    drawn = resampled(single(*places(counts)), counts.outcomes.size, 30, seed=1)
    strengths, tie = refit(counts, solution, drawn)
    for resample in range(30):
        one = solve(counts.with_outcomes(drawn[:, resample].reshape(-1, 3).astype(float)), ties)
        assert one.converged
        assert strengths[:, resample] == pytest.approx(one.strengths, abs=2e-4)
        assert tie[resample] == pytest.approx(one.model[1], abs=2e-4)


def test_votes_without_clusters_stay_as_many_as_they_are() -> None:
    counts = board()
    place, count = places(counts)
    drawn = resampled(single(place, count), counts.outcomes.size, 200, seed=0)
    assert (drawn.sum(0) == counts.outcomes.sum()).all()
    assert drawn.mean(1) == pytest.approx(counts.outcomes.ravel(), abs=1.5)
    assert (drawn == resampled(single(place, count), counts.outcomes.size, 200, seed=0)).all()


def test_a_cluster_is_drawn_as_a_whole_with_poisson_weights() -> None:
    clusters = np.array([2, 0, 1, 2, 0, 2])
    found = Clusters("item", clusters, np.arange(6), np.array([1, 1, 5, 2, 1, 1]))
    drawn = resampled(found, 6, 9999, seed=0)
    assert (drawn[0] == drawn[5]).all() and (drawn[3] == 2 * drawn[0]).all()
    assert (drawn[1] == drawn[4]).all() and (drawn[2] % 5 == 0).all()
    weights = np.stack([drawn[0], drawn[1], drawn[2] // 5])
    assert np.corrcoef(weights) == pytest.approx(np.eye(3), abs=0.04)
    shares = np.bincount(weights.ravel(), minlength=5)[:5] / weights.size
    assert shares == pytest.approx([0.3679, 0.3679, 0.1839, 0.0613, 0.0153], abs=0.008)


def test_rows_without_a_cluster_are_votes_by_themselves() -> None:
    place, clusters = np.array([0, 1, 2]), np.array([-1, 0, -1])
    found = Clusters("item", clusters, place, np.array([40, 40, 1]))
    drawn = resampled(found, 3, 4000, seed=0)
    assert drawn.mean(1) == pytest.approx([40, 40, 1], rel=0.06)
    assert drawn[0].std() == pytest.approx(40**0.5, rel=0.05)  # 40 votes
    assert drawn[1].std() == pytest.approx(40, rel=0.05)  # one cluster


def test_rows_by_their_clusters() -> None:
    clusters = np.array([1, -1, 0, 1, 3, -1])
    order, starts = grouped(clusters)
    assert order.tolist() == [1, 5, 2, 0, 3, 4]
    assert starts.tolist() == [2, 3, 5, 5, 6]


def test_a_model_that_lost_all_in_a_resample_is_nan_and_the_others_are_rated_without_it() -> None:
    wins = np.array([[0, 9, 8, 7], [6, 0, 9, 8], [5, 7, 0, 9], [1, 0, 0, 0]], float)
    counts = counts_from(wins)
    solution = solve(counts, "drop")
    drawn = resampled(single(*places(counts)), counts.outcomes.size, 40, seed=0)
    strengths, _ = refit(counts, solution, drawn)
    lost = [
        not rated(counts.with_outcomes(drawn[:, lane].reshape(-1, 3).astype(float)), "drop")[3]
        for lane in range(40)
    ]
    assert 5 < sum(lost) < 30
    assert (np.isnan(strengths[3]) == lost).all()
    assert np.isfinite(strengths[:3]).all()
    lane = lost.index(True)
    won = counts.with_outcomes(drawn[:, lane].reshape(-1, 3).astype(float)).wins
    without = solve(counts_from(won[:3, :3]), "drop").strengths
    assert np.diff(strengths[:3, lane]) == pytest.approx(np.diff(without), abs=1e-6)
    assert strengths[:3, lane].mean() == pytest.approx(solution.strengths[:3].mean())


def test_too_many_votes_to_draw_are_refused() -> None:
    with pytest.raises(PomonaError, match="300,000,000 votes are too many for a bootstrap"):
        resampled(single(np.array([0]), np.array([300_000_000])), 1, 10, seed=0)
