from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st
from sacrebleu.metrics.chrf import CHRF

from pomona.sample import chrf_mbr, extremes, hedged

pools = st.lists(st.text(alphabet="abc déß語", min_size=1, max_size=20), min_size=2, max_size=6)


def test_a_hedged_pool_is_one_greedy_answer_and_samples() -> None:
    assert hedged(5, 0.8) == [0.0, 0.8, 0.8, 0.8, 0.8]


@given(pools)
def test_mbr_maximises_sacrebleu_utility(pool: list[str]) -> None:
    metric = CHRF()
    utility = [np.mean([metric.sentence_score(c, [e]).score for e in pool]) for c in pool]
    assert utility[chrf_mbr(pool)] >= max(utility) - 1e-6


def test_mbr_takes_the_answer_the_others_agree_on() -> None:
    assert chrf_mbr(["Seite löschen", "Den Benutzer", "Seite loschen", "Seiten löschen"]) == 0


def test_ties_go_to_the_first() -> None:
    assert chrf_mbr(["same", "same", "same"]) == 0


def test_extremes_bound_every_selection() -> None:
    best, worst = extremes([np.array([1.0, 3.0, 2.0]), np.array([5.0, 5.0])])
    assert list(best) == [1, 0]
    assert list(worst) == [0, 0]
