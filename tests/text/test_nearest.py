"""The search against a computation of its own with dictionaries, and at its edges."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.text import Nearest, nearest

TEXTS = st.lists(st.text(alphabet="abc é𝄞", max_size=9), min_size=1, max_size=8)


def grams(text: str) -> Counter[str]:
    return Counter(text[i : i + n] for n in (2, 3, 4, 5) for i in range(len(text) - n + 1))


def by_hand(texts: list[str], queries: list[str]) -> np.ndarray:
    """Similarities `[queries, texts]`, one n-gram after the other."""
    df = Counter(gram for text in texts for gram in grams(text))

    def vector(text: str) -> dict[str, float]:
        weights = {
            gram: (1 + math.log(n)) * (math.log((1 + len(texts)) / (1 + df[gram])) + 1)
            for gram, n in grams(text).items()
        }
        length = math.sqrt(sum(weight**2 for weight in weights.values()))
        return {gram: weight / length for gram, weight in weights.items()}

    vectors = [vector(text) for text in texts]
    return np.array(
        [
            [sum(w * other.get(gram, 0) for gram, w in vector(query).items()) for other in vectors]
            for query in queries
        ]
    )


def check(texts: list[str], queries: list[str], k: int) -> None:
    found, expected = Nearest(texts).search(queries, k), by_hand(texts, queries)
    k = min(k, len(texts))
    assert found.rows.shape == found.similarity.shape == (len(queries), k)
    np.testing.assert_allclose(found.similarity, -np.sort(-expected, axis=1)[:, :k], atol=1e-12)
    picked = np.take_along_axis(expected, found.rows, axis=1)
    np.testing.assert_allclose(found.similarity, picked, atol=1e-12)
    assert all(len(set(row)) == k for row in found.rows.tolist())
    known = [len(set(grams(query)) & set(grams(text))) for query in queries for text in texts]
    flops = 2 * np.array(known).reshape(len(queries), len(texts)).sum(1)
    np.testing.assert_array_equal(found.flops, flops)


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, st.integers(1, 9))
def test_equals_a_computation_by_hand(texts: list[str], queries: list[str], k: int) -> None:
    check(texts, queries, k)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    words = ["save", "file", "page", "delete", "the", "user", "%(name)s"]
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 5))) for _ in range(120)]
    check(texts[:80], texts[80:], 5)
    whole = Nearest(texts[:80]).search(texts[80:], 5)
    monkeypatch.setattr(nearest, "_SCORES", 200)
    monkeypatch.setattr(nearest, "_CHARACTERS", 50)
    parts = Nearest(texts[:80]).search(texts[80:], 5)
    assert parts.rows.tolist() == whole.rows.tolist()
    np.testing.assert_allclose(parts.similarity, whole.similarity, atol=1e-12)
    np.testing.assert_array_equal(parts.flops, whole.flops)


def test_equal_texts_come_in_their_order() -> None:
    found = Nearest(["save page", "delete", "save page", "save page"]).search(["save page"], 3)
    assert found.rows.tolist() == [[0, 2, 3]]
    np.testing.assert_allclose(found.similarity, 1)


def test_what_is_unknown_makes_a_query_less_near() -> None:
    index = Nearest(["save", "page"])
    alone, among = index.search(["save", "save zzzzzz"], 1).similarity[:, 0]
    assert alone == pytest.approx(1) and among < 0.6


def test_texts_without_n_grams_are_near_nothing() -> None:
    found = Nearest(["", "a"]).search(["", "ab"], 2)
    assert found.rows.tolist() == [[0, 1], [0, 1]] and not found.similarity.any()
    assert Nearest(["ab"]).search([], 1).rows.shape == (0, 1)


def test_its_costs_are_counted() -> None:
    index = Nearest(["abc", "abcd"])
    assert index.flops == 4 * (3 + 6) and index.bytes > 0


def test_errors() -> None:
    with pytest.raises(PomonaError, match=r"^there are no texts to search — give at least one"):
        Nearest([])
    with pytest.raises(PomonaError, match=r"^k: 0 neighbours are none — ask for at least 1$"):
        Nearest(["a"]).search(["a"], 0)
