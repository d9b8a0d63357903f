"""GGUF files that llama.cpp runs in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.models.llama.model import LlamaModel as LlamaModel

__getattr__, __dir__ = lazily(
    __name__,
    {
        "model": "LlamaModel",
    },
)
