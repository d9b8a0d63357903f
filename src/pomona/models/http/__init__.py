"""Models behind any OpenAI-compatible server, and the client that asks with retries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.models.http.client import RewardModel as RewardModel
    from pomona.models.http.model import HttpModel as HttpModel

__getattr__, __dir__ = lazily(
    __name__,
    {
        "client": "RewardModel",
        "model": "HttpModel",
    },
)
