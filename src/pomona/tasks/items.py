"""Rows become items: a prompt to answer, the reference to compare with, and the group the result is
broken down by.
"""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pomona.errors import PomonaError, nearest
from pomona.records import Records, RowName, as_records, lists_in, messages_of

if TYPE_CHECKING:
    from pomona.models import Message, Request

# Of items in a table; the last three for items that have more than one text of each.
COLUMNS = (
    "id",
    "prompt",
    "completion",
    "group",
    "source",
    "cluster",
    "alternatives",
    "messages",
    "options",
)
_TYPES = {"alternatives": pa.list_(pa.string()), "options": pa.list_(pa.string())}
_FILL = "fill the value or drop the row"
_SPEAKERS = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Items:
    """Parallel lists of n items. `ids` are unique and do not depend on the order of the rows;
    `sources` are what the prompts ask about, and items of one of `clusters` are resampled together.

    alternatives: right answers beside the completion, which is the one that is trained on.
    messages: the conversation that is the prompt, None where it is plain text; `prompts` then holds
        it as text, for people and for search.
    options: the answers that a question lets choose from.
    Each of these three may be left out.
    """

    ids: list[str]
    prompts: list[str]
    completions: list[str]
    groups: list[str]
    sources: list[str]
    clusters: list[str]
    alternatives: list[list[str]] = field(default_factory=list)
    messages: list[tuple[Message, ...] | None] = field(default_factory=list)
    options: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, nothing in (("alternatives", []), ("messages", None), ("options", [])):
            if len(getattr(self, name)) != len(self.ids):
                object.__setattr__(self, name, [nothing] * len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def references(self) -> list[str] | list[list[str]]:
        """What a metric compares with: the completions, or lists of all that is right where an item
        has several.
        """
        if not any(self.alternatives):
            return self.completions
        pairs = zip(self.completions, self.alternatives, strict=True)
        return [[first, *others] for first, others in pairs]

    @property
    def reference_count(self) -> int | None:
        """How many references every item has, None where that varies: `references` of `metric`."""
        counts = {1 + len(others) for others in self.alternatives}
        return counts.pop() if len(counts) == 1 else None if counts else 1

    def request(self, row: int, *, chat: bool = False, **settings: Any) -> Request:
        """What a model is asked for an item: its messages; else its prompt, with `chat` as a user's
        message. `settings` are further fields of the request.
        """
        from pomona.models import Request

        messages = self.messages[row]
        if messages is None and chat:
            messages = ({"role": "user", "content": self.prompts[row]},)
        if messages is None:
            return Request(prompt=self.prompts[row], **settings)
        return Request(messages=messages, **settings)

    def take(self, rows: Sequence[int] | np.ndarray) -> Items:
        """The items at `rows`, in that order."""
        columns = [getattr(self, one.name) for one in fields(self)]
        return Items(*([column[int(i)] for i in rows] for column in columns))

    def to_table(self) -> pa.Table:
        """The columns of COLUMNS; messages as JSON."""
        lists = (getattr(self, one.name) for one in fields(self))
        columns = dict(zip(COLUMNS, lists, strict=True))
        columns["messages"] = [one and json.dumps(one) for one in self.messages]
        arrays = [pa.array(columns[name], _TYPES.get(name, pa.string())) for name in COLUMNS]
        return pa.table(arrays, names=list(COLUMNS))

    @classmethod
    def from_table(cls, table: pa.Table) -> Items:
        """The inverse of `to_table`."""
        columns = {name: table.column(name).to_pylist() for name in COLUMNS}
        columns["messages"] = [one and tuple(json.loads(one)) for one in columns["messages"]]
        return cls(*columns.values())


def require_fields(template: str, fields: Collection[str], where: object) -> None:
    """Raise PomonaError unless a template has these fields and no other."""
    try:
        names = fields_of(template)
    except PomonaError as error:
        raise PomonaError(error.message, where=where, remedy=error.remedy) from None
    if names != set(fields):
        lacks, has = set(fields) - names, names - set(fields)
        wrong = f"has no {{{min(lacks)}}}" if lacks else f"has a {{{min(has)}}}"
        *first, last = (f"{{{name}}}" for name in fields)
        remedy = f"write {', '.join(first)} and {last} in it, and {{{{ for a brace"
        raise PomonaError(wrong, where=where, remedy=remedy)


def fields_of(template: str) -> set[str]:
    """Names of the columns a template such as `"{lang}: {text}"` uses. Raises PomonaError when it
    cannot be read.
    """
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name}
    except ValueError as error:
        message, remedy = f"cannot be read: {error}", "write {{ for a literal brace"
        raise PomonaError(message, where=f"template {template!r}", remedy=remedy) from None


def source_of(prompt: str, group: str | None) -> str:
    """The template of what a prompt asks about: its only column that is not the group, without the
    words around it; or else the prompt itself.
    """
    asked = fields_of(prompt) - {group}
    return "{" + asked.pop() + "}" if len(asked) == 1 else prompt


def items_from(
    table: pa.Table | Records,
    prompt: str,
    completion: str,
    group: str | None,
    *,
    source: str | None = None,
    cluster: str | None = None,
    options: str | None = None,
) -> Items:
    """Fill the templates row by row. Rows with a null in a used column, or an empty completion, are
    refused with their file and number.

    prompt: where it is one column of chat messages (lists of role and content), these are asked.
    completion: a column of lists in it gives several references, the first of which is trained on.
    source: `source_of` the prompt unless given; of messages the user's last.
    cluster: a column; without it every item is one of its own.
    options: a column of lists, the answers to choose from; where the completion is a whole number,
        it is the place of the right one, from 0.
    Rows that come out the same (group, prompt, right answers, options) are kept once.
    """
    source = source_of(prompt, group) if source is None else source
    records = as_records(table)
    form = _form(records, (prompt, completion, source), group, cluster, options)
    by_id: dict[str, tuple[Any, ...]] = {}
    rows = (row for batch in records.select(*form.needed).stream() for row in batch.to_pylist())
    for index, row in enumerate(rows):
        where = RowName(records, index)
        empty = [name for name in form.needed if row[name] is None]
        if empty:
            raise PomonaError(f'column "{empty[0]}" is null', where=where, remedy=_FILL)
        id_, *values = form.item(row, where)
        by_id.setdefault(id_, tuple(values))
    ids = sorted(by_id)
    return Items(ids, *([by_id[id_][k] for id_ in ids] for k in range(8)))


@dataclass(frozen=True)
class _Form:
    """How a row becomes an item: templates and columns, and which of these hold more than one text:
    `messages` is the prompt, `several` stands in the completion, `places` counts options from 0.
    """

    needed: list[str]
    prompt: str
    completion: str
    source: str
    group: str | None
    cluster: str | None
    options: str | None
    messages: str | None
    several: str | None
    places: str | None

    def item(self, row: dict[str, Any], where: object) -> tuple[Any, ...]:
        """The fields of an item in their order."""
        messages, choices = self._conversation(row, where), self._choices(row, where)
        first, *others = self._right(row, choices, where)
        of = str(row[self.group]) if self.group else "all"
        asked, about = self.prompt.format_map(row), row
        if self.messages and messages:
            asked = _as_text(messages)
            about = {**row, self.messages: messages[-1]["content"]}
        key = "\x1f".join([of, asked, first, *others, *(["\x1e", *choices] if choices else [])])
        id_ = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        together = str(row[self.cluster]) if self.cluster else id_
        source = self.source.format_map(about)
        return id_, asked, first, of, source, together, others, messages, choices

    def _conversation(self, row: dict[str, Any], where: object) -> tuple[Message, ...] | None:
        if self.messages is None:
            return None
        said, column = messages_of(row[self.messages]), f'column "{self.messages}"'
        remedy = "give messages of role and content, the last of which waits for an answer"
        for at, one in enumerate(said, 1):
            role = one and one.get("role")
            if role not in _SPEAKERS:
                known = f"known: {', '.join(_SPEAKERS)}"
                message = f"message {at} has the role {role!r}"
                raise PomonaError(message, where=f"{where}, {column}", remedy=known)
            if not isinstance(one.get("content"), str):
                message = f"message {at} has no text"
                raise PomonaError(message, where=f"{where}, {column}", remedy=remedy)
        if not said or said[-1]["role"] not in ("user", "tool"):
            message = f"the last message is the {said[-1]['role']}'s" if said else "has no messages"
            raise PomonaError(message, where=f"{where}, {column}", remedy=remedy)
        return tuple({key: of for key, of in one.items() if of is not None} for one in said)

    def _choices(self, row: dict[str, Any], where: object) -> list[str]:
        if self.options is None:
            return []
        given = row[self.options]
        if len(given) < 2 or None in given:
            message = f'column "{self.options}" has fewer than two options, or a null'
            raise PomonaError(message, where=where, remedy=_FILL)
        return [str(one) for one in given]

    def _right(self, row: dict[str, Any], choices: list[str], where: object) -> list[str]:
        if self.places and not 0 <= row[self.places] < len(choices):
            message = f"option {row[self.places]} is right, of {len(choices)} counted from 0"
            raise PomonaError(message, where=where, remedy=_FILL)
        if self.places:
            return [choices[row[self.places]]]
        filled = [self.completion.format_map(row)]
        if self.several:
            if not row[self.several] or None in row[self.several]:
                message = f'column "{self.several}" is an empty list, or holds a null'
                raise PomonaError(message, where=where, remedy=_FILL)
            each = ({**row, self.several: one} for one in row[self.several])
            filled = [self.completion.format_map(one) for one in each]
        if not all(text.strip() for text in filled):
            raise PomonaError("the completion is empty", where=where, remedy=_FILL)
        for text in filled if choices else ():
            if text not in choices:
                message = f"{text!r} is none of the {len(choices)} options"
                raise PomonaError(message, where=where, remedy=_FILL)
        return filled


def _form(
    table: Records,
    templates: tuple[str, str, str],
    group: str | None,
    cluster: str | None,
    options: str | None,
) -> _Form:
    """What stands in which column. Raises PomonaError for columns that are not there, and for lists
    where none can stand.
    """
    prompt, completion, _ = templates
    needed = {name for template in templates for name in fields_of(template)}
    needed |= {name for name in (group, cluster, options) if name}
    for name in sorted(needed - set(table.column_names)):
        raise PomonaError(f'there is no column "{name}"', remedy=nearest(name, table.column_names))
    kinds = {name: table.schema.field(name).type for name in needed}
    lists = {name for name, kind in kinds.items() if _is_list(kind)}
    said = {name for name in lists if pa.types.is_struct(kinds[name].value_type)}
    said |= {
        name for name in needed if {"role", "content"} <= {f.name for f in lists_in(kinds[name])}
    }
    talk = min(fields_of(prompt) & said, default=None)
    if talk and prompt != f"{{{talk}}}":
        remedy = f"make it the whole prompt, '{{{talk}}}'"
        raise PomonaError(f'the column "{talk}" holds messages', where=prompt, remedy=remedy)
    several = sorted(fields_of(completion) & lists)
    if len(several) > 1:
        remedy = "use one column of lists, which gives the references"
        message = f"the columns {' and '.join(several)} hold lists"
        raise PomonaError(message, where=completion, remedy=remedy)
    if options and options not in lists:
        remedy = "give a list of texts in each row"
        raise PomonaError(f'the column "{options}" holds no lists', remedy=remedy)
    place = next((name for name in fields_of(completion) if completion == f"{{{name}}}"), None)
    counted = place if options and place and pa.types.is_integer(kinds[place]) else None
    first = several[0] if several else None
    columns = (group, cluster, options, talk, first, counted)
    return _Form(sorted(needed), *templates, *columns)


def _is_list(kind: pa.DataType) -> bool:
    test = pa.types
    return test.is_list(kind) or test.is_large_list(kind) or test.is_fixed_size_list(kind)


def _as_text(messages: Sequence[Message]) -> str:
    """A conversation as text: its only message, or all with their roles."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{one['role']}: {one['content']}" for one in messages)


def limit(items: Items, per_group: int | None, groups: Sequence[str] | None = None) -> Items:
    """At most `per_group` items a group — the same ones whenever the group has them — in the order
    of their ids.

    Raises PomonaError naming a wanted group that has no items.
    """
    wanted = set(groups or items.groups)
    taken: Counter[str] = Counter()
    rows = []
    for row, group in enumerate(items.groups):
        if group in wanted and (per_group is None or taken[group] < per_group):
            taken[group] += 1
            rows.append(row)
    for group in sorted(wanted - set(taken)):
        raise PomonaError(f'group "{group}" has no items', remedy=nearest(group, set(items.groups)))
    if not rows:
        raise PomonaError("there are no items", remedy="check `where` and `groups`")
    return items.take(rows)
