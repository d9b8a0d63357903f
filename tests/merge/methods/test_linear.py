from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.merge.methods import run
from pomona.merge.methods.linear import torch_sum
from pomona.merge.plan import TensorInput, TensorJob

TYPES = ("BF16", "F16", "F32")

GOLDEN_INPUTS = [
    [15781, 15503, 15378, 48507, 15255, 48652, 15626, 15823, 48659, 15816, 15702, 15870],
    [48561, 15605, 15660, 48131, 15806, 15783, 15691, 48263, 48523, 48601, 15769, 15556],
    [48417, 15481, 48626, 15707, 48661, 48513, 15485, 48331, 15674, 15006, 15881, 15894],
]
GOLDEN_RESULT = [48382, 15528, 48417, 15396, 48404, 48370, 15610, 15183, 48375, 48249, 15816, 15823]
GOLDEN_SUMS: list[tuple[list[float], float]] = [
    ([0.273, 0.507, 0.807], 1.5870000123977661),
    ([0.673, 0.561, 0.918, 0.614, 0.836], 3.6020002365112305),
    ([0.069, 0.069, 0.049, 0.528, 0.924, 0.064, 0.699], 2.4019999504089355),
    ([0.059, 0.168, 0.329, 0.297, 0.648, 0.081, 0.994, 0.573], 3.1489999294281006),
    ([0.674, 0.162, 0.776, 0.383, 0.251, 0.585, 0.708, 0.553, 0.325], 4.416999816894531),
    (
        [
            0.593,
            0.307,
            0.331,
            0.314,
            0.798,
            0.151,
            0.717,
            0.759,
            0.168,
            0.12,
            0.167,
            0.077,
            0.92,
            0.941,
            0.43,
            0.969,
            0.642,
            0.009,
            0.043,
        ],
        8.455999374389648,
    ),
]


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values rounded to a type, as float32."""
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return values.astype(np.float16).astype(np.float32) if dtype == "F16" else values


def as_mergekit(
    values: list[np.ndarray], weights: list[float], normalize: bool, compute: str, dtype: str
) -> np.ndarray:
    total = np.zeros(values[0].shape, np.float32)
    for value, weight in zip(values, np.float32(weights), strict=True):
        total = (
            rounded(value, compute).astype(np.longdouble) * np.longdouble(weight) + total
        ).astype(np.float32)
    if normalize:
        total = total / torch_sum(np.float32(weights))
    return rounded(rounded(total, compute), dtype)


@pytest.mark.parametrize("stored", TYPES)
@pytest.mark.parametrize("compute", TYPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_linear_rounds_where_mergekit_rounds(reference, stored, compute, dtype):
    rng = np.random.default_rng(1)
    for count in (1, 2, 3, 8):
        arrays = [reference.narrow(rng.standard_normal(2111) * 0.1, stored) for _ in range(count)]
        weights = [float(weight) for weight in rng.uniform(0.1, 1, count)]
        inputs = tuple(TensorInput(i, "x", stored, {"weight": weights[i]}) for i in range(count))
        wide = [reference.wide(array, stored).astype(np.float32) for array in arrays]
        for normalize in (True, False):
            job = TensorJob(
                "x", (2111,), dtype, "linear", inputs, None, compute, {"normalize": normalize}
            )
            wanted = as_mergekit(wide, weights, normalize, compute, dtype)
            found = reference.wide(run(job, arrays, block=500), dtype).astype(np.float32)
            assert np.array_equal(found.view(np.uint32), wanted.view(np.uint32))


def test_linear_has_the_bits_that_mergekit_wrote():
    """Three bf16 models with weights 0.3, 0.5, 0.7, normalised, by mergekit 0.1.5 under dtype
    bfloat16.
    """
    arrays = [np.array(row, np.uint16) for row in GOLDEN_INPUTS]
    inputs = tuple(
        TensorInput(i, "x", "BF16", {"weight": weight}) for i, weight in enumerate((0.3, 0.5, 0.7))
    )
    merged = run(TensorJob("x", (12,), "BF16", "linear", inputs, None, "BF16", {}), arrays)
    assert merged.tolist() == GOLDEN_RESULT


def test_sums_of_weights_are_added_in_the_order_of_pytorch():
    for weights, wanted in GOLDEN_SUMS:
        assert float(torch_sum(np.float32(weights))) == wanted


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40))
def test_weights_have_about_the_sum_they_have(weights):
    assert float(torch_sum(np.float32(weights))) == pytest.approx(sum(weights), abs=1e-3)


@pytest.mark.parametrize("dtype", TYPES)
def test_passthrough_scales_and_keeps_the_sign_of_zero(make, agrees, dtype):
    job, arrays = make("passthrough", 1, dtype=dtype, based=False, scale=1.7)
    agrees(job, arrays)
    arrays[0][0, :2] = 0 if dtype != "BF16" else [0, 0x8000]
    unscaled = replace(job, inputs=(replace(job.inputs[0], parameters={}),))
    assert np.array_equal(run(unscaled, arrays), arrays[0])


def test_copy_takes_any_bytes():
    values = np.array([1, 2, -3], np.int64)
    merged = run(TensorJob("ids", (3,), "I64", "copy", (TensorInput(0, "ids", "I64"),)), [values])
    assert merged.dtype == np.int64
    assert np.array_equal(merged, values)
    broken = np.array([0x7FC0, 0x7F80], np.uint16)
    assert np.array_equal(
        run(TensorJob("x", (2,), "BF16", "copy", (TensorInput(0, "x", "BF16"),)), [broken]), broken
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("options", [{}, {"lambda": 0.4}, {"normalize": True}])
def test_task_arithmetic_agrees_with_the_formula(make, agrees, dtype, options):
    agrees(*make("task_arithmetic", 3, dtype=dtype, options=options, weight=[0.3, -0.6, 0.5]))


def test_weights_of_zero_leave_the_base(make):
    job, arrays = make("task_arithmetic", 2, options={"normalize": True}, weight=[0.5, -0.5])
    assert np.isfinite(run(job, arrays).astype(float)).all()
    job, arrays = make("task_arithmetic", 2, weight=0.0)
    assert np.array_equal(run(job, arrays), arrays[0])


def test_float64_is_computed_in_float64(reference):
    values = [np.array([1.0, 1e-12, -3.0]), np.array([1e-15, 1.0, 1e300])]
    inputs = tuple(TensorInput(i, "x", "F64", {"weight": 0.5}) for i in range(2))
    job = TensorJob("x", (3,), "F64", "linear", inputs, None, "F64", {"normalize": False})
    assert np.array_equal(run(job, values), 0.5 * values[0] + 0.5 * values[1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "method",
    [
        "linear",
        "task_arithmetic",
        "slerp",
        "multislerp",
        "model_stock",
        "ties",
        "dare_ties",
        "della",
    ],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(make, reference, dtype, method, bad):
    based = method != "linear"
    count = {"slerp": 1}.get(method, 2)
    job, arrays = make(
        method,
        count,
        shape=(7, 333),
        dtype=dtype,
        based=based,
        options={"t": 0.5},
        weight=0.5,
        density=0.5,
        epsilon=0.1,
    )
    arrays[-1][6, 332] = (
        reference.narrow(np.array(bad), dtype)
        if dtype != "BF16"
        else {np.inf: 0x7F80, -np.inf: 0xFF80}.get(bad, 0x7FC1)
    )
    with pytest.raises(PomonaError) as caught:
        run(job, arrays)
    assert str(caught.value) == (
        f'model-{count - 1}: tensor "x" holds NaN or infinity — leave this model out, or '
        "get an undamaged copy"
    )


def test_numbers_too_large_are_refused():
    values = [np.array([60000.0], np.float16)] * 2
    inputs = tuple(TensorInput(i, "x", "F16", {"weight": 1.0}, f"m{i}") for i in range(2))
    with pytest.raises(
        PomonaError,
        match="the result is too large for F16 — use smaller weights, or a wider out_dtype",
    ):
        run(
            TensorJob("x", (1,), "F16", "linear", inputs, None, "F16", {"normalize": False}), values
        )
    wide = [np.array([1e6], np.float32)]
    narrow = TensorJob(
        "x",
        (1,),
        "F32",
        "linear",
        (TensorInput(0, "x", "F32", {"weight": 1.0}, "m0"),),
        None,
        "F16",
        {},
    )
    with pytest.raises(
        PomonaError,
        match='m0: tensor "x" holds numbers too large for F16 — use dtype: float32 or bfloat16',
    ):
        run(narrow, wide)


def test_what_cannot_be_merged_is_refused_at_once():
    inputs = tuple(
        TensorInput(i, "x", "F32", {"weight": weight}) for i, weight in enumerate((1.0, -1.0))
    )
    with pytest.raises(
        PomonaError, match="the weights sum to zero — use other weights, or normalize: false"
    ):
        run(
            TensorJob("x", (1,), "F32", "linear", inputs, None, "F32", {}),
            [np.ones(1, np.float32)] * 2,
        )
    with pytest.raises(
        PomonaError,
        match=(
            'tensor "x": is I64, and only BF16, F16, F32, F64 can be merged — copy it from '
            "one model"
        ),
    ):
        run(
            TensorJob("x", (1,), "F32", "linear", (TensorInput(0, "x", "I64", {"weight": 1.0}),)),
            [np.ones(1, np.int64)],
        )
    with pytest.raises(PomonaError, match=r'unknown method "tie" — did you mean "ties"\?'):
        run(TensorJob("x", (1,), "F32", "tie", ()), [np.ones(1, np.float32)])
    with pytest.raises(PomonaError, match='"weight" has no value — give it one'):
        run(
            TensorJob("x", (1,), "F32", "linear", (TensorInput(0, "x", "F32"),)),
            [np.ones(1, np.float32)],
        )


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare_ties", "della", "model_stock"])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (1, 1)])
def test_tensors_may_be_tiny_or_empty(make, method, shape):
    job, arrays = make(
        method, 1 if method == "slerp" else 2, shape=shape, based=method != "linear",
        options={"t": 0.5, "rescale": True}, weight=0.5, density=0.5, epsilon=0.1,
    )  # fmt: skip
    assert run(job, arrays).shape == shape
