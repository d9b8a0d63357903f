from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge import plan_merge
from pomona.merge.methods import run
from pomona.merge.plan import TensorInput, TensorJob

Floats = NDArray[np.float32]
vectors = arrays(np.float32, 8, elements=st.floats(-3, 3, width=32))


def merged(method: str, tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    inputs = tuple(
        TensorInput(i, "x", "F32", {"weight": weight}, str(i)) for i, weight in enumerate(weights)
    )
    return run(
        TensorJob("x", tensors[0].shape, "F32", method, inputs, options={"normalize": True}),
        tensors,
    )


def slerp(a: Floats, b: Floats, t: float) -> Floats:
    return run(
        TensorJob(
            "x",
            a.shape,
            "F32",
            "slerp",
            (TensorInput(1, "x", "F32"),),
            base=TensorInput(0, "x", "F32"),
            options={"t": t},
        ),
        [a, b],
    )


def reference_slerp(a: Floats, b: Floats, t: float) -> NDArray[np.float64]:
    wide, other = a.astype(np.float64), b.astype(np.float64)
    angle = np.arccos(np.clip(wide @ other / np.linalg.norm(wide) / np.linalg.norm(other), -1, 1))
    return (
        np.sin((1 - t) * angle) / np.sin(angle) * wide + np.sin(t * angle) / np.sin(angle) * other
    )


def test_slerp_between_unit_vectors_stays_on_the_circle() -> None:
    a, b = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    np.testing.assert_allclose(slerp(a, b, 0.5), [np.sqrt(0.5), np.sqrt(0.5)], rtol=1e-7)
    np.testing.assert_allclose(
        slerp(a, b, 1 / 3), [np.cos(np.pi / 6), np.sin(np.pi / 6)], rtol=1e-7
    )


def test_slerp_agrees_with_the_formula_in_float64() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 100)).astype(np.float32)
    for t in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(slerp(a, b, t), reference_slerp(a, b, t), rtol=1e-6, atol=1e-6)


@given(vectors, vectors)
def test_slerp_ends_at_its_models(a: Floats, b: Floats) -> None:
    np.testing.assert_allclose(slerp(a, b, 0.0), a, atol=1e-5)
    np.testing.assert_allclose(slerp(a, b, 1.0), b, atol=1e-5)


@given(vectors, st.integers(2, 5))
def test_merging_a_model_with_itself_changes_nothing(a: Floats, n: int) -> None:
    for method in ("linear", "multislerp"):
        np.testing.assert_allclose(merged(method, [a] * n, [1.0] * n), a, rtol=1e-5, atol=1e-6)


def test_linear_is_the_weighted_mean() -> None:
    tensors = [np.full(3, value, np.float32) for value in (1.0, 2.0, 6.0)]
    np.testing.assert_allclose(merged("linear", tensors, [1, 1, 2]), 3.75)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_weights_without_a_sum_are_refused(weights: list[float]) -> None:
    models = [
        {"model": name, "parameters": {"weight": weight}}
        for name, weight in zip(("ui-s@40", "ui-s@80"), weights, strict=True)
    ]
    with pytest.raises(
        PomonaError, match=r"sum to zero, .* use other weights|expected a finite number, found nan"
    ):
        plan_merge({"merge_method": "linear", "models": models})
