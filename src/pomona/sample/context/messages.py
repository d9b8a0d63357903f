"""Reading and changing what a request asks, and text from elsewhere made harmless in a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pomona.models import Message, Request

_CONTROL = re.compile(
    r"<(?=[|｜])|<(?=/?(?:s|bos|eos|pad|unk|think|start_of_turn|end_of_turn|tool_calls?|tool_response|tools)>)|<(?=/?<SYS>)"
    r"|\[(?=/?(?:INST|SYS|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\])",
    re.IGNORECASE,
)


def question(request: Request) -> str:
    """What is asked: the plain prompt, or the text of the last user message; empty where there is
    none.
    """
    if request.prompt is not None:
        return request.prompt
    at = _last_user(request)
    return "" if at is None else _text(request.messages[at])


def with_question(request: Request, change: Callable[[str], str]) -> Request:
    """The request with its question changed. Parts of the message that are no text stay behind the
    new text.
    """
    if request.prompt is not None:
        return replace(request, prompt=change(request.prompt))
    at = _last_user(request)
    if at is None:
        return request
    message = request.messages[at]
    content: Any = change(_text(message))
    if isinstance(message.get("content"), list):
        others = (part for part in message["content"] if not _is_text(part))
        content = [{"type": "text", "text": content}, *others]
    changed: Message = {**message, "content": content}
    return replace(request, messages=(*request.messages[:at], changed, *request.messages[at + 1 :]))


def with_system(request: Request, text: str) -> Request:
    """The request with `text` added to its system message, or in front of a plain prompt."""
    if request.prompt is not None:
        return replace(request, prompt=f"{text}\n\n{request.prompt}")
    first = request.messages[0] if request.messages else None
    if first is not None and first.get("role") == "system":
        joined = f"{_text(first)}\n\n{text}" if _text(first) else text
        return replace(request, messages=({**first, "content": joined}, *request.messages[1:]))
    return replace(request, messages=({"role": "system", "content": text}, *request.messages))


def before_question(request: Request, turns: list[tuple[str, str]]) -> Request:
    """The request with earlier turns (question, answer) in front of its question."""
    if request.prompt is not None:
        said_before = "".join(f"{asked}\n{said}\n\n" for asked, said in turns)
        return replace(request, prompt=said_before + request.prompt)
    at = _last_user(request)
    if at is None:
        return request
    earlier: list[Message] = []
    for asked, said in turns:
        earlier += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return replace(request, messages=(*request.messages[:at], *earlier, *request.messages[at:]))


def harmless(text: str) -> str:
    """Text from elsewhere without anything that a chat template or tokenizer takes as control:
    `<|im_start|>` becomes `< |im_start|>`.
    """
    return _CONTROL.sub(lambda mark: mark.group() + " ", text)


def guessed_tokens(text: str) -> int:
    """Tokens of a text by its length, rather too many: a third of its bytes."""
    return len(text.encode()) // 3 + 1


def _last_user(request: Request) -> int | None:
    users = [at for at, message in enumerate(request.messages) if message.get("role") == "user"]
    return users[-1] if users else None


def _text(message: Message) -> str:
    content: Any = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if _is_text(part))
    return str(content or "")


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"
