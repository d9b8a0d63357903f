"""How unevenly amounts lie over items, against their definitions."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.stats import gini, half_share


def test_golden_values() -> None:
    """Of incomes 1 to 4 Gini is 0.25 (ineq's `Gini` in R), here times n / (n - 1)."""
    assert gini([1, 2, 3, 4])[0] == pytest.approx(0.25 * 4 / 3)
    assert (gini([2, 2, 2])[0], gini([0, 0, 5])[0], gini([3, -1, 0, 0])[0]) == (0, 1, 1)
    assert (half_share([1, 1, 1, 1])[0], half_share([9, 1, 1, -8])[0]) == (0.5, 0.25)
    assert np.isnan([gini([0, 0])[0], gini([1])[0], half_share([-1, 0])[0]]).all()
    with pytest.raises(PomonaError, match="values: are no list of numbers — give a list of finite"):
        gini([1, float("nan")])


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 4)), min_size=2, max_size=9))
def test_counts_are_items_that_occur_so_often(pairs: list[tuple[int, int]]) -> None:
    x, counts = np.array(pairs, float).T
    every = np.repeat(x, counts.astype(int))
    n, up = len(every), np.sort(np.maximum(every, 0))[::-1]
    if n > 1 and np.abs(every).sum() > 0:
        pairs_ = np.abs(every[:, None] - every).sum() / (2 * (n - 1) * np.abs(every).sum())
        assert gini(x, counts[None])[0] == pytest.approx(pairs_)
        assert 0 <= pairs_ <= 1 + 1e-12
    if n and up.sum() > 0:
        fewest = np.argmax(np.cumsum(up) >= up.sum() / 2) + 1
        assert half_share(x, counts[None])[0] == pytest.approx(fewest / n)
    else:
        assert np.isnan(half_share(x, counts[None])[0])
