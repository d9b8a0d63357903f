"""Measures of two answers, and what votes say of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from pomona.arena import Votes
from pomona.arena.prioritizing.measures import TEXTS, change, measure
from pomona.arena.prioritizing.pairs import observed, read_pairs
from pomona.tasks import pairwise


def _pairs(answers: dict[str, str]) -> pa.Table:
    names = sorted(answers)
    return pa.Table.from_pylist(
        [
            {
                "prompt": "p",
                "model_a": a,
                "model_b": b,
                "completion_a": answers[a],
                "completion_b": answers[b],
            }
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        ]
    )


def test_measures_of_a_small_pool() -> None:
    texts = {"x": "the cat sat on the mat", "y": "the cat sat on the hat", "z": "nothing alike"}
    found = measure(read_pairs(_pairs(texts))).values
    assert set(found) < set(TEXTS)
    np.testing.assert_allclose(found["unigrams"], [1 - 2 * 5 / 12, 1, 1])
    np.testing.assert_allclose(found["fourgrams"], [1 - 2 * 2 / 6, 1, 1])
    told = pairwise(list(texts.values()), list(texts.values()))
    both = (told + told.T) / 2
    np.testing.assert_allclose(found["chrf"], [both[0, 1], both[0, 2], both[1, 2]])
    consensus = (both.sum(1) - 100) / 2
    np.testing.assert_allclose(found["consensus"][1], max(consensus[0], consensus[2]))
    np.testing.assert_allclose(found["consensus_gap"][2], abs(consensus[1] - consensus[2]))
    np.testing.assert_allclose(found["length_ratio"][0], 0)
    assert found["same"].tolist() == [0, 0, 0]


def test_equal_and_empty_answers() -> None:
    found = measure(read_pairs(_pairs({"x": "", "y": "", "z": "a b"}))).values
    assert found["same"].tolist() == [1, 0, 0]
    assert found["unigrams"].tolist() == [0, 1, 1]
    assert all(np.isfinite(of).all() for of in found.values())


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), min_size=5, max_size=40))
def test_of_all_pairs_nothing_changes(rows: list[tuple[int, float]]) -> None:
    votes = np.array([float(n) for n, _ in rows])
    ties = np.floor(votes * [share for _, share in rows])
    found = change(np.arange(len(rows)), votes, ties, share=1 - 1e-12)
    if ties.sum() == 0:
        assert found is None
    else:
        assert found is not None and found[0] == pytest.approx(0, abs=1e-9)


def test_pairs_with_one_score_count_in_part() -> None:
    votes, ties = np.ones(10), np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0.0])
    found = change(np.zeros(10), votes, ties)
    assert found is not None and found[0] == pytest.approx(0)
    found = change(np.arange(10.0), votes, ties)
    assert found is not None and found[0] == -1
    found = change(-np.arange(10.0), votes, ties)
    assert found is not None and found[0] == pytest.approx(1)


def test_the_sign_is_not_given(llmfao_written: pa.Table, llmfao: Votes) -> None:
    """Real votes: answers that differ most in words are ties more often, and those near what all
    models say less often.
    """
    from pomona.arena import read_votes

    pairs = read_pairs(llmfao_written)
    seen = observed(pairs, read_votes(llmfao_written))
    assert (len(pairs), seen.votes.sum(), seen.ties.sum()) == (2139, 8931, 3471)
    values = measure(pairs).values
    found = {name: change(values[name], seen.votes, seen.ties) for name in values}
    assert found["unigrams"][0] == pytest.approx(0.288, abs=0.01)  # type: ignore[index]
    assert found["chrf"][0] == pytest.approx(-0.297, abs=0.01)  # type: ignore[index]
    assert found["consensus"][0] == pytest.approx(-0.482, abs=0.01)  # type: ignore[index]
    assert found["length_ratio"][1] > 0  # type: ignore[index]
