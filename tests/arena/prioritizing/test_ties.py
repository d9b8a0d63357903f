"""P(tie): the regression, and what it is worth on real votes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize

from pomona.arena import read_votes
from pomona.arena.prioritizing.logistic import Design, fit, standard, standard_within
from pomona.arena.prioritizing.measures import change, measure
from pomona.arena.prioritizing.pairs import Observed, observed, read_pairs
from pomona.arena.prioritizing.ties import design_of, learn, p_tie


def _design(rng: np.random.Generator, n: int = 120, prompts: int = 7) -> Design:
    x, z = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    common, own = np.hstack([np.ones((n, 1)), x]), np.hstack([np.ones((n, 1)), z])
    prompt = rng.integers(0, prompts, n)
    return Design(common, np.array([-1, 0, 0, 0]), own, np.array([1, 2, 2]), prompt)


def test_the_arrow_is_the_dense_optimum() -> None:
    """Against a general optimiser of the same penalised likelihood."""
    rng = np.random.default_rng(1)
    design = _design(rng)
    votes = rng.integers(0, 4, len(design.prompt)).astype(float)
    hits = rng.binomial(votes.astype(int), 0.4).astype(float)
    precision = np.array([2.0, 0.7, 5.0])
    found = fit(design, votes, hits, 7, precision)

    def loss(flat: np.ndarray) -> float:
        common, own = flat[:4], flat[4:].reshape(7, 3)
        eta = design.common @ common + (design.own * own[design.prompt]).sum(1)
        ridge = 0.1 * common[0] ** 2 + 2 * (common[1:] ** 2).sum()
        ridge += 0.7 * (own[:, 0] ** 2).sum() + 5 * (own[:, 1:] ** 2).sum()
        return float((votes * np.logaddexp(0, eta) - hits * eta).sum() + ridge / 2)

    best = minimize(loss, np.zeros(25), tol=1e-12)
    mine = np.concatenate([found.common, found.own.ravel()])
    assert loss(mine) <= best.fun + 1e-8
    np.testing.assert_allclose(mine, best.x, atol=1e-3)


def test_what_tells_nothing_is_shrunk_and_what_tells_is_not() -> None:
    rng = np.random.default_rng(2)
    n = 3000
    x = rng.normal(size=(n, 2))
    group = np.array([-1, 0, 1])
    design = Design(
        np.hstack([np.ones((n, 1)), x]), group, np.ones((n, 1)), np.array([2]), np.arange(n) % 30
    )
    hits = (rng.random(n) < 1 / (1 + np.exp(-(0.5 + x[:, 0])))).astype(float)
    found = fit(design, np.ones(n), hits, 30)
    assert found.common[1] == pytest.approx(1, abs=0.12)
    assert abs(found.common[2]) < 0.03
    assert np.abs(found.own).max() < 0.1


def test_a_prompt_without_votes_has_no_effect_of_its_own() -> None:
    design = _design(np.random.default_rng(3))
    votes = np.where(design.prompt == 2, 0.0, 1.0)
    assert not fit(design, votes, votes * (design.common[:, 1] > 0), 7).own[2].any()


def test_standard_columns() -> None:
    values, prompt = (
        np.array([1.0, np.nan, 3.0, 9.0, 9.0, 5.0, 2.0]),
        np.array([0, 0, 0, 1, 1, 1, 2]),
    )
    whole = standard([values, np.ones(7)])
    assert whole[1, 0] == 0
    np.testing.assert_allclose(whole[:, 1], 0)
    within = standard_within([values], prompt)
    assert within[6, 0] == 0  # alone with its prompt
    assert within[3:6, 0].mean() == pytest.approx(0)
    assert within[3:6, 0].std() == pytest.approx(1)


def test_real_votes_of_a_tenth_tell_where_ties_are(llmfao_written: pa.Table) -> None:
    """Ties in the best fifth of the other pairs: 40 % fewer or more, and fewer than by prompts."""
    pairs = read_pairs(llmfao_written)
    seen = observed(pairs, read_votes(llmfao_written))
    measures = measure(pairs)
    off = []
    for pilot in range(4):
        chosen = np.zeros(len(pairs), bool)
        chosen[np.random.default_rng(pilot).permutation(len(pairs))[:214]] = True
        known = Observed(seen.pair, seen.votes * chosen, seen.ties * chosen)
        row = []
        for kind in ("all", "prompt"):
            said = p_tie(design_of(pairs, measures, kind), known, len(pairs.prompts))
            told = change(-said[~chosen], seen.votes[~chosen], seen.ties[~chosen])
            assert told is not None
            row.append(told[0])
        off.append(row)
    assert np.mean(off, 0)[0] < -0.55
    assert all(whole < prompt for whole, prompt in off)


def test_it_is_calibrated_where_pairs_were_held_out(llmfao_written: pa.Table) -> None:
    pairs = read_pairs(llmfao_written)
    seen = observed(pairs, read_votes(llmfao_written))
    found = learn(pairs, measure(pairs), seen)
    assert found.slope == pytest.approx(1, abs=0.1)
    assert found.loss < found.plain_loss - 0.1
    assert len(found.reliability) == 10
    inside = [one.ci_low <= one.said <= one.ci_high for one in found.reliability]
    assert sum(inside) >= 7
    assert sum(one.votes for one in found.reliability) == 8931
