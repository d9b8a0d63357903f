from __future__ import annotations

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.merge.methods import run
from pomona.merge.plan import TensorInput, TensorJob

TYPES = ("BF16", "F16", "F32")


def f32(
    method: str,
    values: list[list[float]],
    options: dict | None = None,
    based: bool = False,
    **parameters,
) -> np.ndarray:
    arrays = [np.array(row, np.float32) for row in values]
    inputs = [
        TensorInput(
            i, "x", "F32", {k: v[i] if isinstance(v, list) else v for k, v in parameters.items()}
        )
        for i in range(len(values) - based)
    ]
    base = TensorInput(9, "x", "F32") if based else None
    return run(
        TensorJob("x", arrays[0].shape, "F32", method, tuple(inputs), base, "F32", options or {}),
        arrays,
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("apart", [0.05, 50.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_is_within_one_unit_of_float64(make, agrees, dtype, apart, t):
    job, arrays = make("slerp", 1, dtype=dtype, apart=apart, options={"t": t})
    merged = agrees(job, arrays)
    if t in (0.0, 1.0):
        assert np.array_equal(merged, arrays[int(t)])


def test_slerp_goes_along_the_arc_from_the_base():
    half = f32("slerp", [[1, 0], [0, 1]], {"t": 0.5}, based=True)
    assert half == pytest.approx([0.5**0.5] * 2, rel=1e-6)
    assert f32("slerp", [[1, 0], [2, 0]], {"t": 0.25}, based=True) == pytest.approx([1.25, 0])
    assert f32("slerp", [[1, 0], [-1, 0]], {"t": 0.25}, based=True) == pytest.approx([0.5, 0])
    assert f32("slerp", [[0, 0], [0, 3]], {"t": 0.5}, based=True) == pytest.approx(
        [0, 3 * 0.5**0.5], rel=1e-6
    )


def test_numbers_whose_squares_overflow_have_an_angle():
    merged = f32("slerp", [[1e30, 0], [0, 1e30]], {"t": 0.5}, based=True)
    assert merged == pytest.approx([1e30 * 0.5**0.5] * 2, rel=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("based", [True, False])
@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("rows", [True, False])
def test_nuslerp_agrees_with_float64(make, agrees, dtype, based, flatten, rows):
    options = {"nuslerp_flatten": flatten, "nuslerp_row_wise": rows}
    agrees(
        *make("nuslerp", 2, dtype=dtype, based=based, apart=2.0, options=options, weight=[0.3, 0.6])
    )


@pytest.mark.parametrize("shape", [(40,), (5, 6, 7)])
@pytest.mark.parametrize("rows", [True, False])
def test_nuslerp_by_rows_takes_any_number_of_dimensions(make, agrees, shape, rows):
    options = {"nuslerp_flatten": False, "nuslerp_row_wise": rows}
    agrees(
        *make("nuslerp", 2, shape=shape, dtype="F32", apart=2.0, options=options, weight=[0.3, 0.6])
    )


def test_nuslerp_with_weights_that_cancel_out_takes_the_middle():
    assert f32("nuslerp", [[1, 0], [0, 1]], weight=[1.0, -1.0]) == pytest.approx(
        [0.5**0.5] * 2, rel=1e-6
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("based", [True, False])
@pytest.mark.parametrize("options", [{}, {"normalize_weights": False}])
def test_multislerp_agrees_with_float64(make, agrees, dtype, based, options):
    agrees(
        *make(
            "multislerp",
            3,
            dtype=dtype,
            based=based,
            apart=2.0,
            options=options,
            weight=[0.3, 0.6, 0.5],
        )
    )


def test_multislerp_of_one_model_is_that_model_and_of_opposites_a_line():
    assert f32("multislerp", [[1, 0], [3, 4]], based=True, weight=0.2).tolist() == [3, 4]
    assert f32("multislerp", [[1, 0], [-1, 0]], weight=0.5).tolist() == [0, 0]
    corners = [[1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]
    with pytest.raises(
        PomonaError,
        match="the weighted directions of the models cancel out — use other weights, or linear",
    ):
        f32("multislerp", corners, {"eps": 1e-6}, weight=1.0)
    with pytest.raises(
        PomonaError,
        match="the weights sum to zero — use other weights, or normalize_weights: false",
    ):
        f32("multislerp", corners[:2], weight=[1.0, -1.0])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("rows", [True, False])
def test_model_stock_agrees_with_float64(make, agrees, dtype, count, rows):
    agrees(*make("model_stock", count, dtype=dtype, options={"filter_wise": rows}))


def test_model_stock_trusts_models_as_far_as_they_agree():
    base, right = [0.0, 0.0], [1.0, 0.0]
    assert f32("model_stock", [base, right, right], based=True).tolist() == right
    assert f32("model_stock", [base, right, [0.0, 1.0]], based=True).tolist() == base
    assert f32("model_stock", [base, right, [-1.0, 0.0]], based=True).tolist() == base
    assert f32("model_stock", [base, base, base], based=True).tolist() == base
