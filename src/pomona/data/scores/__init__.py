"""Scores of rows: what a model, several checkpoints of it, or the text alone say of each; and in
which order rows were learnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.scores.corrupt import Probes as Probes, make_probes as make_probes
    from pomona.data.scores.learning import learning_order as learning_order, order as order
    from pomona.data.scores.registry import ScoreContext as ScoreContext, score_names as score_names
    from pomona.data.scores.scoring import (
        Scored as Scored,
        perplexity as perplexity,
        score as score,
        within_length as within_length,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "learning": "learning_order order",
        "corrupt": "Probes make_probes",
        "registry": "ScoreContext score_names",
        "scoring": "Scored perplexity score within_length",
    },
)
