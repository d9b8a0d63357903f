"""The texts of rows, one by one where they stand: that of a column, or those in a conversation, a
field, or the columns of a template. Spans are struck there, so that a row keeps its form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from pomona.data.inputs import TextColumn, parts, pieces
from pomona.records import (
    CHAT_TEXTS,
    ROLES,
    Records,
    TextField,
    as_messages,
    as_they_were,
    is_chat,
    keys_of_chat,
    relisted,
    text_fields,
    with_text,
)

pc: Any = pyarrow.compute  # its stubs lack most functions

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Visit = Callable[[pa.Array, Ints, Mask], pa.Array]


class ColumnTexts(TextColumn):
    """The texts of one column of strings, of which each row has one."""

    @property
    def count(self) -> int:
        """Texts in all."""
        return self.rows

    def rows_of(self, texts: Ints) -> Ints:
        """The rows of these texts."""
        return texts

    def row_name(self, text: int) -> str:
        """How errors name the row of one of the texts that were read."""
        return self.records.row_name(text)

    def of(self, batch: pa.RecordBatch) -> tuple[pa.StringArray, Ints]:
        """The texts of a batch, and the row of each within it, in order."""
        return batch.column(self.column), np.arange(batch.num_rows)

    def replaced(self, batch: pa.RecordBatch, texts: pa.StringArray) -> pa.RecordBatch:
        """The batch with other texts."""
        place = batch.schema.get_field_index(self.column)
        return batch.set_column(place, batch.schema.field(place), texts)


class FieldTexts(ColumnTexts):
    """The texts in some fields, of which a row has any number. How many each row has takes eight
    bytes a row.
    """

    def __init__(self, records: Records, column: str, fields: Sequence[TextField]) -> None:
        super().__init__(records, column)
        self._fields = tuple(dict.fromkeys(fields))
        self._sizes: list[Ints] = []  # as far as they are read
        self._ends = np.zeros(1, np.int64)

    @property
    def count(self) -> int:
        """Texts in all."""
        return int(self._ends[-1])

    def rows_of(self, texts: Ints) -> Ints:
        """The rows of these texts."""
        return np.searchsorted(self._ends, texts, side="right") - 1

    def row_name(self, text: int) -> str:
        """How errors name the row of one of the texts that were read."""
        ends = np.cumsum(np.concatenate(self._sizes))
        return self.records.row_name(int(np.searchsorted(ends, text, side="right")) - 1)

    def texts(self) -> Iterator[pa.StringArray]:
        """The texts in batches. Raises PomonaError with file and row for a row without."""
        counts, self._sizes = dict[str, int](), [np.zeros(1, np.int64)]
        made, name = with_text(self.records, self.column)
        columns = [*dict.fromkeys(field.column for field in self._fields), name]
        for where, part in parts(made.select(*columns)):
            for batch in pieces(part.stream()):
                texts, rows = self.of(batch)
                self._sizes.append(np.bincount(rows, minlength=batch.num_rows))
                yield texts
                counts[where] = counts.get(where, 0) + batch.num_rows
        self._rows, self._ends = counts, np.cumsum(np.concatenate(self._sizes))

    def of(self, batch: pa.RecordBatch) -> tuple[pa.StringArray, Ints]:
        """The texts of a batch, and the row of each within it, in order."""
        texts, rows = [pa.array([], pa.string())], [np.zeros(0, np.int64)]

        def collect(values: pa.Array, owners: Ints, mask: Mask) -> pa.Array:
            texts.append(values.filter(pa.array(mask)))
            rows.append(owners[mask])
            return values

        for field in self._fields:
            _visited(field, batch, collect)
        owners = np.concatenate(rows)
        order = np.argsort(owners, kind="stable")
        return pa.concat_arrays(texts).take(pa.array(order)), owners[order]

    def replaced(self, batch: pa.RecordBatch, texts: pa.StringArray) -> pa.RecordBatch:
        """The batch with other texts."""
        left, owners = 0, [np.zeros(0, np.int64)]
        for field in self._fields:
            _visited(field, batch, lambda values, own, mask: owners.append(own[mask]) or values)
        back = np.argsort(np.argsort(np.concatenate(owners), kind="stable"))
        others = texts.take(pa.array(back))

        def put(values: pa.Array, _: Ints, mask: Mask) -> pa.Array:
            nonlocal left
            first, left = left, left + int(mask.sum())
            return pc.replace_with_mask(values, pa.array(mask), others.slice(first, left - first))

        for field in self._fields:
            place = batch.schema.get_field_index(field.column)
            made = _visited(field, batch, put)
            batch = batch.set_column(place, batch.schema.field(place), made)
        return batch


def texts_of(records: Records, column: str) -> ColumnTexts:
    """The texts that are struck, where they stand."""
    fields = text_fields(records, column)
    return FieldTexts(records, column, fields) if fields else ColumnTexts(records, column)


def _visited(field: TextField, batch: pa.RecordBatch, visit: Visit) -> pa.Array:
    """A field's column with what `visit` makes of the texts, their rows, and which are meant."""
    values = batch.column(field.column)
    return _walked(values, field.path, field.role, np.arange(len(values)), visit)


def _walked(
    values: pa.Array, path: Sequence[str], role: str | None, owners: Ints, visit: Visit
) -> pa.Array:
    if pa.types.is_string(values.type):
        return visit(values, owners, _valid(values))
    if pa.types.is_list(values.type):
        inner, flat = owners[pc.list_parent_indices(values).to_numpy()], values.flatten()
        keys = None if path else keys_of_chat(values.type)
        if keys is None:
            return relisted(values, _walked(flat, path, role, inner, visit))
        own = np.ones(len(flat), np.bool_)
        if role is not None:
            own = _true(pc.is_in(pc.struct_field(flat, keys[0]), pa.array(ROLES[role])))
        made = _with_child(flat, keys[1], lambda said: _said(said, inner, own, visit))
        return relisted(values, made)
    if not path and is_chat(values.type):
        return as_they_were(_walked(as_messages(values), path, role, owners, visit), values)
    if path and pa.types.is_struct(values.type):
        return _with_child(
            values, path[0], lambda child: _walked(child, path[1:], role, owners, visit)
        )
    return values


def _said(contents: pa.Array, owners: Ints, own: Mask, visit: Visit) -> pa.Array:
    """The contents of messages: texts, or the texts of their parts."""
    if pa.types.is_string(contents.type):
        return visit(contents, owners, own & _valid(contents))
    if not pa.types.is_list(contents.type):
        return contents
    parents, flat = pc.list_parent_indices(contents).to_numpy(), contents.flatten()
    names = [field.name for field in flat.type]
    if "text" not in names or not pa.types.is_string(flat.type.field("text").type):
        return contents
    meant = own[parents]
    if "type" in names:
        kinds = pc.struct_field(flat, "type").cast(pa.string())
        meant &= _true(pc.or_(kinds.is_null(), pc.is_in(kinds, pa.array(CHAT_TEXTS))))
    return relisted(
        contents,
        _with_child(
            flat, "text", lambda texts: visit(texts, owners[parents], meant & _valid(texts))
        ),
    )


def _with_child(
    values: pa.Array, name: str, made: Callable[[pa.Array], pa.Array]
) -> pa.StructArray:
    """Structs with another field of a name."""
    inner = [
        made(child) if field.name == name else child
        for field in values.type
        for child in [pc.struct_field(values, field.name)]
    ]
    return pa.StructArray.from_arrays(inner, fields=list(values.type), mask=values.is_null())


def _valid(values: pa.Array) -> Mask:
    return values.is_valid().to_numpy(zero_copy_only=False)


def _true(values: pa.Array) -> Mask:
    return values.fill_null(False).to_numpy(zero_copy_only=False)
