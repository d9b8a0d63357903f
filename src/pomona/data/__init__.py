"""The data lever: find duplicates, score, prune, mix and audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.bands import Band as Band
    from pomona.data.bands import select_band as select_band
    from pomona.data.duplicates import dedup as dedup
    from pomona.data.duplicates import rates as rates
    from pomona.data.mixing.table import mix as mix
    from pomona.data.pruning import prune as prune
    from pomona.data.pruning import sweep as sweep
    from pomona.data.scores import Scored as Scored
    from pomona.data.scores import perplexity as perplexity
    from pomona.data.scores import score as score

_HOMES = {
    **dict.fromkeys(("dedup", "rates"), "duplicates"),
    "mix": "mixing.table",
    **dict.fromkeys(("Band", "select_band"), "bands"),
    **dict.fromkeys(("prune", "sweep"), "pruning"),
    **dict.fromkeys(("Scored", "perplexity", "score"), "scores"),
}
__all__ = ["Band", "Scored", "dedup", "mix", "perplexity", "prune", "rates", "score", "select_band", "sweep"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
