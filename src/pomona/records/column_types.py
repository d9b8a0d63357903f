"""Column types: one plain spelling of each, the smallest type that holds two, and arrays built
without silent conversions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pomona.errors import first_line

BATCH_ROWS = 8192
_PLAIN = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}
_NATURAL = (pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string())


class MisfitError(Exception):
    """A value that its column cannot hold."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """`kind` without the storage variants of Arrow: large and view strings become `string`,
    dictionaries their values.
    """
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    return _PLAIN.get(kind, kind)


def plain(schema: pa.Schema) -> pa.Schema:
    """The same columns with plain types and no metadata."""
    return pa.schema([(field.name, plain_type(field.type)) for field in schema])


def widen(one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    """The smallest JSON type that holds both, or None. Numbers widen to double; strings and numbers
    never mix.
    """
    if one == two or pa.types.is_null(two):
        return one
    if pa.types.is_null(one):
        return two
    if {one, two} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(two):
        inner = widen(one.value_type, two.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(one) and pa.types.is_struct(two):
        return _widen_structs(one, two)
    return None


def _widen_structs(one: pa.StructType, two: pa.StructType) -> pa.DataType | None:
    fields = {field.name: field.type for field in one}
    for field in two:
        inner = widen(fields.get(field.name, pa.null()), field.type)
        if inner is None:
            return None
        fields[field.name] = inner
    return pa.struct(list(fields.items()))


def natural_type(values: Sequence[Any]) -> pa.DataType:
    """The JSON type of a column. Values that contradict the ones before them are left out; reading
    reports them.
    """
    try:
        return pa.array(values).type
    except (pa.ArrowException, OverflowError, UnicodeError):
        kind = pa.null()
        for value in values:
            try:
                kind = widen(kind, pa.array([value]).type) or kind
            except (pa.ArrowException, OverflowError, UnicodeError):
                continue
        return kind


def json_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values of parsed JSON as a column of `kind`. Raises MisfitError unless every value keeps its
    meaning.
    """
    try:
        column = pa.array(values)
        if column.type == kind:
            return column
        if widen(column.type, kind) == kind:
            return pa.array(values, kind)
        if kind in _NATURAL or pa.types.is_nested(kind) or pa.types.is_nested(column.type):
            raise MisfitError(f"holds {column.type} where {kind} is expected")
        return column.cast(kind)
    except OverflowError as error:
        raise MisfitError("holds an integer beyond 64 bits") from error
    except UnicodeError as error:
        raise MisfitError("holds half a surrogate pair, which is not text") from error
    except pa.ArrowException as error:
        raise MisfitError(f"does not fit {kind}: {first_line(error)}") from error


def csv_column(values: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    """Fields of a CSV file as a column of `kind`. Raises MisfitError when a field is not one."""
    try:
        return pa.array(values, pa.string()).cast(kind)
    except pa.ArrowException as error:
        raise MisfitError(f"does not fit {kind}: {first_line(error)}") from error
