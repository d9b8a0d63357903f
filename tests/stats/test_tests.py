"""Tests of two systems against values computed elsewhere."""

import pytest
from scipy.stats import binomtest

from pomona.errors import PomonaError
from pomona.stats import mcnemar


def test_mcnemar_is_exact() -> None:
    """R's `binom.test(k, n)$p.value`, and the exact p of `mcnemar` in statsmodels for 6 and 16."""
    assert mcnemar(6, 16) == pytest.approx(0.052478790283203125)
    assert mcnemar(7, 0) == 0.015625
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0
    with pytest.raises(PomonaError, match="-1 items are fewer than none — give numbers of items"):
        mcnemar(-1, 3)


def test_mcnemar_is_the_binomial_test() -> None:
    for lost in (0, 1, 5, 40):
        for gained in (0, 2, 5, 60, 3000):
            if lost + gained:
                expected = binomtest(lost, lost + gained, 0.5).pvalue
                assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-9, abs=1e-300)
