from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pomona.errors import PomonaError
from pomona.merge.weights import linear, normalised, slerp, slerp_all

vectors = arrays(np.float32, 8, elements=st.floats(-3, 3, width=32))


def reference_slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    angle = np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))
    return np.sin((1 - t) * angle) / np.sin(angle) * a + np.sin(t * angle) / np.sin(angle) * b


def test_slerp_between_unit_vectors_stays_on_the_circle() -> None:
    a, b = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    np.testing.assert_allclose(slerp(a, b, 0.5), [np.sqrt(0.5), np.sqrt(0.5)], rtol=1e-7)
    np.testing.assert_allclose(slerp(a, b, 1 / 3), [np.cos(np.pi / 6), np.sin(np.pi / 6)], rtol=1e-7)


def test_slerp_agrees_with_the_formula_in_float64() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 100)).astype(np.float32)
    for t in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(slerp(a, b, t), reference_slerp(a, b, t), rtol=1e-6, atol=1e-6)


@given(vectors, vectors)
def test_slerp_ends_at_its_models(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(slerp(a, b, 0.0), a, atol=1e-5)
    np.testing.assert_allclose(slerp(a, b, 1.0), b, atol=1e-5)


@given(vectors, st.integers(2, 5))
def test_merging_a_model_with_itself_changes_nothing(a: np.ndarray, n: int) -> None:
    weights = normalised([1.0] * n)
    for rule in (linear, slerp_all):
        np.testing.assert_allclose(rule([a] * n, weights), a, rtol=1e-5, atol=1e-6)


def test_linear_is_the_weighted_mean() -> None:
    tensors = [np.full(3, v, np.float32) for v in (1.0, 2.0, 6.0)]
    np.testing.assert_allclose(linear(tensors, normalised([1, 1, 2])), 3.75)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_weights_without_a_sum_are_refused(weights: list[float]) -> None:
    with pytest.raises(PomonaError, match="use weights whose sum is not zero"):
        normalised(weights)
