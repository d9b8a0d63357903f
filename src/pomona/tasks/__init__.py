"""What "better" means in one run: the items to answer, and metrics as per-item statistics. How
sure a difference is, `pomona.stats` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.tasks._metrics import (
        EXTRACTORS as EXTRACTORS,
        Metric as Metric,
        extractor as extractor,
        metric as metric,
        metrics as metrics,
    )
    from pomona.tasks.bleu import Bleu as Bleu, pairwise_bleu as pairwise_bleu
    from pomona.tasks.chrf import Chrf as Chrf, pairwise as pairwise
    from pomona.tasks.extraction import compiled as compiled, searched as searched
    from pomona.tasks.items import (
        COLUMNS as COLUMNS,
        Items as Items,
        fields_of as fields_of,
        items_from as items_from,
        limit as limit,
        require_fields as require_fields,
        source_of as source_of,
    )
    from pomona.tasks.likelihood import (
        BitsPerByte as BitsPerByte,
        ChoiceAccuracy as ChoiceAccuracy,
    )
    from pomona.tasks.options import MetricOptions as MetricOptions, OneOrMore as OneOrMore
    from pomona.tasks.rules import (
        ExactMatch as ExactMatch,
        JsonValid as JsonValid,
        UserMetric as UserMetric,
        code_of as code_of,
    )
    from pomona.tasks.ter import Ter as Ter

__getattr__, __dir__ = lazily(
    __name__,
    {
        "bleu": "Bleu pairwise_bleu",
        "chrf": "Chrf pairwise",
        "extraction": "compiled searched",
        "items": "COLUMNS Items fields_of items_from limit require_fields source_of",
        "likelihood": "BitsPerByte ChoiceAccuracy",
        "_metrics": "EXTRACTORS Metric extractor metric metrics",
        "options": "MetricOptions OneOrMore",
        "rules": "ExactMatch JsonValid UserMetric code_of",
        "ter": "Ter",
    },
)
