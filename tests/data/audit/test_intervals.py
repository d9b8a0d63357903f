"""Wilson's interval against two references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pomona.data.audit import wilson
from pomona.errors import PomonaError

STATSMODELS_0_15_0 = [
    (0, 100, 0.95, 0.0, 0.03699349820698568),
    (1, 100, 0.95, 0.0017674320641406505, 0.054486196178705315),
    (29, 100, 0.95, 0.2101483574912227, 0.3853889117557111),
    (50, 100, 0.95, 0.4038315303659956, 0.5961684696340044),
    (100, 100, 0.95, 0.9630065017930143, 1.0),
    (0, 1, 0.95, 0.0, 0.7934506856227626),
    (3, 7, 0.9, 0.186443190363956, 0.7105229089864071),
    (9999, 10000, 0.99, 0.9991488235317749, 0.999988259344712),
    (29250, 100000, 0.95, 0.2896884996535334, 0.2953274417881886),
]


@pytest.mark.parametrize(("k", "n", "confidence", "low", "high"), STATSMODELS_0_15_0)
def test_agrees_with_proportion_confint_of_statsmodels(k: int, n: int, confidence: float, low: float, high: float) -> None:
    assert wilson(k, n, confidence) == (pytest.approx(low, abs=1e-14), pytest.approx(high, abs=1e-14))


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_agrees_with_scipy(pair: tuple[int, int], confidence: float) -> None:
    k, n = pair
    low, high = wilson(k, n, confidence)
    wanted = binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert (low, high) == (pytest.approx(wanted.low, abs=1e-10), pytest.approx(wanted.high, abs=1e-10))
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
