from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.merge.methods import run
from pomona.merge.methods.selection import Ranking
from pomona.merge.plan import TensorInput, TensorJob

TYPES = ("BF16", "F16", "F32")
KARCHER = {"max_iter": 10, "tol": 1e-5}
RAM = {"epsilon": 1e-3, "r": 0.3, "alpha": 0.5}


def f32(
    method: str, values: list[list[float]], based: bool = True, **options: float
) -> list[float]:
    arrays = [np.array(row, np.float32) for row in values]
    inputs = tuple(TensorInput(place, "x", "F32") for place in range(len(values) - based))
    base = TensorInput(9, "x", "F32") if based else None
    return run(
        TensorJob("x", arrays[0].shape, "F32", method, inputs, base, "F32", options), arrays
    ).tolist()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("apart", [0.05, 50.0])
@pytest.mark.parametrize(
    "options", [KARCHER, {"max_iter": 999, "tol": 1e-10}, {"max_iter": 0, "tol": 1e-5}]
)
def test_karcher_agrees_with_float64(make, agrees, dtype, apart, options):
    agrees(*make("karcher", 3, dtype=dtype, based=False, apart=apart, options=options))


def test_karcher_of_two_is_half_way_along_the_arc():
    assert f32("karcher", [[2, 0], [0, 4]], based=False, **KARCHER) == pytest.approx(
        [3 * 0.5**0.5] * 2, rel=1e-6
    )


def test_karcher_of_one_model_is_that_model_and_of_zeros_zero():
    assert f32("karcher", [[0.1, 0.3]], based=False, **KARCHER) == np.float32([0.1, 0.3]).tolist()
    assert f32("karcher", [[0, 0], [0, 0]], based=False, **KARCHER) == [0, 0]
    assert f32("karcher", [[3, 4], [0, 0]], based=False, **KARCHER) == pytest.approx(
        [1.5, 2]
    )  # zeros have a length and no direction
    with pytest.raises(PomonaError, match="two models point in opposite directions"):
        f32("karcher", [[1, 0], [-1, 0]], based=False, **KARCHER)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(0.1, 1), min_size=3, max_size=3), min_size=2, max_size=4))
def test_at_the_karcher_mean_the_directions_to_all_models_balance(rows):
    mean = np.array(f32("karcher", rows, based=False, max_iter=500, tol=1e-10))
    mean /= np.linalg.norm(mean)
    total = np.zeros(3)
    for row in np.float32(rows).astype(float):
        unit = row / np.linalg.norm(row)
        away = unit - (unit @ mean) * mean
        total += away / max(np.linalg.norm(away), 1e-12) * np.arccos(np.clip(unit @ mean, -1, 1))
    assert np.abs(total).max() < 1e-5


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("t", [0.0, 1e-4, 1e-3, 1.0])
def test_nearswap_agrees_with_float64(make, agrees, dtype, t):
    job, arrays = make("nearswap", 1, dtype=dtype, options={"t": t})
    merged = agrees(job, arrays)
    if t in (0.0, 1.0):
        assert np.array_equal(merged, arrays[int(t)])


def test_nearswap_goes_all_the_way_where_models_are_near():
    assert f32("nearswap", [[0, 0, 0, 1], [0.5, 1, -4, 1]], t=1.0) == pytest.approx([0.5, 1, -1, 1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("method", ["ram", "ramplus_tl"])
def test_ram_agrees_with_float64(make, agrees, dtype, count, method):
    agrees(*make(method, count, dtype=dtype, options=RAM))


def test_ram_keeps_what_one_model_changed_and_averages_what_several_did():
    taus = [[4.0, 0.0, 0.001, 0.0], [2.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    assert f32("ram", [[0] * 4, *taus], epsilon=0.01) == [3, 3, 0, 0]
    assert f32("ramplus_tl", [[0] * 4, *taus], epsilon=0.01, r=0.5, alpha=0.2) == pytest.approx(
        [3, 3.3, 0, 0]
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("share", [1.0, 0.4, 0.01, 1e-5, 0.0])
def test_sce_agrees_with_float64(make, agrees, dtype, count, share):
    job, arrays = make("sce", count, dtype=dtype, options={"select_topk": share})
    merged = agrees(job, arrays)
    if share < 1e-4 or (count == 1 and share < 1):
        assert np.array_equal(merged, arrays[0])


def test_sce_selects_weighs_and_erases():
    # variances 1, 0, 4, 0.25; half of the three that differ is one; mean squares 1 : 9
    taus = [[1, 1, 1, 1], [-1, 1, -3, 2]]
    assert f32("sce", [[0] * 4, *taus], select_topk=0.5) == pytest.approx([0, 0, -3, 0])
    # Σ τ elects +, +, −, +; weights 4 : 15
    assert f32("sce", [[0] * 4, *taus], select_topk=1.0) == pytest.approx(
        [1, 1, -3, (4 + 2 * 15) / 19]
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(23, 307), (700,), (5, 6, 7), (1, 1)])
def test_arcee_fusion_agrees_with_float64(make, agrees, dtype, shape):
    job, arrays = make("arcee_fusion", 1, dtype=dtype, shape=shape, apart=1.0)
    merged = agrees(job, arrays)
    assert ((merged == arrays[0]) | (merged == arrays[1])).all()


def test_arcee_fusion_takes_changes_far_above_the_quartiles():
    changed = [
        0.01,
        0.02,
        0.03,
        0.04,
        0.05,
        0.06,
        0.07,
        0.11,
    ]  # quartiles at 2, 4 and 6: from 4 + 1.5 · 4 on
    assert f32("arcee_fusion", [[0] * 8, changed]) == pytest.approx([0] * 7 + [0.11])
    assert f32("arcee_fusion", [[0] * 8, [*changed[:7], 0.09]]) == [0] * 8
    assert f32("arcee_fusion", [[0] * 8, [0] * 7 + [1]]) == [0] * 7 + [1]


@pytest.mark.parametrize(
    "method", ["karcher", "nearswap", "ram", "ramplus_tl", "sce", "arcee_fusion"]
)
def test_nan_is_refused_with_the_place_of_its_model(method):
    arrays = [np.ones((2, 3), np.float32), np.full((2, 3), np.nan, np.float32)]
    inputs = (
        (TensorInput(0, "x", "F32"), TensorInput(1, "x", "F32"))
        if method == "karcher"
        else (TensorInput(1, "x", "F32"),)
    )
    base = None if method == "karcher" else TensorInput(0, "x", "F32")
    options = {**KARCHER, **RAM, "t": 0.5, "select_topk": 1.0}
    with pytest.raises(PomonaError, match='tensor "x" holds NaN or infinity'):
        run(TensorJob("x", (2, 3), "F32", method, inputs, base, "F32", options), arrays)


@pytest.mark.parametrize(
    "method", ["karcher", "nearswap", "ram", "ramplus_tl", "sce", "arcee_fusion"]
)
def test_results_too_large_for_their_type_are_refused(method):
    big, base = np.full((1, 2), 1e6, np.float32), np.zeros((1, 2), np.float32)
    inputs = (TensorInput(1, "x", "F32"),)
    options = {**KARCHER, **RAM, "t": 1e7, "select_topk": 1.0}
    job = TensorJob(
        "x",
        (1, 2),
        "F16",
        method,
        inputs,
        None if method == "karcher" else TensorInput(0, "x", "F32"),
        "F32",
        options,
    )
    with pytest.raises(PomonaError, match="the result is too large for F16"):
        run(job, [big] if method == "karcher" else [base, big])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 2.0**90, width=32), min_size=1, max_size=60), st.data())
def test_ranking_finds_what_sorting_finds(numbers, data):
    values = np.array(numbers, np.float32)
    ranks = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=3))
    ranking = Ranking()
    for _ in range(2):
        for part in np.array_split(values, 3):
            ranking.add(part)
        ranking.settle(ranks)
    assert ranking.values == np.sort(values)[ranks].tolist()
