from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona.data.prune import select_band
from pomona.errors import PomonaError

scores_of = st.lists(st.floats(0.1, 1e6), min_size=5, max_size=60).map(np.array)


@given(scores_of, st.floats(0.05, 0.95), st.integers(0, 5))
def test_bands_are_ordered_and_as_large_as_asked(scores: np.ndarray, keep: float, seed: int) -> None:
    for band in ("bottom", "middle", "top", "random"):
        rows = select_band(scores, keep, band, seed=seed)
        assert abs(len(rows) - keep * len(scores)) <= 1
        assert list(rows) == sorted(set(rows))
    bottom, top = select_band(scores, keep, "bottom"), select_band(scores, keep, "top")
    if len(bottom) and len(top):
        assert scores[bottom].max() <= np.sort(scores)[max(0, len(bottom) - 1)]
        assert scores[top].min() >= np.sort(scores)[-len(top)]


def test_middle_is_the_percentiles_around_the_median() -> None:
    scores = np.arange(100.0)
    assert list(select_band(scores, 0.5, "middle")) == list(range(25, 75))


def test_bands_hold_the_same_number_of_tokens_not_of_rows() -> None:
    sizes = np.array([10, 10, 10, 10, 40, 40, 40, 40], np.int64)
    scores = np.arange(8.0)
    tokens = {band: sizes[select_band(scores, 0.4, band, sizes=sizes)].sum() for band in ("bottom", "top")}
    assert tokens == {"bottom": 80, "top": 80}


def test_the_random_control_depends_on_the_seed_alone() -> None:
    scores = np.random.default_rng(0).random(500)
    same = [select_band(scores, 0.3, "random", seed=7) for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], select_band(scores, 0.3, "random", seed=8))


def test_errors_name_the_row_and_the_remedy() -> None:
    with pytest.raises(PomonaError, match="row 1: the score nan is not finite — drop the row"):
        select_band(np.array([1.0, np.nan]), 0.5, "top")
    with pytest.raises(PomonaError, match=r"keep: 30 is not a share between 0 and 1 — use 0.3"):
        select_band(np.array([1.0]), 30, "top")
