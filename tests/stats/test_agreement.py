from __future__ import annotations

import numpy as np
import pytest

from pomona.stats import Resamples, cohen_kappa


def tables(pairs: list[tuple[int, int]], size: int = 2) -> np.ndarray:
    made = np.zeros((len(pairs), size, size))
    for row, pair in enumerate(pairs):
        made[row][pair] = 1
    return made


def test_cohens_own_example() -> None:
    """Cohen 1960 (Educational and Psychological Measurement 20), p. 45, shares of 200: κ = .492."""
    counts = [[88, 10, 2], [14, 40, 6], [18, 10, 12]]
    pairs = [(a, b) for a in range(3) for b in range(3) for _ in range(counts[a][b])]
    value, low, high = cohen_kappa(tables(pairs, 3), Resamples(len(pairs)))
    assert value == pytest.approx(0.492, abs=5e-4)
    # The asymptotic error is .052 or so: Fleiss, Cohen & Everitt 1969
    assert low == pytest.approx(0.39, abs=0.03) and high == pytest.approx(0.59, abs=0.03)


def test_nothing_to_agree_on() -> None:
    constant = tables([(0, 0), (0, 1), (0, 0)])
    assert cohen_kappa(constant, Resamples(3)) == (None, None, None)
    one = cohen_kappa(tables([(0, 0), (1, 1)]), Resamples(2, clusters=["a", "a"]))
    assert one == (1.0, None, None)
