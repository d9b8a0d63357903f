"""Scores of rows: what a model, several checkpoints of it, or the text alone say of each; and in
which order rows were learnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily
from pomona.data.scores._pairs import Scored as Scored, perplexity as perplexity

if TYPE_CHECKING:
    from pomona.data.scores._combine import within_length as within_length
    from pomona.data.scores._learning import learning_order as learning_order
    from pomona.data.scores._order import order as order
    from pomona.data.scores._probes import Probes as Probes, make_probes as make_probes
    from pomona.data.scores._registry import Context as Context, score_names as score_names
    from pomona.data.scores._score import score as score

__getattr__, __dir__ = lazily(
    __name__,
    {
        "_combine": "within_length",
        "_learning": "learning_order",
        "_order": "order",
        "_probes": "Probes make_probes",
        "_registry": "Context score_names",
        "_score": "score",
    },
)
