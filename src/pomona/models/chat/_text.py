"""Plain text out of messages, and answers that end at a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pomona.models.chat.errors import wrong_request
from pomona.models.chat.protocol import Message


def content_of(message: Message) -> str:
    """The text of a message whose content is a string, a list of text parts, or None. A ModelError
    for pictures and sound.
    """
    content: Any = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Sequence):
        raise wrong_request(
            "the content of a message is neither text nor a list of parts",
            where=f"role {message.get('role')}",
        )
    parts: list[str] = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise wrong_request(
                f'a part of type "{kind}" in a message', remedy="this model reads text only"
            )
        parts.append(str(part.get("text", "")))
    return "".join(parts)


def last_user(messages: Sequence[Message]) -> str:
    """The text of the last user message; a ModelError when there is none."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return content_of(message)
    raise wrong_request(
        "no message has the role user", remedy="give at least one user message, or a prompt"
    )


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there was one."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def settled(text: str, stops: Sequence[str]) -> str:
    """The part of an unfinished text that no later token changes: no half character at its end, nor
    what may become a stop string.
    """
    text = text.rstrip("\ufffd")
    for size in range(min(len(text), max((len(stop) for stop in stops), default=0)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return text[:-size]
    return text
