from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.optimize import minimize_scalar

from pomona.data.value import (
    CAVEAT,
    RepetitionLaw,
    allocation,
    effective_data,
    loss,
    predict,
    repetition_worth,
)
from pomona.errors import PomonaError


@pytest.mark.parametrize(
    ("parameters", "tokens", "golden"),
    [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)],
)
def test_loss_has_the_golden_values(parameters: float, tokens: float, golden: float) -> None:
    assert loss(parameters, tokens, 25e9) == pytest.approx(golden, rel=1e-13)


def test_repeated_data_is_worth_the_golden_values() -> None:
    worth = effective_data(np.array([1.0, 2, 4, 8, 16, math.inf]))
    assert np.round(worth, 3).tolist() == [1.0, 1.968, 3.726, 6.624, 10.582, 16.388]
    assert effective_data(math.inf) == pytest.approx(16.387756, rel=1e-12)
    assert effective_data(0.25) == 0.25


def test_allocation_has_the_golden_values_and_beats_them() -> None:
    best = allocation(1e22, 25e9)
    assert (best.parameters, best.tokens, best.epochs) == pytest.approx(
        (7.022e9, 2.373e11, 9.49), rel=1e-3
    )
    assert best.loss <= loss(7.022e9, 1e22 / 6 / 7.022e9, 25e9)
    assert best.parameters * best.tokens * 6 == pytest.approx(1e22, rel=1e-12)


@given(st.floats(16, 26), st.floats(6, 13))
def test_allocation_agrees_with_scipy(log_flops: float, log_unique: float) -> None:
    flops, unique = 10**log_flops, 10**log_unique
    best = allocation(flops, unique)
    middle = math.log(flops / 6) / 2
    minimum = minimize_scalar(
        lambda x: loss(math.exp(x), flops / 6 / math.exp(x), unique),
        bounds=(middle - 13.8, middle + 13.8),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert best.loss <= minimum.fun * (1 + 1e-12)


@given(st.floats(1e6, 1e10), st.floats(1e8, 1e12))
def test_without_repetition_it_is_the_law_of_unique_data(parameters: float, tokens: float) -> None:
    law = RepetitionLaw()
    own = law.matching_parameters(tokens)
    seen = predict(parameters, tokens, tokens)
    assert seen.effective_tokens == pytest.approx(tokens)
    if parameters <= own:
        plain = (
            math.exp(law.log_e)
            + math.exp(law.log_a) / parameters**law.alpha
            + math.exp(law.log_b) / tokens**law.beta
        )
        assert seen.loss == pytest.approx(plain, rel=1e-12)


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_more_passes_never_harm_and_never_beat_new_data(one: float, two: float) -> None:
    low, high = sorted([one, two])
    assert 0 <= effective_data(low) <= effective_data(high) <= high
    assert effective_data(high) <= 1 + RepetitionLaw().data_decay


def test_results_carry_the_caveat() -> None:
    assert predict(1e9, 1e10, 1e9).caveat == allocation(1e20, 1e9).caveat == CAVEAT
    assert all(word in CAVEAT for word in ("C4", "decoder", "9 billion", "never predicts harm"))


def test_arrays_go_element_by_element() -> None:
    sizes, tokens = np.array([1e8, 1e9]), np.array([1e10, 1e11])
    assert loss(sizes, tokens, 5e9).tolist() == [
        loss(float(n), float(d), 5e9) for n, d in zip(sizes, tokens, strict=True)
    ]


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_what_is_not_positive_is_refused_by_name(bad: float) -> None:
    with pytest.raises(
        PomonaError, match=r"^unique: .* is not a positive number — give how many there are"
    ):
        loss(1e9, 1e9, bad)
    with pytest.raises(PomonaError, match=r"^flops: "):
        allocation(bad, 1e9)


def test_a_negative_number_of_passes_is_refused() -> None:
    with pytest.raises(PomonaError, match=r"epochs: -1 is not a number of passes — give 0 or more"):
        effective_data(-1)


def test_the_worth_of_repetition_is_a_row_for_each_number_of_passes() -> None:
    rows = repetition_worth(1e9)
    assert [row["epochs"] for row in rows] == [1, 2, 4, 8, 16]
    assert rows[0] == {"epochs": 1, "tokens": 1e9, "worth": 1e9}
    assert repetition_worth(2.0, [4]) == [
        {"epochs": 4, "tokens": 8.0, "worth": 2 * effective_data(4)}
    ]
    with pytest.raises(PomonaError, match="epochs: -1 is not a number of passes"):
        repetition_worth(1e9, [-1])
