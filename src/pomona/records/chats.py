"""Columns of conversations as texts: lists of messages, `{role, content}` or `{from, value}`, whose
content is a text or a list of parts, and which may call tools. A conversation may also be one
object of such lists side by side, `{"role": […], "content": […]}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from pomona.records.column_types import CHAT_KEYS, lists_in, messages_of, relisted

pc: Any = pyarrow.compute  # its stubs lack most functions

USERS, ASSISTANTS = ("user", "human"), ("assistant", "gpt", "model")
ROLES = {
    "system": ("system", "developer"),
    "user": USERS,
    "assistant": ASSISTANTS,
    "tool": ("tool", "function", "observation"),
}
_CALLS = ("tool_calls", "function_call")
CHAT_TEXTS = ("text", "input_text", "output_text")  # types of parts that are texts


def is_chat(kind: pa.DataType) -> bool:
    """Whether a column of this type holds conversations."""
    return keys_of_chat(kind) is not None


def keys_of_chat(kind: pa.DataType) -> tuple[str, str] | None:
    """Under which keys the messages of such a column have their role and their content; None where
    it holds no conversations.
    """
    if pa.types.is_struct(kind):
        fields = {field.name: field.type.value_type for field in lists_in(kind)}
    elif pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        fields = {field.name: field.type for field in kind.value_type}
    else:
        return None
    for role, content in CHAT_KEYS:
        if role in fields and content in fields:
            inner = fields[content]
            parts = pa.types.is_list(inner) and pa.types.is_struct(inner.value_type)
            told = parts or pa.types.is_string(inner) or pa.types.is_null(inner)
            return (role, content) if told else None
    return None


def as_messages(column: pa.Array) -> pa.Array:
    """A column of conversations as lists of messages, null where the lists of an object are not
    equally long. A list that is null gives each message a null.
    """
    if not pa.types.is_struct(column.type):
        return column
    keys, named = keys_of_chat(column.type), lists_in(column.type)
    lists = [pc.struct_field(column, field.name) for field in named]
    sizes = [np.asarray(pc.list_value_length(one).fill_null(-1)) for one in lists]
    count = next(
        size for field, size in zip(named, sizes, strict=True) if keys and field.name == keys[0]
    )
    whole = count >= 0
    for field, size in zip(named, sizes, strict=True):
        needed = keys is not None and field.name in keys
        whole &= (size == count) | (not needed and size == -1)
    ends = np.append(0, np.cumsum(np.where(whole, count, 0)))
    rows = np.repeat(np.arange(len(column)), np.diff(ends))
    places = np.arange(ends[-1]) - ends[rows]
    fields = [
        one.values.take(pa.array(one.offsets.to_numpy()[rows] + places, mask=size[rows] == -1))
        for one, size in zip(lists, sizes, strict=True)
    ]
    messages = pa.StructArray.from_arrays(fields, [field.name for field in named])
    offsets = pa.array(ends, pa.int32())
    return pa.ListArray.from_arrays(offsets, messages, mask=pa.array(~whole))


def as_they_were(messages: pa.Array, column: pa.Array) -> pa.Array:
    """Messages that `as_messages` made of a column, and others have changed, in the form of that
    column, as many in each row.
    """
    if not pa.types.is_struct(column.type):
        return messages
    changed, before, fields = messages.is_valid(), column.is_null(), list[pa.Array]()
    named = {field.name for field in lists_in(column.type)}
    for field in column.type:
        own = pc.struct_field(column, field.name)
        if field.name in named:
            made = relisted(messages, pc.struct_field(messages.flatten(), field.name))
            place = pa.array(np.arange(len(column)))
            taken = pc.if_else(pc.and_(changed, own.is_valid()), place, pc.add(place, len(column)))
            own = pa.concat_arrays([made.cast(field.type), own]).take(taken)
        fields.append(own)
    return pa.StructArray.from_arrays(fields, fields=list(column.type), mask=before)


def chat_texts(column: pa.Array, role: str | None = None) -> pa.Array:
    """The text of each conversation, null where there is none: what all messages say, or those of a
    `role` (a key of `ROLES`), and the tools they call by names and arguments, a line each.
    """
    column = as_messages(column)
    keys = keys_of_chat(column.type)
    assert keys is not None
    messages = column.flatten()
    texts = _message_texts(messages, keys[1])
    if role is not None:
        own = pc.is_in(pc.struct_field(messages, keys[0]), pa.array(ROLES[role]))
        texts = pc.if_else(own, texts, None)
    return joined_texts(column, texts)


def joined_texts(lists: pa.Array, texts: pa.Array) -> pa.Array:
    """The texts of each list as lines, null where it has none: `texts` are those of the flattened
    lists, of which empty ones are left out.
    """
    mask = pc.not_equal(texts, "").fill_null(False)
    parents = pc.list_parent_indices(lists).filter(mask).to_numpy()
    counts = np.bincount(parents, minlength=len(lists))
    offsets = pa.array(np.append(0, np.cumsum(counts)), pa.int32())
    lines = pc.binary_join(pa.ListArray.from_arrays(offsets, texts.filter(mask)), "\n")
    return pc.if_else(pa.array(counts > 0), lines, None)


def last_answer(messages: Sequence[Any] | Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The messages before the last one of an assistant that says something, as chat templates take
    them (`role`, `content`, `tool_calls`), and what that one says: "" where there is none.
    """
    told = [message_of(one) for one in messages_of(messages) if one is not None]
    for at in range(len(told) - 1, -1, -1):
        if told[at]["role"] == "assistant" and (text := told[at]["content"]):
            return told[:at], text
    return told, ""


def message_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its role as most templates call it, and its texts as one."""
    role_key, key = next(keys for keys in CHAT_KEYS if keys[0] in message)
    named, content = message[role_key], message[key]
    role = next((role for role, names in ROLES.items() if named in names), named)
    if not isinstance(content, str | None):
        parts = [one for one in content if one and one.get("type") in (None, *CHAT_TEXTS)]
        content = "\n".join(text for one in parts if isinstance(text := one.get("text"), str))
    done = {"role": role, "content": content or ""}
    if calls := message.get("tool_calls"):
        done["tool_calls"] = _without_nulls(calls)
    return done


def _message_texts(messages: pa.StructArray, content: str) -> pa.Array:
    """What each message says, "" where it says nothing."""
    texts = _contents(pc.struct_field(messages, content)).fill_null("")
    known = [field.name for field in messages.type]
    for name in _CALLS:
        if name in known:
            calls = pc.struct_field(messages, name)
            said = pa.array([_called(one) for one in calls.to_pylist()], pa.string())
            both = pc.binary_join_element_wise(texts, said, "\n")
            texts = pc.if_else(pc.equal(texts, ""), said, pc.coalesce(both, texts)).fill_null("")
    return texts


def _contents(values: pa.Array) -> pa.Array:
    """What contents say: texts, or those of their parts."""
    if not pa.types.is_list(values.type):
        return values.cast(pa.string())
    parts = values.flatten()
    names = [field.name for field in parts.type]
    if "text" not in names or not pa.types.is_string(parts.type.field("text").type):
        return pa.nulls(len(values), pa.string())
    texts = pc.struct_field(parts, "text")
    if "type" in names:
        kinds = pc.struct_field(parts, "type").cast(pa.string())
        texts = pc.if_else(
            pc.or_(kinds.is_null(), pc.is_in(kinds, pa.array(CHAT_TEXTS))), texts, None
        )
    return joined_texts(values, texts)


def _called(calls: Any) -> str | None:
    """The calls of a message by name and arguments, a line each. Their numbers, which differ from
    row to row, say nothing.
    """
    listed = calls if isinstance(calls, list) else [calls]
    told = [line for one in listed if isinstance(one, dict) and (line := _call(one))]
    return "\n".join(told) or None


def _call(call: dict[str, Any]) -> str:
    function = call.get("function")
    asked = function if isinstance(function, dict) else call
    given = asked.get("arguments")
    if given is not None and not isinstance(given, str):
        given = json.dumps(_without_nulls(given), ensure_ascii=False, default=str)
    return " ".join(part for part in (asked.get("name"), given) if isinstance(part, str) and part)


def _without_nulls(value: Any) -> Any:
    """A value without the keys that only other rows have."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
