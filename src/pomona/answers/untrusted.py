"""Texts of others as they are put before whoever judges them."""

from __future__ import annotations

import re
from typing import Any

from pomona.models import Message, Request


def fenced(tag: str, text: str) -> str:
    """Untrusted text between tags it cannot close."""
    kept = re.sub(rf"<(\s*/\s*{re.escape(tag)})", r"< \1", text, flags=re.IGNORECASE)
    return f"<{tag}>\n{kept}\n</{tag}>"


def conversation(request: Request) -> str:
    """A request as text: the prompt, or the content of its only message, or all messages with their
    roles.
    """
    if request.prompt is not None:
        return request.prompt
    if len(request.messages) == 1:
        return _content(request.messages[0])
    said = (f"{message.get('role')}: {_content(message)}" for message in request.messages)
    return "\n\n".join(said)


def _content(message: Message) -> str:
    """The text of a message; other parts are shown as their type, such as [image_url]."""
    content: Any = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}]"
        for part in content
    )
