"""Duplicates: exact, near, shared substrings, and documents that say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.duplicates._options import bands_for as bands_for, s_curve as s_curve
    from pomona.data.duplicates._rates import Rates as Rates, rates as rates
    from pomona.data.duplicates._run import dedup as dedup
    from pomona.data.duplicates.semantic import (
        dedup_semantic as dedup_semantic,
        embeddings as embeddings,
    )
    from pomona.data.duplicates.substring import dedup_substring as dedup_substring

__getattr__, __dir__ = lazily(
    __name__,
    {
        "_options": "bands_for s_curve",
        "_rates": "Rates rates",
        "_run": "dedup",
        "semantic": "dedup_semantic embeddings",
        "substring": "dedup_substring",
    },
)
