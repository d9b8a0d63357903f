"""Statistics for every room: what a difference is worth, and how sure a share is. It knows no
room: a metric comes in as whatever aggregates the sums of per-item statistics.

`agreement` says how far two judges agree, `apportioning` deals out whole numbers, `bootstrap`
resamples items, or clusters of them, and training seeds; `multiple` corrects for many comparisons
(Holm, Benjamini-Hochberg; max-t belongs there too); `intervals` has what has a closed form, `tests`
what compares two systems or two samples, `concentration` how unevenly a gain lies over items,
`regression` slopes over groups, `softmax` which of several classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.stats.agreement import Kappa as Kappa, cohen_kappa as cohen_kappa
    from pomona.stats.apportioning import largest_remainder as largest_remainder
    from pomona.stats.bootstrap import (
        FEWEST as FEWEST,
        MINIMUM as MINIMUM,
        Comparison as Comparison,
        Resamples as Resamples,
        Share as Share,
        by_group as by_group,
        compare as compare,
        interval as interval,
        percentiles as percentiles,
        rows_of as rows_of,
        two_sided as two_sided,
        value_of as value_of,
    )
    from pomona.stats.concentration import gini as gini, half_share as half_share
    from pomona.stats.intervals import wilson as wilson
    from pomona.stats.multiple import benjamini_hochberg as benjamini_hochberg, holm as holm
    from pomona.stats.regression import (
        Slope as Slope,
        least_squares as least_squares,
        shuffled_column as shuffled_column,
        slopes as slopes,
    )
    from pomona.stats.softmax import softmax_regression as softmax_regression
    from pomona.stats.tests import (
        mcnemar as mcnemar,
        permutation as permutation,
        shuffles as shuffles,
        welch as welch,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "agreement": "Kappa cohen_kappa",
        "apportioning": "largest_remainder",
        "bootstrap": "FEWEST MINIMUM Comparison Resamples Share by_group compare interval "
        "percentiles rows_of two_sided value_of",
        "concentration": "gini half_share",
        "intervals": "wilson",
        "multiple": "benjamini_hochberg holm",
        "regression": "Slope least_squares shuffled_column slopes",
        "softmax": "softmax_regression",
        "tests": "mcnemar permutation shuffles welch",
    },
)
