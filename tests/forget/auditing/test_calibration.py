"""Errors of probabilities, by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ttest_rel

from pomona.forget import audit

RIGHT = (True, True, False, True)
CHANCES = {"dense": (0.9, 0.8, 0.55, 0.6), "0.5": (0.95, 0.95, 0.95, 0.95)}


def test_calibration_before_and_after() -> None:
    rows = [
        {"id": i, "level": level, "seed": k, "prediction": "ab"[right], "reference": "b"}
        | {"probability": chances[i], "group": "x"}
        for level, chances in CHANCES.items()
        for k in range(2)
        for i, right in enumerate(RIGHT)
    ]
    found = audit(pa.Table.from_pylist(rows), permutations=19).levels[0].calibration
    assert found is not None
    told = {one.measure: (one.dense, one.compressed) for one in found}
    # One bin: mean probability 0.7125 and 0.95 against three of four right. Ten bins, dense: 0.9
    # and right, 0.8 and right, 0.55 and wrong, 0.6 and right, each a quarter.
    assert told["ECE, 1 bin"] == pytest.approx((0.0375, 0.2))
    assert told["ECE, 10 bins"] == pytest.approx(((0.1 + 0.2 + 0.55 + 0.4) / 4, 0.2))
    squares = [np.mean((np.array(c) - RIGHT) ** 2) for c in CHANCES.values()]
    assert told["Brier"] == pytest.approx(tuple(squares))
    assert found[0].ci_low == found[0].ci_high == pytest.approx(0.1625)  # both models alike


def test_models_that_were_made_of_each_other_are_compared_in_pairs() -> None:
    chances = {"dense": (0.6, 0.7, 0.9), "0.5": (0.65, 0.8, 0.97)}
    rows = [
        {"id": i, "level": level, "seed": k, "prediction": "b", "reference": "b", "group": "x"}
        | {"probability": chance}
        for level, each in chances.items()
        for k, chance in enumerate(each)
        for i in range(2)
    ]
    found = audit(pa.Table.from_pylist(rows), permutations=19).levels[0].calibration
    assert found is not None
    errors = [1 - np.array(each) for each in chances.values()]
    ends = ttest_rel(errors[1], errors[0]).confidence_interval(0.95)
    assert (found[0].ci_low, found[0].ci_high) == pytest.approx(tuple(ends))
