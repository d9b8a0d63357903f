from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.stats import Resamples, compare
from pomona.tasks import harness


def test_a_missing_package_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, fake: Any
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    message = (
        "lm_eval must be installed for tasks of lm-evaluation-harness"
        r" — pip install 'pomona\[harness\]'"
    )
    with pytest.raises(PomonaError, match=message):
        harness.harness_task("hellaswag")
    with pytest.raises(PomonaError, match=message):
        harness.harness_model(fake())


def test_a_stored_metric_compares_without_the_package() -> None:
    told: Any = {"higher_is_better": True, "reads": "responses", "signature": "acc|filter:none"}
    metric = harness.StoredMetric("acc", "mean", **told)
    statistics = np.column_stack([np.arange(8) % 2, np.ones(8)])
    compared = compare(metric, statistics, statistics * [0, 1], Resamples(8))
    assert (compared.value, compared.delta) == (0.5, 0.5)
    mcc = harness.StoredMetric("mcc", "matthews_corrcoef", **told)
    assert mcc.aggregate(np.array([[3.0, 1, 1, 3], [4, 0, 0, 0]])).tolist() == [0.5, 0]
    with pytest.raises(PomonaError, match='m: "median" is not a function of sums over items'):
        harness.StoredMetric("m", "median", **told).aggregate(statistics)
