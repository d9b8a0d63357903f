"""Routing: which teacher is asked about which row, what that gains over asking one alone, and what
it costs (multilingual arbitrage: Odumakinde et al. 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.routing.policies import (
        Every as Every,
        Fixed as Fixed,
        Keep as Keep,
        Policy as Policy,
        Random as Random,
        Single as Single,
        lot as lot,
        share as share,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {"policies": "Every Fixed Keep Policy Random Single lot share"},
)
