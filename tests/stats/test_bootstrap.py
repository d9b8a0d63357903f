"""The paired bootstrap against scipy, against its own promise of coverage, and at its edges."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy import stats

from pomona.errors import PomonaError
from pomona.stats import Resamples, bootstrap, by_group, compare, interval, rows_of, shuffles
from pomona.tasks import BitsPerByte, Chrf, ExactMatch


def scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Statistics whose exact-match aggregate is 100 times the mean."""
    return np.column_stack([values, np.ones(len(values))])


def nothing(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Statistics of as many items whose value is 0."""
    return scores(np.zeros(len(values)))


def pair(n: int, seed: int, shift: float = 0.3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=n)
    return scores(base + shift + rng.normal(scale=0.5, size=n)), scores(base)


def test_agrees_with_scipy() -> None:
    ours, base = pair(80, 0)
    result = compare(ExactMatch(), ours, base, Resamples(80, resamples=20000, seed=1))
    theirs = stats.bootstrap(
        (ours[:, 0], base[:, 0]),
        lambda x, y, axis: 100 * (x.mean(axis) - y.mean(axis)),
        paired=True,
        vectorized=True,
        n_resamples=20000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert result.ci_low == pytest.approx(theirs.low, abs=0.03 * width)
    assert result.ci_high == pytest.approx(theirs.high, abs=0.03 * width)
    assert result.delta == pytest.approx(result.value - result.baseline_value)


def test_coverage() -> None:
    """95 % intervals of 400 samples of 60 items cover the true difference in 92 to 97 % of cases
    (binomial standard error 1.1 %).
    """
    resamples = Resamples(60, seed=3)
    results = [compare(ExactMatch(), *pair(60, seed), resamples) for seed in range(400)]
    covered = np.mean([r.ci_low <= 30 <= r.ci_high for r in results])
    assert 0.92 <= covered <= 0.97


def test_level_widens_the_interval() -> None:
    ours, base = pair(50, 4)
    narrow, wide = (
        compare(ExactMatch(), ours, base, Resamples(50), level=level) for level in (0.5, 0.99)
    )
    assert wide.ci_low < narrow.ci_low < narrow.ci_high < wide.ci_high


def test_p_value_agrees_with_the_interval() -> None:
    for seed in range(30):
        result = compare(ExactMatch(), *pair(40, seed, shift=0.15), Resamples(40, seed=seed))
        if not 0.045 < result.p_value < 0.055:
            assert (result.p_value < 0.05) == (result.ci_low > 0 or result.ci_high < 0)


def test_is_deterministic_and_paired() -> None:
    ours, base = pair(30, 5)
    first, again, other = (
        compare(ExactMatch(), ours, base, Resamples(30, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again != other
    same = compare(ExactMatch(), ours, ours, Resamples(30))
    assert (same.delta, same.ci_low, same.ci_high, same.p_value) == (0, 0, 0, 1)


def test_counts_drawn_again_are_the_counts_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = pair(70, 6)[0]
    kept = Resamples(70).resampled(ExactMatch(), statistics)
    monkeypatch.setattr(bootstrap, "_KEEP", 0)
    monkeypatch.setattr(bootstrap, "_BLOCK", 7000)
    fresh = Resamples(70)
    for _ in range(2):
        np.testing.assert_allclose(fresh.resampled(ExactMatch(), statistics), kept)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(0, 5))
def test_every_resample_has_n_items(n: int, seed: int) -> None:
    drawn = Resamples(n, seed=seed).resampled(
        BitsPerByte(), np.column_stack([np.full(n, 2.0 * n), np.full(n, 2.0)])
    )
    np.testing.assert_array_equal(drawn, float(n))


@pytest.mark.parametrize("n", [1, 25])
def test_equal_items_have_no_width(n: int) -> None:
    ours, base = (
        Chrf().statistics(["save file"] * n, ["save files"] * n),
        Chrf().statistics(["safe"] * n, ["save files"] * n),
    )
    result = compare(Chrf(), ours, base, Resamples(n))
    assert result.ci_low == pytest.approx(result.delta) and result.ci_high == pytest.approx(
        result.delta
    )
    assert result.n == n and result.delta > 0 and result.p_value == pytest.approx(2 / 1001)


@pytest.mark.parametrize("clusters", [None, [f"c{i // 4}" for i in range(40)]])
def test_a_value_has_the_interval_of_its_difference_to_nothing(clusters: list[str] | None) -> None:
    ours, _ = pair(40, 3)
    draws = Resamples(40, seed=4, clusters=clusters)
    for level in (0.5, 0.95):
        expected = compare(ExactMatch(), ours, nothing(ours[:, 0]), draws, level)
        found = interval(ExactMatch(), ours, draws, level)
        assert found == (expected.ci_low, expected.ci_high)
    with pytest.raises(PomonaError, match="level: 1 is not a coverage"):
        interval(ExactMatch(), ours, draws, 1)


def test_groups() -> None:
    ours, base = pair(40, 7)
    groups = rows_of(["fi", "en"] * 20)
    assert list(groups) == ["en", "fi"] and groups["fi"].tolist() == list(range(0, 40, 2))
    results = by_group(ExactMatch(), ours, base, {**groups, "tail": [0, 1, 2]}, seed=3)
    assert list(results) == ["overall", "en", "fi", "tail"]
    assert results["overall"] == compare(ExactMatch(), ours, base, Resamples(40, seed=3))
    assert results["fi"] == compare(ExactMatch(), ours[::2], base[::2], Resamples(20, seed=3))
    assert results["tail"].n == 3


def test_over_few_clusters_an_interval_is_widened_to_student() -> None:
    left = stats.norm.cdf(np.sqrt(4 / 3) * stats.t.ppf(0.025, 3))
    assert bootstrap._expanded(0.05, 1, 4)[0] == pytest.approx(2 * left)


def test_numbers_that_nobody_means() -> None:
    for asked, says in (
        ({"seed": -1}, "seed: -1 is below 0 — use 0 or more"),
        ({"resamples": 10**9}, "resamples: 1,000,000,000 resamples are more than any interval"),
    ):
        with pytest.raises(PomonaError, match=says):
            Resamples(4, **asked)
    with pytest.raises(PomonaError, match="seed: -1 is below 0 — use 0 or more"):
        shuffles(2, 2, 9, -1)


def test_errors() -> None:
    ours, base = pair(4, 8)
    with pytest.raises(
        PomonaError, match=r'^groups: group "sv" has no items — leave it out or add items$'
    ):
        by_group(ExactMatch(), ours, base, {"fi": [0, 1], "sv": []})
    with pytest.raises(
        PomonaError,
        match=r'^groups: a group cannot be called "overall" — rename it: overall is all items$',
    ):
        by_group(ExactMatch(), ours, base, {"overall": [0]})
    with pytest.raises(
        PomonaError, match=r"^there are no items to resample — give at least one item$"
    ):
        Resamples(0)
    with pytest.raises(
        PomonaError,
        match=r"^resamples: 100 resamples are too few for an interval — use at least 1000$",
    ):
        Resamples(5, resamples=100)
    with pytest.raises(
        PomonaError, match=r"^statistics of 4 items for resamples of 5 — score the same items$"
    ):
        compare(ExactMatch(), ours, base, Resamples(5))
    with pytest.raises(
        PomonaError,
        match=r"^level: 95 is not a coverage between 0 and 1 — use 0.95 for a 95 % interval$",
    ):
        compare(ExactMatch(), ours, base, Resamples(4), level=95)


def test_a_system_trained_several_times_has_wider_intervals_than_one_training() -> None:
    base = scores(np.random.default_rng(0).normal(size=60))
    trained = np.stack([scores(base[:, 0] + shift) for shift in (0.0, 0.5, 1.0)])
    draws = Resamples(60, resamples=2000)
    one, several = (
        compare(ExactMatch(), trained[1], base, draws),
        compare(ExactMatch(), trained, base, draws),
    )
    assert several.value == pytest.approx(one.value)
    assert one.ci_high - one.ci_low == pytest.approx(0, abs=1e-9)
    spread = 100 * np.sqrt(1 / 6 / 3)  # the standard error of a mean of three
    assert several.ci_high - several.ci_low == pytest.approx(2 * 1.96 * spread, rel=0.2)


def test_replicates_of_two_systems_are_drawn_apart() -> None:
    base = scores(np.random.default_rng(0).normal(size=60))
    trained = np.stack([scores(base[:, 0] + shift) for shift in (0.0, 0.5, 1.0)])
    draws = Resamples(60, resamples=1000)
    assert (
        np.ptp(
            draws.resampled(ExactMatch(), trained, 0) - draws.resampled(ExactMatch(), trained, 0)
        )
        == 0
    )
    assert (
        np.ptp(
            draws.resampled(ExactMatch(), trained, 0) - draws.resampled(ExactMatch(), trained, 1)
        )
        > 0
    )


def drawn_by_hand(
    statistics: NDArray[np.float64], clusters: list[str], resamples: int, seed: int
) -> NDArray[np.float64]:
    """The clustered bootstrap of the mean, one resample after the other, items copied."""
    names = sorted(set(clusters))
    parts = [[i for i, name in enumerate(clusters) if name == one] for one in names]
    picks = np.random.default_rng(seed).integers(0, len(names), size=(resamples, len(names)))
    rows = [[i for pick in draw for i in parts[pick]] for draw in picks]
    return np.array([100 * statistics[draw, 0].mean() for draw in rows])


def test_clusters_are_drawn_whole() -> None:
    clusters = ["b", "a", "b", "c", "a", "b", "d"]
    statistics = scores(np.random.default_rng(1).normal(size=7))
    drawn = Resamples(7, 1000, 4, clusters).resampled(ExactMatch(), statistics)
    np.testing.assert_allclose(drawn, drawn_by_hand(statistics, clusters, 1000, 4))
    order = [3, 1, 6, 0, 2, 5, 4]  # the order of the items does not matter
    again = Resamples(7, 1000, 4, [clusters[i] for i in order])
    np.testing.assert_allclose(again.resampled(ExactMatch(), statistics[order]), drawn)


def test_items_that_are_their_own_clusters_are_drawn_as_items() -> None:
    statistics = scores(np.random.default_rng(1).normal(size=30))
    apart = Resamples(30, clusters=[f"{i:02d}" for i in range(30)])
    np.testing.assert_allclose(
        apart.resampled(ExactMatch(), statistics), Resamples(30).resampled(ExactMatch(), statistics)
    )


def clustered(
    seed: int, clusters: int, size: int, shape: int = 0
) -> tuple[NDArray[np.float64], list[str]]:
    """Differences of items whose cluster has an effect of its own as large as an item's; their mean
    is 0. The sizes of the clusters come from the seed `shape`.
    """
    rng = np.random.default_rng([seed, 1])
    sizes = np.random.default_rng(shape).integers(1, 2 * size, clusters)
    owner = np.repeat(np.arange(clusters), sizes)
    values = rng.normal(size=clusters)[owner] + rng.normal(size=len(owner))
    return scores(values), [str(one) for one in owner]


def test_clustered_intervals_cover_where_those_over_items_do_not() -> None:
    """In 1000 samples of clusters of 1 to 9 items (binomial standard error 0.7 %); the full
    simulation is `experiments/clusters.py`.
    """
    clusters = 30
    first, owner = clustered(0, clusters, 5)
    zero = nothing(first)
    whole, singly = Resamples(len(first), 2000, 1, owner), Resamples(len(first), 1000, 1)
    samples = [clustered(seed, clusters, 5)[0] for seed in range(1000)]
    covers = [
        [(c := compare(ExactMatch(), one, zero, draws)).ci_low <= 0 <= c.ci_high for one in samples]
        for draws in (whole, singly)
    ]
    assert 0.94 <= np.mean(covers[0]) <= 0.96
    assert np.mean(covers[1]) < 0.8


def test_widened_intervals_and_p_values_agree() -> None:
    for seed in range(40):
        values, owner = clustered(seed, 12, 3)
        values[:, 0] += 0.9
        zero = nothing(values)
        result = compare(ExactMatch(), values, zero, Resamples(len(values), 1000, 1, owner))
        if not 0.045 < result.p_value < 0.055:
            assert (result.p_value < 0.05) == (result.ci_low > 0 or result.ci_high < 0)


def test_one_cluster_is_no_evidence() -> None:
    ours, base = pair(8, 0)
    result = compare(ExactMatch(), ours, base, Resamples(8, clusters=["one"] * 8))
    assert result.p_value == 1


def test_clusters_are_crossed_with_replicates() -> None:
    values, owner = clustered(0, 60, 5)
    trained = np.stack([scores(values[:, 0] + shift) for shift in (0.0, 0.5, 1.0)])
    zero = nothing(values)
    draws = Resamples(len(values), 4000, 1, owner)
    one = np.std(draws.resampled(ExactMatch(), trained[1]))
    both = np.std(draws.resampled(ExactMatch(), trained))
    assert both == pytest.approx(np.hypot(one, 100 * np.sqrt(1 / 6 / 3)), rel=0.05)
    assert compare(ExactMatch(), trained, zero, draws).delta == pytest.approx(
        100 * trained[1, :, 0].mean()
    )


def test_groups_draw_their_own_clusters() -> None:
    values, owner = clustered(3, 20, 4)
    zero, rows = nothing(values), np.arange(0, len(values), 2)
    results = by_group(ExactMatch(), values, zero, {"even": rows}, seed=3, clusters=owner)
    draws = Resamples(len(rows), seed=3, clusters=[owner[i] for i in rows])
    assert results["even"] == compare(ExactMatch(), values[rows], zero[rows], draws)
    whole = Resamples(len(values), seed=3, clusters=owner)
    assert results["overall"] == compare(ExactMatch(), values, zero, whole)


def test_a_label_is_missing() -> None:
    with pytest.raises(
        PomonaError, match=r"^clusters: 2 labels for 3 items — give one label an item$"
    ):
        Resamples(3, clusters=["a", "b"])
