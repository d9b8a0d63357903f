"""What "better" means in one run: the items to answer, and metrics as per-item statistics. How
sure a difference is, `pomona.stats` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.tasks.bleu import pairwise_bleu as pairwise_bleu
    from pomona.tasks.chrf import Chrf as Chrf, pairwise as pairwise
    from pomona.tasks.items import (
        COLUMNS as COLUMNS,
        Items as Items,
        fields_of as fields_of,
        items_from as items_from,
        limit as limit,
        source_of as source_of,
    )
    from pomona.tasks.metrics import (
        BitsPerByte as BitsPerByte,
        ExactMatch as ExactMatch,
        Metric as Metric,
        metric as metric,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "bleu": "pairwise_bleu",
        "chrf": "Chrf pairwise",
        "items": "COLUMNS Items fields_of items_from limit source_of",
        "metrics": "BitsPerByte ExactMatch Metric metric",
    },
)
