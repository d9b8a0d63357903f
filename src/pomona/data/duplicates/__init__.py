"""Duplicates: exact, near, shared substrings, and documents that say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.duplicates.methods import dedup as dedup
    from pomona.data.duplicates.semantic import (
        dedup_semantic as dedup_semantic,
        embeddings as embeddings,
    )
    from pomona.data.duplicates.split_rates import Rates as Rates, rates as rates
    from pomona.data.duplicates.substring import dedup_substring as dedup_substring

__getattr__, __dir__ = lazily(
    __name__,
    {
        "split_rates": "Rates rates",
        "methods": "dedup",
        "semantic": "dedup_semantic embeddings",
        "substring": "dedup_substring",
    },
)
