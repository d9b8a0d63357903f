"""The choice among pools and neighbours against a computation of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.memory import choose_among, consensus, find, look_up, weigh
from pomona.tasks import Chrf, ExactMatch, pairwise

ANSWERS = st.lists(st.sampled_from(["abc", "abcd", "xbc", "zz", "abxyz", ""]), max_size=5)


@settings(max_examples=80, deadline=None)
@given(ANSWERS, ANSWERS, st.data())
def test_every_candidate_is_weighed_against_pool_and_neighbours(
    pool: list[str], near: list[str], data: st.DataObject
) -> None:
    like = sorted(
        data.draw(st.lists(st.floats(0, 1), min_size=len(near), max_size=len(near))), reverse=True
    )
    found = choose_among(Chrf(), [pool], [near], [like], sources=["abz"])
    candidates, evidence = [*pool, *near, "abz"], [*pool, *near]
    weights = [1.0] * len(pool) + [max(0, 10 * (one - 0.1)) for one in like]
    table = pairwise(candidates, evidence) if evidence else np.zeros((1, 0))
    scores = table @ np.array(weights) / (sum(weights) or 1)
    assert found.candidates == [candidates]
    np.testing.assert_allclose(found.scores[0], scores, atol=1e-9)
    assert found.picks == [int(np.argmax(np.round(scores, 9)))]
    assert found.texts == [candidates[found.picks[0]]]


def test_far_from_everything_the_source_is_taken() -> None:
    pools, near, like = [["ab", "ab"]] * 3, [["abc"], ["abc"], []], [[0.44], [0.45], []]
    found = choose_among(Chrf(), pools, near, like, sources=["S"] * 3, far=0.45)
    assert found.texts == ["S", "abc", "S"]
    assert choose_among(Chrf(), pools, near, like).texts == ["abc", "abc", "ab"]


def test_without_a_model_it_is_the_consensus_of_neighbours() -> None:
    near, like = [["abcd", "abce", "xyz"], ["q", "r"]], [[0.9, 0.8, 0.7], [0.5, 0.5]]
    found = choose_among(Chrf(), [[], []], near, like)
    picks = consensus(Chrf(), near, [weigh(row) for row in like])
    assert found.picks == picks.tolist()
    with pytest.raises(PomonaError, match="item 2: has no candidate — give its source as a cand"):
        choose_among(Chrf(), [["a"], []], [[], []], [[], []])
    assert weigh([0.05, 0.1, 0.9]).tolist() == pytest.approx([0, 0, 8])


def test_what_is_near_is_looked_up_and_the_rest_left_to_a_model() -> None:
    found = find(["Save page", "Log out"], ["de", "de"], ["Save page", "Save", "%"], ["de"] * 3, 2)
    assert look_up(found, ["Seite sichern", "Abmelden"], least=0.9) == ["Seite sichern", None, None]
    assert look_up(found, ["Seite sichern", "Abmelden"], least=0)[1] == "Seite sichern"


def test_consensus_equals_the_choice_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = [["Seite", "Seiten", "Die Seite", "Datei"], ["a"], ["Datei löschen", "Datei"]]
    weights = [[0.9, 0.5, 0.4, 0.1], [1.0], [0.0, 0.0]]
    expected = [
        int(
            np.argmax(
                [sum(w * u for w, u in zip(weight, row, strict=True)) for row in pairwise(p, p)]
            )
        )
        for p, weight in zip(pools, weights, strict=True)
    ]
    assert consensus(Chrf(), pools, weights).tolist() == expected
    monkeypatch.setattr("pomona.memory.choice._PAIRS", 1)
    assert consensus(Chrf(), pools, weights).tolist() == expected
    assert consensus(ExactMatch(), [["a", "b", "b"]], [[0.5, 0.3, 0.3]]).tolist() == [1]
    assert consensus(Chrf(), [], []).tolist() == []
