"""The learned choice: what it learns, that it learns it from others, its file, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import approx_fprime

from pomona.errors import PomonaError
from pomona.memory import Selector, cross_fitted, selector

NAMES = ("near", "length", "always")


def pools(n: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Pools of 2 to 5 candidates that are worth their nearness, less half their length, and some
    noise; four of a cluster. The third feature never varies.
    """
    rng = np.random.default_rng(seed)
    features, utilities = [], []
    for _ in range(n):
        x = np.column_stack([rng.normal(size=(k := int(rng.integers(2, 6)), 2)), np.ones(k)])
        features.append(x)
        utilities.append(x[:, 0] - 0.5 * x[:, 1] + 0.1 * rng.normal(size=k))
    return features, utilities, [f"source {at // 4}" for at in range(n)]


def regret(utilities: list[np.ndarray], picks: np.ndarray) -> float:
    return float(np.mean([u.max() - u[pick] for u, pick in zip(utilities, picks, strict=True)]))


def test_learns_what_a_candidate_is_worth() -> None:
    features, utilities, _ = pools(200)
    chooser = Selector.fit(features, utilities, NAMES)
    near, length, always = chooser.weights
    assert near > 0 and always == 0
    assert -length / near == pytest.approx(0.5, abs=0.05)
    others, worth, _ = pools(200, seed=1)
    assert regret(worth, chooser.choose(others)) < 0.02
    assert regret(worth, np.zeros(200, int)) > 0.8


def test_weights_are_where_expected_worth_is_highest() -> None:
    features, utilities, _ = pools(40)
    fitted = Selector.fit(features, utilities, NAMES, penalty=0.1)
    scale, centre = np.array(fitted.scale), np.array(fitted.centre)
    unit = np.sqrt(np.mean(np.concatenate([u - u.mean() for u in utilities]) ** 2))

    def loss(weights: np.ndarray) -> float:
        total = 0.0
        for x, u in zip(features, utilities, strict=True):
            odds = np.exp((x - centre) / scale @ weights)
            total += odds @ (u - u.mean()) / odds.sum() / unit
        return float(0.05 * weights @ weights - total / len(features))

    slope = np.asarray(approx_fprime(np.array(fitted.weights), loss, 1e-6))
    assert np.abs(slope).max() < 1e-4


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 100), st.floats(-50, 50), st.floats(0.1, 100))
def test_units_do_not_matter(stretch: float, shift: float, worth: float) -> None:
    features, utilities, _ = pools(12)
    there = Selector.fit(features, utilities, NAMES)
    moved = [x * [stretch, 1, 1] + [shift, 0, 0] for x in features]
    here = Selector.fit(moved, [worth * u + shift for u in utilities], NAMES)
    for one, other in zip(there.scores(features), here.scores(moved), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_cross_fitted_choices_know_nothing_of_their_cluster() -> None:
    """Chance alone: a feature for each item, which tells its own answers and no others."""
    rng = np.random.default_rng(0)
    n, k = 60, 4
    utilities = [rng.normal(size=k) for _ in range(n)]
    features = []
    for at, worth in enumerate(utilities):
        x = np.zeros((k, n // 3))
        x[:, at // 3] = worth
        features.append(x)
    names, clusters = [str(i) for i in range(n // 3)], [str(at // 3) for at in range(n)]
    seen = Selector.fit(features, utilities, names).choose(features)
    unseen = cross_fitted(features, utilities, names, clusters)
    assert regret(utilities, seen) == 0
    assert regret(utilities, unseen) == regret(utilities, np.zeros(n, int))  # the first of equals


def test_cross_fitted_choices_are_those_of_the_other_folds() -> None:
    features, utilities, clusters = pools(40)
    picks = cross_fitted(features, utilities, NAMES, clusters, folds=10, seed=3)
    again = cross_fitted(features, utilities, NAMES, clusters, folds=10, seed=3)
    np.testing.assert_array_equal(picks, again)
    worse = [
        -worth if name == "source 0" else worth
        for worth, name in zip(utilities, clusters, strict=True)
    ]
    changed = cross_fitted(features, worse, NAMES, clusters, folds=10, seed=3)
    np.testing.assert_array_equal(picks[:4], changed[:4])
    assert regret(utilities, picks) < 0.05


def test_a_saved_selector_is_the_same(tmp_path: Path) -> None:
    features, utilities, _ = pools(30)
    fitted = Selector.fit(features, utilities, NAMES)
    fitted.save(tmp_path / "selector.json")
    loaded = Selector.load(tmp_path / "selector.json")
    assert loaded == fitted and loaded.signature == fitted.signature
    np.testing.assert_array_equal(loaded.choose(features), fitted.choose(features))
    other = Selector.fit(features, utilities, NAMES, penalty=0.5)
    assert other.signature != fitted.signature


def test_equal_scores_give_the_first() -> None:
    features, utilities, _ = pools(30)
    same = np.tile(features[0][:1], (3, 1))
    assert Selector.fit(features, utilities, NAMES).choose([same]).tolist() == [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(form="pomona-selector-0"), "is no selector"),
        (lambda d: d.pop("scale"), "is no selector"),
        (lambda d: d["weights"].pop(), "names and numbers do not fit together"),
        (lambda d: d["weights"].__setitem__(0, "1"), "names and numbers do not fit together"),
        (lambda d: d["scale"].__setitem__(0, 0), "names and numbers do not fit together"),
        (lambda d: d.update(names="near"), "names and numbers do not fit together"),
    ],
)
def test_refuses_what_is_no_selector(tmp_path: Path, change: object, message: str) -> None:
    features, utilities, _ = pools(10)
    path = tmp_path / "selector.json"
    Selector.fit(features, utilities, NAMES).save(path)
    document = json.loads(path.read_text())
    change(document)  # type: ignore[operator]
    path.write_text(json.dumps(document))
    with pytest.raises(PomonaError, match=f"selector.json.*{message}"):
        Selector.load(path)


@pytest.mark.parametrize(
    ("features", "utilities", "message"),
    [
        ([], [], "there are no pools"),
        ([np.ones((2, 2))], [[0, 1]], r"pool 1.*shape \[2, 2\], and 3 features have names"),
        ([np.ones((0, 3))], [[]], r"pool 1.*shape \[0, 3\]"),
        ([np.full((2, 3), np.nan)], [[0, 1]], "pool 1.*no numbers"),
        ([np.ones((2, 3))], [[0, 1, 2]], r"pool 1.*2 candidates.*shape \[3\]"),
        ([np.ones((2, 3))], [[0, np.inf]], "pool 1"),
        ([np.ones((2, 3))], [], "0 utilities of 1 pools"),
        ([np.ones((2, 3))], [[1, 1]], "no candidate is better than another"),
    ],
)
def test_refuses_bad_pools(features: list, utilities: list, message: str) -> None:
    with pytest.raises(PomonaError, match=message):
        Selector.fit(features, utilities, NAMES)


def test_refuses_settings_out_of_range() -> None:
    features, utilities, clusters = pools(8)
    with pytest.raises(PomonaError, match="a penalty of 0"):
        Selector.fit(features, utilities, NAMES, penalty=0)
    with pytest.raises(PomonaError, match=r"3 folds of 2 clusters.*ask for 2 to 2 folds"):
        cross_fitted(features, utilities, NAMES, clusters, folds=3)
    with pytest.raises(PomonaError, match=r"2 folds of 1 clusters.*give more clusters"):
        cross_fitted(features, utilities, NAMES, ["one"] * 8, folds=2)
    with pytest.raises(PomonaError, match="8 pools of features, 8 of utilities and 1 clusters"):
        cross_fitted(features, utilities, NAMES, ["one"])
    assert selector._FORM == "pomona-selector-1"
