"""Wilson's interval against two references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import binomtest

from pomona.errors import PomonaError
from pomona.stats import wilson

CASES = [
    (0, 100, 0.95),
    (1, 100, 0.95),
    (29, 100, 0.95),
    (50, 100, 0.95),
    (100, 100, 0.95),
    (0, 1, 0.95),
    (3, 7, 0.9),
    (9999, 10000, 0.99),
    (29250, 100000, 0.95),
]


def test_agrees_with_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for k, n, confidence in CASES:
        low, high = proportion.proportion_confint(k, n, alpha=1 - confidence, method="wilson")
        assert wilson(k, n, confidence) == (
            pytest.approx(low, abs=1e-14),
            pytest.approx(high, abs=1e-14),
        )


def test_golden_values() -> None:
    """From statsmodels 0.15.0, for where it is not installed."""
    assert wilson(29, 100) == (
        pytest.approx(0.2101483574912227, abs=1e-14),
        pytest.approx(0.3853889117557111, abs=1e-14),
    )
    assert wilson(3, 7, 0.9) == (
        pytest.approx(0.186443190363956, abs=1e-14),
        pytest.approx(0.7105229089864071, abs=1e-14),
    )


@given(
    st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.floats(0.5, 0.999),
)
def test_agrees_with_scipy(pair: tuple[int, int], confidence: float) -> None:
    k, n = pair
    low, high = wilson(k, n, confidence)
    wanted = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert (low, high) == (
        pytest.approx(wanted.low, abs=1e-10),
        pytest.approx(wanted.high, abs=1e-10),
    )
    assert 0 <= low <= k / n <= high <= 1


def test_is_elementwise() -> None:
    low, high = wilson(np.array([[0, 5], [5, 10]]), 10)
    assert low.shape == high.shape == (2, 2)
    assert low[0, 1] == low[1, 0] == wilson(5, 10)[0]
    assert [float(end) for end in wilson(0, 0)] == [0.0, 1.0]


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (float("nan"), 5)])
def test_impossible_counts_are_errors(k: float, n: int) -> None:
    with pytest.raises(PomonaError, match="give 0 ≤ k ≤ n"):
        wilson(k, n)
    with pytest.raises(PomonaError, match=r"confidence: 95 is not between 0 and 1 — use 0.95"):
        wilson(1, 2, 95)
