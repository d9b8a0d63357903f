"""Scores of rows: what a model, several checkpoints of it, or the text alone say of each; and in which order rows were learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily
from pomona.data.scores._pairs import Scored, perplexity

if TYPE_CHECKING:
    from pomona.data.scores._combine import within_length as within_length
    from pomona.data.scores._learning import learning_order as learning_order
    from pomona.data.scores._order import order as order
    from pomona.data.scores._probes import Probes as Probes
    from pomona.data.scores._probes import make_probes as make_probes
    from pomona.data.scores._registry import Context as Context
    from pomona.data.scores._registry import score_names as score_names
    from pomona.data.scores._score import score as score
    from pomona.data.scores._text import mtld as mtld

_HOMES = {
    "Context": "_registry",
    "Probes": "_probes",
    "learning_order": "_learning",
    "make_probes": "_probes",
    "mtld": "_text",
    "order": "_order",
    "score": "_score",
    "score_names": "_registry",
    "within_length": "_combine",
}
__all__ = [
    "Context",
    "Probes",
    "Scored",
    "learning_order",
    "make_probes",
    "mtld",
    "order",
    "perplexity",
    "score",
    "score_names",
    "within_length",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
