"""What may stand for the text of a row: a column of texts, a field within one, a column of
conversations, or a template of these; made batch by batch beside the columns that there are.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute

from pomona.errors import PomonaError, nearest, row_of
from pomona.records.chats import ROLES, chat_texts, is_chat, joined_texts
from pomona.records.column_types import as_text, relisted
from pomona.records.records import Records
from pomona.records.source import Batches, Filter, Source, Streamed, kept, no_column

pc: Any = pyarrow.compute  # its stubs lack most functions

_EXAMPLES = (
    ("prompt", "completion"),
    ("instruction", "input", "output"),
    ("instruction", "output"),
    ("question", "answer"),
)
_ESCAPES = {"\\n": "\n", "\\t": "\t"}  # as a shell hands them over


@dataclass(frozen=True)
class TextField:
    """A column, or a field within it, as texts: `path` leads through structs and lists of them, at
    last to a `role` of a conversation.
    """

    name: str
    column: str
    path: tuple[str, ...]
    role: str | None

    def texts(self, batch: pa.RecordBatch) -> pa.Array:
        """The text of each row, null where there is none."""
        values = batch.column(self.column)
        for name in self.path:
            values = _below(values, name)
        if is_chat(values.type):
            return chat_texts(values, self.role)
        if _is_strings(values.type):
            return joined_texts(values, values.flatten())
        return as_text(values)


@dataclass(frozen=True)
class RowText:
    """The text of a row, as a column called `name`: `fields` between `literals`, of which there is
    one more.
    """

    name: str
    fields: tuple[TextField, ...]
    literals: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The columns that it is made of."""
        return list(dict.fromkeys(field.column for field in self.fields))

    def texts(self, batch: pa.RecordBatch) -> pa.Array:
        """The text of each row, null where one of its fields is."""
        first, *others = self.literals
        parts: list[Any] = [first]
        for field, behind in zip(self.fields, others, strict=True):
            parts += [field.texts(batch), behind]
        if first == "" and others == [""]:
            return parts[1]
        return pc.binary_join_element_wise(*parts, "")

    def lacking(self, batch: pa.RecordBatch) -> str:
        """Which field of the batch's first row holds no text."""
        row = batch.slice(0, 1)
        field = next(one for one in self.fields if one.texts(row).null_count)
        values = row.column(field.column)
        lacks = "is null" if not field.path and values.null_count else "holds no text"
        kind = "field" if field.path or field.role else "column"
        return f'{kind} "{field.name}" {lacks}'


@dataclass(frozen=True)
class TextRows(Streamed):
    """Another source with texts as further columns. Of rows without a text the first is an error
    where it is `strict`; else theirs is null. The first row that is
    read is row `first` of its file, from 0.
    """

    source: Source
    made: tuple[RowText, ...]
    strict: bool
    first: int = 0

    @property
    def schema(self) -> pa.Schema:
        """The columns, and the texts behind them."""
        fields = [pa.field(text.name, pa.string()) for text in self.made]
        return pa.schema([*self.source.schema, *fields])

    @property
    def own(self) -> list[str]:
        """The columns that were there before."""
        return self.source.schema.names

    @property
    def where(self) -> str:
        """What errors call it."""
        return self.source.where

    def parts(self) -> Sequence[TextRows]:
        """Pieces that can be read apart."""
        return [replace(self, source=part) for part in self.source.parts()]

    def count(self, keep: Filter) -> int:
        """See `Source`."""
        return self.source.count(None) if keep is None else super().count(keep)

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`. A filter may ask for any column, so all are read for it."""
        own, made = self.source.schema.names, self.made
        if keep is None:
            made = tuple(text for text in made if text.name in columns)
            wanted = {name for text in made for name in text.columns}.union(columns)
            own = [name for name in own if name in wanted] or own[:1]
        for part in self.source.parts():
            row = self.first
            for batch in part.stream(own, None):
                yield kept(self._with(batch.select(own), made, part.where, row), keep)
                row += batch.num_rows

    def _with(
        self, batch: pa.RecordBatch, made: Sequence[RowText], where: str, row: int
    ) -> pa.RecordBatch:
        rows = batch
        for text in made:
            texts = text.texts(rows)
            if texts.null_count and self.strict:
                at = pc.index(texts.is_null(), pa.scalar(True)).as_py()
                raise PomonaError(
                    text.lacking(rows.slice(at, 1)),
                    where=row_of(where, row + at),
                    remedy="fill it, or leave out rows without a text: --on-error drop",
                )
            batch = batch.append_column(pa.field(text.name, pa.string()), texts)
        return batch


def with_text(records: Records, text: str, *, scalars: bool = False) -> tuple[Records, str]:
    """These records with the text of each row, and the name of its column: `text` is a column of
    texts, and nothing is added, or one of conversations or of lists of texts, a field in a column
    (`meta.text`; of conversations what one role says, `messages.user`), or a template of such
    (`"{prompt}\\n{completion}"`). With `scalars` also a column of numbers.

    Raises:
        PomonaError: there is no such column or field, or it holds no text; or, once rows are read
            and unless such are left out, a row has none, with its number in its file.
    """
    made = _row_text(records, text, scalars)
    if made is None:
        return records, text
    source, names = records.source, records.column_names
    if not isinstance(source, TextRows):
        source = TextRows(source, (), not records.drops)
    if made not in source.made:
        source = replace(source, made=(*source.made, made))
    shown = [*names, *([] if made.name in names else [made.name])]
    return replace(records, source=source, _columns=tuple(shown)), made.name


def text_fields(records: Records, text: str) -> tuple[TextField, ...]:
    """The columns and fields that a text is made of, none where it is a column as it is. Raises
    PomonaError as `with_text` does.
    """
    made = _row_text(records, text, scalars=False)
    return () if made is None else made.fields


def _row_text(records: Records, text: str, scalars: bool) -> RowText | None:
    """How the text is made; None where it stands in a column as it is."""
    schema, where = records.schema, str(records.source.where)
    if text in schema.names:
        kind = schema.field(text).type
        if pa.types.is_string(kind) or pa.types.is_null(kind):
            return None
        field = TextField(text, text, (), None)
        _check(kind, field, where, scalars)
        name = _free(f"text of {text}", schema.names)
        return RowText(name, (field,), ("", ""))
    if "{" not in text and "}" not in text:
        field = _field(records, text, scalars)
        return RowText(text, (field,), ("", ""))
    fields, literals = _parsed(text)
    made = tuple(_field(records, name, True) for name in fields)
    return RowText(text, made, literals)


def _free(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _parsed(template: str) -> tuple[list[str], tuple[str, ...]]:
    """The fields of a template and what stands around them. Raises PomonaError where it is none."""
    where, remedy = f"template {template!r}", "write {{ for a literal brace"
    fields: list[str] = []
    literals = [""]
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise PomonaError(f"cannot be read: {error}", where=where, remedy=remedy) from None
    for literal, name, form, conversion in parsed:
        for written, meant in _ESCAPES.items():
            literal = literal.replace(written, meant)
        literals[-1] += literal
        if name is None:
            continue
        if not name or form or conversion:
            remedy = "write {COLUMN}, and {{ for a literal brace"
            raise PomonaError("names a field in another way", where=where, remedy=remedy)
        fields.append(name)
        literals.append("")
    if not fields:
        raise PomonaError("names no column", where=where, remedy="write {COLUMN}")
    return fields, tuple(literals)


def _field(records: Records, name: str, scalars: bool) -> TextField:
    """The column or field of a name. Raises PomonaError where there is none or it holds no text."""
    schema, where = records.schema, str(records.source.where)
    column = next((one for one in _heads(name) if one in schema.names), None)
    if column is None:
        raise _no_text(name, schema, where)
    kind, path = schema.field(column).type, list[str]()
    steps = name[len(column) + 1 :].split(".") if name != column else []
    for step in steps:
        inner = kind.value_type if pa.types.is_list(kind) else kind
        names = [field.name for field in inner] if pa.types.is_struct(inner) else []
        if step in names:
            path.append(step)
            below = inner.field(step).type
            kind = pa.list_(below) if pa.types.is_list(kind) else below
        elif is_chat(kind) and step in ROLES and step == steps[-1]:
            return TextField(name, column, tuple(path), step)
        else:
            known = [*names, *(ROLES if is_chat(kind) else ())]
            remedy = nearest(step, known) if known else f"it holds {_shown(kind)}"
            message = f'there is no field "{step}" in "{".".join([column, *path])}"'
            raise PomonaError(message, where=where, remedy=remedy)
    field = TextField(name, column, tuple(path), None)
    _check(kind, field, where, scalars)
    return field


def _heads(name: str) -> list[str]:
    """What of a path may be a column's name, the longest first."""
    steps = name.split(".")
    return [".".join(steps[:end]) for end in range(len(steps), 0, -1)]


def _check(kind: pa.DataType, field: TextField, where: str, scalars: bool) -> None:
    texts = pa.types.is_string(kind) or pa.types.is_null(kind)
    if texts or is_chat(kind) or _is_strings(kind) or (scalars and not pa.types.is_nested(kind)):
        return
    what = "field" if field.path else "column"
    remedy = "name a column of strings or of conversations, or a template of columns"
    message = f'{what} "{field.name}" holds {_shown(kind)}, not text'
    raise PomonaError(message, where=where, remedy=remedy)


def _shown(kind: pa.DataType) -> str:
    """A type in few words."""
    if pa.types.is_struct(kind):
        return "objects"
    return "lists" if pa.types.is_list(kind) and not _is_strings(kind) else str(kind)


def _is_strings(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and pa.types.is_string(kind.value_type)


def _below(values: pa.Array, name: str) -> pa.Array:
    """The field `name` of structs, or of the structs in lists."""
    if pa.types.is_struct(values.type):
        return pc.struct_field(values, name)
    return relisted(values, pc.struct_field(values.flatten(), name))


def _no_text(name: str, schema: pa.Schema, where: str) -> PomonaError:
    """The error for a text that is not there; of rows as examples have them, what to name."""
    usual = usual_texts(schema) if name == "text" else []
    if not usual:
        return no_column(name, schema.names, where)
    many = "one of them: " if len(usual) > 1 else ""
    listed = " or ".join(f"--column {_quoted(one)}" for one in usual)
    return PomonaError('there is no column "text"', where=where, remedy=f"name {many}{listed}")


def usual_texts(schema: pa.Schema) -> list[str]:
    """What the text may be where there is no column of that name: conversations, or the columns
    of examples.
    """
    chats = [field.name for field in schema if is_chat(field.type)]
    fitting = {one[0]: one for one in reversed(_EXAMPLES) if set(one) <= set(schema.names)}
    return [*chats, *("\n".join(f"{{{name}}}" for name in one) for one in fitting.values())]


def _quoted(text: str) -> str:
    return '"' + text.replace("\n", "\\n") + '"' if "{" in text else text
