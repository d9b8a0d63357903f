from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.stats import largest_remainder


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.integers(0, 10_000))
def test_all_of_it_is_dealt_and_nobody_is_off_by_one(weights: list[float], total: int) -> None:
    dealt = largest_remainder(weights, total)
    if sum(weights) == 0:
        assert not dealt.any()
        return
    assert dealt.sum() == total
    exact = total * np.array(weights) / sum(weights)
    assert np.all(np.abs(dealt - exact) < 1 + 1e-6)


def test_by_hand() -> None:
    assert largest_remainder([47, 16, 15.8, 12, 6.1, 3.1], 10).tolist() == [5, 2, 1, 1, 1, 0]
    assert largest_remainder([1, 1, 1], 4).tolist() == [2, 1, 1]
    assert largest_remainder([1, 1, 1], 4, first=[3, 1, 2]).tolist() == [1, 2, 1]
    with pytest.raises(PomonaError, match="largest remainder: weights are below 0 — use 0 or more"):
        largest_remainder([1, -1], 4)
