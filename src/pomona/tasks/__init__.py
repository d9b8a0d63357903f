"""What "better" means in one run: translation, metrics as per-item statistics, paired bootstrap
over items.
"""

from pomona.tasks.bootstrap import Comparison, Resamples, by_group, compare, rows_of
from pomona.tasks.items import Items, items_from, limit
from pomona.tasks.metrics import BitsPerByte, Chrf, ExactMatch, Metric, metric, pairwise

__all__ = [
    "BitsPerByte", "Chrf", "Comparison", "ExactMatch", "Items", "Metric", "Resamples",
    "by_group", "compare", "items_from", "limit", "metric", "pairwise", "rows_of",
]  # fmt: skip
