"""Scale-equivalents: by hand, invariants, and the ladder's ends."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.ledger import Ladder, ScaleEquivalent

SIZES = np.array([1e6, 2e6, 8e6])
curves = st.lists(st.integers(-1000, 1000), min_size=3, max_size=3, unique=True).map(
    lambda v: np.array(v, dtype=float)
)


def ladder(values: list[float], higher_is_better: bool = True, resamples: int = 40) -> Ladder:
    curve = np.array(values, dtype=float)
    return Ladder(
        SIZES[: len(curve)], curve, np.repeat(curve[:, None], resamples, axis=1), higher_is_better
    )


def equivalent(rungs: Ladder, value: float, baseline: int) -> ScaleEquivalent:
    size = rungs.scale_equivalent(value, np.full(rungs.resampled.shape[1], value), baseline)
    assert size is not None
    return size


def test_by_hand() -> None:
    """Half-way in value between 2M and 8M is half-way in log size: 4M, twice the baseline's 2M."""
    size = equivalent(ladder([10, 20, 30]), 25, baseline=1)
    assert (
        size.ratio == pytest.approx(2)
        and size.ci_low == pytest.approx(2)
        and size.ci_high == pytest.approx(2)
        and size.note == ""
    )


def test_lower_is_better() -> None:
    size = equivalent(ladder([3, 2, 1], higher_is_better=False), 1.5, baseline=1)
    assert size.ratio == pytest.approx(2)
    assert (
        equivalent(ladder([3, 2, 1], higher_is_better=False), 0.9, baseline=1).note
        == "beyond the ladder"
    )


def test_outside_the_ladder() -> None:
    assert equivalent(ladder([10, 20, 30]), 31, 1) == ScaleEquivalent(
        None, None, None, "beyond the ladder"
    )
    assert equivalent(ladder([10, 20, 30]), 9, 1) == ScaleEquivalent(
        None, None, None, "below the ladder"
    )


def test_one_rung_says_nothing() -> None:
    assert ladder([10]).scale_equivalent(11, np.full(40, 11.0), 0) is None


def test_interval_is_paired_and_its_bounds_can_leave_the_ladder() -> None:
    noise = np.linspace(-30, 30, 1001)
    values = np.array([10.0, 20.0, 30.0])
    rungs = Ladder(SIZES, values, values[:, None] + noise)
    paired = rungs.scale_equivalent(25, 25 + noise, 1)
    assert (
        paired is not None
        and paired.ci_low == pytest.approx(2)
        and paired.ci_high == pytest.approx(2)
    )
    loose = rungs.scale_equivalent(25, np.full(1001, 25.0), 1)
    assert (
        loose is not None
        and loose.ratio == pytest.approx(2)
        and (loose.ci_low, loose.ci_high) == (None, None)
    )
    assert loose.note == "below the ladder; beyond the ladder"


def test_interval_holds_95_per_cent() -> None:
    values = np.array([10.0, 20.0, 30.0])
    rungs = Ladder(SIZES, values, np.repeat(values[:, None], 1001, axis=1))
    size = rungs.scale_equivalent(25, np.linspace(20, 30, 1001), 1)
    assert (
        size is not None
        and size.ci_low == pytest.approx(4**0.025)
        and size.ci_high == pytest.approx(4**0.975)
    )


@given(curves.map(sorted), st.booleans(), st.integers(0, 2), st.integers(0, 2))
def test_a_rungs_value_gives_its_ratio(
    curve: list[float], higher: bool, rung: int, baseline: int
) -> None:
    rungs = ladder(curve if higher else curve[::-1], higher)
    size = equivalent(rungs, float(rungs.values[rung]), baseline)
    assert size.ratio == pytest.approx(SIZES[rung] / SIZES[baseline])


@given(curves, st.booleans(), st.integers(0, 2))
def test_the_baseline_is_exactly_1_on_any_ladder(
    curve: np.ndarray, higher: bool, baseline: int
) -> None:
    rungs = Ladder(SIZES, curve, np.stack([curve, curve[::-1]], axis=1), higher)
    assert rungs.scale_equivalent(
        curve[baseline], rungs.resampled[baseline], baseline
    ) == ScaleEquivalent(1.0, 1.0, 1.0, "")


@given(
    curves,
    st.booleans(),
    st.integers(0, 2),
    st.lists(st.floats(-1100, 1100), min_size=2, max_size=8),
)
def test_monotone_in_value_on_any_ladder(
    curve: np.ndarray, higher: bool, baseline: int, values: list[float]
) -> None:
    rungs = ladder(list(curve), higher)
    found = [equivalent(rungs, value, baseline) for value in sorted(values, reverse=not higher)]
    outside = {"below the ladder": -np.inf, "beyond the ladder": np.inf}
    logs = [outside[e.note] if e.ratio is None else np.log(e.ratio) for e in found]
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(logs))


def test_better_than_the_baseline_is_never_less_than_1() -> None:
    """The small rung is better than the baseline by chance; a lever that improves on the baseline
    still counts as growth.
    """
    size = equivalent(ladder([25, 20, 30]), 22, baseline=1)
    assert size.ratio == pytest.approx(4**0.2)


def test_errors() -> None:
    with pytest.raises(
        PomonaError,
        match=r"^ladder: the sizes are not ascending — list each size once, from small to large$",
    ):
        Ladder(np.array([2.0, 1.0]), np.zeros(2), np.zeros((2, 5)))
    with pytest.raises(
        PomonaError, match=r"^ladder: 3 sizes, values \(2,\), resampled \(3, 5\) — give one value"
    ):
        Ladder(SIZES, np.zeros(2), np.zeros((3, 5)))
    with pytest.raises(
        PomonaError,
        match=(
            r"^scale equivalent: \(4,\) resampled values for a ladder of 40 resamples — "
            r"resample both"
        ),
    ):
        ladder([1, 2]).scale_equivalent(1, np.zeros(4), 0)
