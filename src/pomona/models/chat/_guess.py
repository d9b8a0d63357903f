"""How many tokens a prompt may have, from its bytes alone: rather too many."""

from __future__ import annotations

import json
from typing import Any

from pomona.models.chat.protocol import Request

_PER_MESSAGE = 16  # tokens a chat template puts around a message, at most
_SYSTEM = 32  # and what it adds by itself
_BYTES_PER_TOKEN = 3


def prompt_tokens(request: Request) -> int:
    """A guess of the tokens of a request's prompt, from its bytes."""
    if request.prompt is not None:
        return _tokens(request.prompt) + 1
    tools = (
        _tokens(json.dumps([dict(tool) for tool in request.tools], default=str))
        if request.tools
        else 0
    )
    return (
        _SYSTEM
        + tools
        + sum(
            _tokens(_content(message.get("content"))) + _PER_MESSAGE for message in request.messages
        )
    )


def _content(content: Any) -> str:
    return (
        content
        if isinstance(content, str)
        else json.dumps(content or "", ensure_ascii=False, default=str)
    )


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)
