"""Columns of prompts and answers with lists in them, and as they were: of texts, and of
conversations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from pomona.markers.chats import Conversation
from pomona.markers.lists import END, OPEN, SIGN, Form, bare_answer, cut, detach, escape, unescape
from pomona.records import as_messages, as_they_were, is_chat

pc: Any = pyarrow.compute  # its stubs lack most functions


_SIGNS = {
    "verbose": OPEN[1:-1],
    "compact": "|",
    "compact1": "|",
}  # no text without these needs escaping


def listed_prompts(texts: pa.Array, behind: pa.Array, form: Form, alone: bool) -> pa.Array:
    """Prompts that bring no list along, with those behind them that are not null. `alone`: they
    stand in a column of their own.
    """
    sign = " " if form == "verbose" else SIGN
    if is_chat(texts.type):
        return _conversations(
            texts, behind, alone,
            lambda chat, told: chat.prompted(
                lambda text: escape(text, form),
                lambda text: text if told is None else f"{text}{sign}{told}",
            ),
        )  # fmt: skip
    safe = _mapped(texts, lambda text: escape(text, form), _SIGNS[form])
    return pc.if_else(behind.is_valid(), _joined(safe, sign, behind), safe)


def listed_answers(texts: pa.Array, lists: pa.Array, form: Form, alone: bool) -> pa.Array:
    """Answers with lists before them; in a column of their own, where conversations have more than
    the answer, nothing of the rest brings a list along.
    """
    end = " " if form == "verbose" else END
    if not is_chat(texts.type):
        return _joined(lists, end, texts)

    def made(chat: Conversation, told: str | None) -> list[Any]:
        if alone:
            chat = chat.having(chat.prompted(lambda text: escape(text, form), str))
        return chat.answered(lambda text: f"{told}{end}{text}")

    return _conversations(texts, lists, False, made)


def _conversations(
    texts: pa.Array,
    lists: pa.Array | None,
    alone: bool,
    made: Callable[[Conversation, str | None], list[Any]],
) -> pa.Array:
    told = [None] * len(texts) if lists is None else lists.to_pylist()
    plain = as_messages(texts)
    chats = (Conversation.of(row, alone=alone) for row in plain.to_pylist())
    done = [made(*pair) for pair in zip(chats, told, strict=True)]
    return as_they_were(pa.array(done, plain.type), texts)


def bare_prompts(texts: pa.Array, form: Form, alone: bool) -> pa.Array:
    """Prompts as they were."""
    if not is_chat(texts.type):
        return _mapped(texts, lambda text: detach(text, form), _SIGNS[form])

    def made(chat: Conversation, _: str | None) -> list[Any]:
        chat = chat.having(chat.cut(lambda text: cut(text, form)))
        return chat.prompted(lambda text: unescape(text, form), str)

    return _conversations(texts, None, alone, made)


def bare_answers(texts: pa.Array, form: Form, alone: bool) -> pa.Array:
    """Answers as they were."""
    if not is_chat(texts.type):
        return _mapped(texts, lambda text: bare_answer(text, form), "")

    def made(chat: Conversation, _: str | None) -> list[Any]:
        chat = chat.having(chat.answered(lambda text: bare_answer(text, form)))
        if not alone:
            return [*chat.messages]
        return chat.prompted(lambda text: unescape(text, form), str)

    return _conversations(texts, None, False, made)


def _joined(one: pa.Array, between: str, other: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(one, other, between)


def _mapped(texts: pa.Array, made: Callable[[str], str], sign: str) -> pa.Array:
    """Texts that hold a sign, in any case, made into others."""
    mask = pc.match_substring(texts, sign, ignore_case=True).fill_null(False)
    if not pc.any(mask).as_py():
        return texts
    done = pa.array([made(text) for text in texts.filter(mask).to_pylist()], pa.string())
    return pc.replace_with_mask(texts, mask, done)


def replaced(values: pa.Array, rows: pa.Array, others: pa.Array) -> pa.Array:
    """Values with others in some rows."""
    if pa.types.is_string(values.type):
        return pc.replace_with_mask(values, rows, others)
    place = pc.cumulative_sum(rows.cast(pa.int64()))
    both = pa.concat_arrays([others, values])
    own = pa.array(np.arange(len(others), len(both)))
    return both.take(pc.if_else(rows, pc.subtract(place, 1), own))
