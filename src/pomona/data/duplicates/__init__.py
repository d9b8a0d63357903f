"""Duplicates: exact, near, shared substrings, and documents that say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.duplicates._options import bands_for as bands_for
    from pomona.data.duplicates._options import s_curve as s_curve
    from pomona.data.duplicates._rates import Rates as Rates
    from pomona.data.duplicates._rates import rates as rates
    from pomona.data.duplicates._run import dedup as dedup
    from pomona.data.duplicates.semantic import dedup_semantic as dedup_semantic
    from pomona.data.duplicates.semantic import embeddings as embeddings
    from pomona.data.duplicates.substring import dedup_substring as dedup_substring

_HOMES = {
    **dict.fromkeys(("Rates", "rates"), "_rates"),
    **dict.fromkeys(("bands_for", "s_curve"), "_options"),
    "dedup": "_run",
    **dict.fromkeys(("dedup_semantic", "embeddings"), "semantic"),
    "dedup_substring": "substring",
}
__all__ = ["Rates", "bands_for", "dedup", "dedup_semantic", "dedup_substring", "embeddings", "rates", "s_curve"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
