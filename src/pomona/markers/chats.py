"""Columns of conversations: which texts in them are the prompt and the answer, and how these are
changed and changed back.

A conversation is a list of messages, `{role, content}` or `{from, value}`, whose content is a text
or a list of parts. The answer is the last message of an assistant that has text, and the prompt the
last of a user before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from pomona.records import ASSISTANTS, CHAT_KEYS, USERS, as_messages, is_chat

Side = Literal["prompt", "answer"]
Change = Callable[[str], str]


def texts_of(column: pa.Array, side: Side, *, alone: bool = False) -> pa.Array:
    """The prompt or the answer of each conversation, null where there is none; texts as they are.
    `alone` says that a column of prompts holds no answers.
    """
    if not is_chat(column.type):
        return column
    rows = as_messages(column).to_pylist()
    told = [Conversation.of(row, alone=alone).text(side) for row in rows]
    return pa.array(told, pa.string())


@dataclass(frozen=True)
class Conversation:
    """Messages, and the places of the prompt's and of the answer's, where there are any."""

    messages: Sequence[Any]
    prompt: int | None
    answer: int | None

    @classmethod
    def of(cls, messages: Sequence[Any] | None, *, alone: bool = False) -> Conversation:
        """Of the messages of a row. `alone`: all of them are before the answer."""
        messages = messages or []
        roles = [_role(one) for one in messages]
        spoken = [at for at, one in enumerate(messages) if _texts(one)]
        answers = [] if alone else [at for at in spoken if roles[at] in ASSISTANTS]
        answer = answers[-1] if answers else None
        last = len(messages) if answer is None else answer
        prompts = [at for at in spoken if roles[at] in USERS and at < last]
        return cls(messages, prompts[-1] if prompts else None, answer)

    def having(self, messages: Sequence[Any]) -> Conversation:
        """The same with other texts."""
        return Conversation(messages, self.prompt, self.answer)

    def text(self, side: Side) -> str | None:
        """The text of a side."""
        at = self.prompt if side == "prompt" else self.answer
        return None if at is None else "".join(_texts(self.messages[at]))

    def prompted(self, others: Change, last: Change) -> list[Any]:
        """The messages with all texts but the answer's changed, and then the last part of the
        prompt's; `others` puts characters in or leaves some out.
        """
        done = list(self.messages)
        for at, message in enumerate(done):
            if at == self.answer or not (texts := _texts(message)):
                continue
            texts = _aligned(texts, others)
            if at == self.prompt:
                texts[-1] = last(texts[-1])
            done[at] = _with(message, texts)
        return done

    def cut(self, last: Change) -> list[Any]:
        """The messages with the last part of the prompt changed."""
        return self._changed(self.prompt, -1, last)

    def answered(self, first: Change) -> list[Any]:
        """The messages with the first part of the answer changed."""
        return self._changed(self.answer, 0, first)

    def _changed(self, at: int | None, part: int, change: Change) -> list[Any]:
        done = list(self.messages)
        if at is not None:
            texts = _texts(done[at])
            texts[part] = change(texts[part])
            done[at] = _with(done[at], texts)
        return done


def _keys(message: Any) -> tuple[str, str]:
    return next((keys for keys in CHAT_KEYS if keys[0] in message), CHAT_KEYS[0])


def _role(message: Any) -> str | None:
    return None if message is None else message.get(_keys(message)[0])


def _texts(message: Any) -> list[str]:
    """The texts of a message, one of each part that is text."""
    content = None if message is None else message.get(_keys(message)[1])
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if _is_text(part)]


def _is_text(part: Any) -> bool:
    return bool(part) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)


def _with(message: Any, texts: Sequence[str]) -> dict[str, Any]:
    """A message with other texts."""
    key = _keys(message)[1]
    if isinstance(message[key], str):
        return {**message, key: texts[0]}
    left = iter(texts)
    parts = [{**part, "text": next(left)} if _is_text(part) else part for part in message[key]]
    return {**message, key: parts}


def _aligned(texts: Sequence[str], change: Change) -> list[str]:
    """Texts whose joined text is changed, so that nothing is missed that stands in two parts: each
    character that was put in goes to the part of the one behind it.
    """
    whole = "".join(texts)
    done = change(whole)
    if len(texts) == 1 or done == whole:
        return [done] if len(texts) == 1 else [*texts]
    owners = [at for at, text in enumerate(texts) for _ in text]
    pieces: list[list[str]] = [[] for _ in texts]
    if len(done) > len(whole):
        at = 0
        for char in done:
            pieces[owners[min(at, len(owners) - 1)]].append(char)
            at += whole[at : at + 1] == char
    else:
        kept = 0
        for owner, char in zip(owners, whole, strict=True):
            if done[kept : kept + 1] == char:
                pieces[owner].append(char)
                kept += 1
    return ["".join(piece) for piece in pieces]
