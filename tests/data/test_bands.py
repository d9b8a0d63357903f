from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.data.bands import Band, select_band
from pomona.errors import PomonaError

scores_of = st.lists(st.floats(0.1, 1e6), min_size=5, max_size=60).map(np.array)


@given(scores_of, st.floats(0.05, 0.95), st.integers(0, 5))
def test_bands_are_ordered_and_as_large_as_asked(
    scores: np.ndarray, keep: float, seed: int
) -> None:
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
    tokens = {
        band: sizes[select_band(scores, 0.4, band, sizes=sizes)].sum() for band in ("bottom", "top")
    }
    assert tokens == {"bottom": 80, "top": 80}


def test_the_random_control_depends_on_the_seed_alone() -> None:
    scores = np.random.default_rng(0).random(500)
    same = [select_band(scores, 0.3, "random", seed=7) for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], select_band(scores, 0.3, "random", seed=8))


def test_errors_name_the_row_and_the_remedy() -> None:
    with pytest.raises(PomonaError, match="the scores, row 2: the score nan is not finite — drop"):
        select_band(np.array([1.0, np.nan]), 0.5, "top")
    with pytest.raises(PomonaError, match=r"keep: 30 is not a share between 0 and 1 — use 0.3"):
        select_band(np.array([1.0]), 30, "top")


BANDS: tuple[Band, ...] = ("bottom", "middle", "top", "random")
tables = st.lists(
    st.tuples(st.integers(0, 20).map(float), st.sampled_from("abcd"), st.integers(0, 50)),
    min_size=1,
    max_size=60,
)


@given(tables, st.floats(0.05, 1), st.integers(0, 3), st.booleans(), st.integers(0, 5))
def test_floors_hold_and_bands_are_as_large_as_their_control(
    rows: list[tuple[float, str, int]], keep: float, floor: int, within: bool, seed: int
) -> None:
    scores, groups = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    chosen = {
        band: select_band(scores, keep, band, groups=groups, within=within, floor=floor, seed=seed)
        for band in BANDS
    }
    assert len({len(found) for found in chosen.values()}) == 1
    for band, found in chosen.items():
        assert (np.diff(found) > 0).all()
        assert np.array_equal(
            found,
            select_band(scores, keep, band, groups=groups, within=within, floor=floor, seed=seed),
        )
        for group in set(groups.tolist()):
            assert (groups[found] == group).sum() >= min(floor, (groups == group).sum())


@given(tables, st.floats(0.05, 0.95))
def test_bottom_and_top_of_complementary_shares_are_all_rows(
    rows: list[tuple[float, str, int]], keep: float
) -> None:
    scores = np.array([row[0] for row in rows])
    bottom, top = (
        set(select_band(scores, keep, "bottom").tolist()),
        set(select_band(scores, 1 - keep, "top").tolist()),
    )
    assert len(bottom | top) >= len(rows) - 1
    assert len(bottom & top) <= 1


@given(tables, st.floats(0.05, 1), st.sampled_from(BANDS))
def test_a_band_by_size_misses_its_share_by_at_most_half_a_row(
    rows: list[tuple[float, str, int]], keep: float, band: Band
) -> None:
    scores, sizes = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
    found = select_band(scores, keep, band, sizes=sizes)
    assert abs(sizes[found].sum() - keep * sizes.sum()) <= sizes.max() / 2 + 1e-6


@given(tables, st.floats(0.05, 1), st.sampled_from(BANDS[:3]))
def test_within_groups_is_the_band_of_each_group(
    rows: list[tuple[float, str, int]], keep: float, band: Band
) -> None:
    scores, groups = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    found = select_band(scores, keep, band, groups=groups, within=True)
    for group in set(groups.tolist()):
        mine = np.flatnonzero(groups == group)
        assert np.array_equal(
            found[np.isin(found, mine)], mine[select_band(scores[mine], keep, band)]
        )


def test_a_floor_gives_up_the_rows_the_band_would_take_last() -> None:
    scores, groups = np.arange(10.0), np.array(["a"] * 9 + ["b"])
    assert select_band(scores, 0.3, "bottom", groups=groups, floor=1).tolist() == [0, 1, 9]
