"""Models that answer messages, behind one asynchronous protocol: torch, llama.cpp, any
OpenAI-compatible server.
"""

from __future__ import annotations

from pomona.models.chat.errors import ModelError
from pomona.models.chat.limits import Rate
from pomona.models.chat.open import open_chat
from pomona.models.chat.protocol import (
    Ability,
    ChatModel,
    Finish,
    Gradual,
    Message,
    Piece,
    Reply,
    Request,
    Spent,
)
from pomona.models.chat.retry import Ladder

__all__ = [
    "Ability",
    "ChatModel",
    "Finish",
    "Gradual",
    "Ladder",
    "Message",
    "ModelError",
    "Piece",
    "Rate",
    "Reply",
    "Request",
    "Spent",
    "open_chat",
]
