"""The data lever: find duplicates, filter, score, prune, mix and audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.bands import Band as Band, select_band as select_band
    from pomona.data.duplicates import dedup as dedup, rates as rates
    from pomona.data.filtering import filter as filter
    from pomona.data.mixing.table import mix as mix
    from pomona.data.pruning import prune as prune, sweep as sweep
    from pomona.data.scores import Scored as Scored, perplexity as perplexity, score as score
    from pomona.data.value import (
        effective_data as effective_data,
        repetition_worth as repetition_worth,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "bands": "Band select_band",
        "duplicates": "dedup rates",
        "filtering": "filter",
        "mixing.table": "mix",
        "pruning": "prune sweep",
        "scores": "Scored perplexity score",
        "value": "effective_data repetition_worth",
    },
)
