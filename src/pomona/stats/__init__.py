"""Statistics for every room: what a difference is worth, and how sure a share is. It knows no
room: a metric comes in as whatever aggregates the sums of per-item statistics.

`bootstrap` resamples items and training seeds (and will resample clusters of items); `intervals`
has what has a closed form. Tests of two systems (Welch, McNemar) and agreement (κ) belong in a
file `tests`, corrections for many comparisons (Holm, Benjamini-Hochberg, max-t) in `multiple`, and
errors of regressions (sandwich) in `regression`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.stats.bootstrap import (
        MINIMUM as MINIMUM,
        Comparison as Comparison,
        Resamples as Resamples,
        by_group as by_group,
        compare as compare,
        rows_of as rows_of,
        value_of as value_of,
    )
    from pomona.stats.intervals import wilson as wilson

__getattr__, __dir__ = lazily(
    __name__,
    {
        "bootstrap": "MINIMUM Comparison Resamples by_group compare rows_of value_of",
        "intervals": "wilson",
    },
)
