"""Models behind any OpenAI-compatible server, and the client that asks with retries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.models.http.batches import (
        BatchState as BatchState,
        HttpBatches as HttpBatches,
        NoBatches as NoBatches,
        Single as Single,
    )
    from pomona.models.http.model import HttpModel as HttpModel
    from pomona.models.http.rewards import Judged as Judged, RewardModel as RewardModel

__getattr__, __dir__ = lazily(
    __name__,
    {
        "batches": "BatchState HttpBatches NoBatches Single",
        "model": "HttpModel",
        "rewards": "Judged RewardModel",
    },
)
