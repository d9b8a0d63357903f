"""Welch, shuffles and slopes, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import linregress, ttest_ind

from pomona.errors import PomonaError
from pomona.stats import (
    least_squares,
    permutation,
    shuffled_column,
    shuffles,
    slopes,
    welch,
)


def test_welch_equals_scipy_and_is_unknown_where_nothing_varies() -> None:
    rng = np.random.default_rng(0)
    ours, base = rng.normal(0, 1, (7, 4)), rng.normal(0.5, 3, (5, 4))
    ours[:, 2] = base[:, 2] = 0.25
    ours[:, 3] = 0.1
    t, df, p = welch(ours, base)
    for column in (0, 1):
        told = ttest_ind(ours[:, column], base[:, column], equal_var=False)
        found = (t[column], df[column], p[column])
        assert found == pytest.approx((told.statistic, told.df, told.pvalue))
    assert np.isnan([t[2], df[2], p[2]]).all() and np.isfinite(p[3])
    assert np.isnan(welch([1.0], [2.0, 3.0])[2])
    with pytest.raises(PomonaError, match="give both the same columns"):
        welch(ours, base[:, :2])


def test_welch_of_a_textbook() -> None:
    """Samples and result of R: t.test(extra ~ group, data = sleep)."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert [float(x) for x in welch(one, two)] == pytest.approx(
        [-1.8608, 17.776, 0.07939], rel=1e-4
    )


def test_pairs_change_places_and_nothing_else() -> None:
    dealt = shuffles(3, 3, 200, paired=True)
    assert {tuple(sorted((a, b))) for row in dealt for a, b in zip(row[:3], row[3:], strict=True)} == {
        (0, 3), (1, 4), (2, 5),
    }  # fmt: skip
    assert len({tuple(row) for row in dealt}) == 8
    free = shuffles(2, 3, 50)
    assert (np.sort(free, axis=1) == np.arange(5)).all()
    with pytest.raises(PomonaError, match="as many to be paired"):
        shuffles(2, 3, 5, paired=True)


def test_a_permutation_is_never_of_no_chance() -> None:
    drawn = np.array([0.0, 1.0, 2.0, 3.0])
    assert permutation([3.0, 4.0, 0.0], np.tile(drawn[:, None], 3)).tolist() == [0.4, 0.2, 1.0]


def test_least_squares_equal_scipy_alone_weighted_and_by_the_dozen() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)
    y = 3 + 2 * x + rng.normal(size=20)
    design = np.stack([np.ones(20), x], axis=1)
    told = linregress(x, y)
    assert least_squares(design, y) == pytest.approx([told.intercept, told.slope])
    counts = rng.integers(0, 3, (12, 20))
    many = least_squares(design, y, counts)
    repeated = linregress(np.repeat(x, counts[5]), np.repeat(y, counts[5]))
    assert many[5] == pytest.approx([repeated.intercept, repeated.slope])
    low_and_high = slopes(many, many.mean(0))
    assert low_and_high[1].ci_low == pytest.approx(np.quantile(many[:, 1], 0.025))


def test_a_shuffled_column_has_a_p_value_given_the_others() -> None:
    rng = np.random.default_rng(0)
    other, noise = rng.normal(size=40), rng.normal(size=40)
    own = other + 0.5 * rng.normal(size=40)
    design = np.stack([np.ones(40), own, other], axis=1)
    assert shuffled_column(design, other + noise, 1, draws=199) > 0.05
    assert shuffled_column(design, 2 * own + noise, 1, draws=199) == 1 / 200
