"""Column types: one plain spelling of each, the smallest type that holds two, and arrays built
without silent conversions.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from pomona.errors import PomonaError, first_line

pc: Any = pyarrow.compute  # its stubs lack most functions

BATCH_ROWS = 8192
CHAT_KEYS = (("role", "content"), ("from", "value"))  # of a message in a conversation
_PLAIN = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}
_NATURAL = (pa.null(), pa.bool_(), pa.int64(), pa.uint64(), pa.float64(), pa.string())
_INTEGERS = {pa.int64(), pa.uint64()}
_INT64 = (1 << 63) - 1
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
DEEPEST = 100  # lists and objects in each other; Arrow's own functions recurse


class MisfitError(Exception):
    """A value that its column cannot hold. `late` says that it could, had all rows been looked at
    for the columns and their types.
    """

    late = False


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
    if any(is_list(kind) for is_list in _LISTS):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    return pa.string() if isinstance(kind, pa.JsonType) else _PLAIN.get(kind, kind)


def plain(schema: pa.Schema) -> pa.Schema:
    """The same columns with plain types and no metadata."""
    return pa.schema([(field.name, plain_type(field.type)) for field in schema])


def columns_of(schema: pa.Schema, where: str) -> pa.Schema:
    """The columns of a file in plain types. Raises PomonaError for a file without columns, two of
    one name, and types that are no rows and columns.
    """
    try:
        return _checked(schema, where)
    except UnicodeDecodeError as error:
        message, remedy = "a column's name is not valid UTF-8", "write it again with other names"
        raise PomonaError(message, where=where, remedy=remedy) from error


def _checked(schema: pa.Schema, where: str) -> pa.Schema:
    if not len(schema):
        remedy = "check how it was written"
        raise PomonaError("there are no columns", where=where, remedy=remedy)
    if twice := _twice(schema.names):
        message, remedy = f'two columns are named "{twice}"', "write it again with other names"
        raise PomonaError(message, where=where, remedy=remedy)
    for field in schema:
        if wrong := _unreadable(field.type, 0):
            message, remedy = f'column "{field.name}" {wrong}', "write it again without that column"
            raise PomonaError(message, where=where, remedy=remedy)
    return plain(schema)


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)


def _unreadable(kind: pa.DataType, depth: int) -> str | None:
    """What keeps a type from being read."""
    if depth > DEEPEST:
        return "is nested too deeply"
    if pa.types.is_union(kind):
        return f"is {kind}, which has no one type"
    if isinstance(kind, pa.BaseExtensionType):
        return _unreadable(kind.storage_type, depth + 1)
    fields = [kind.field(place) for place in range(kind.num_fields)]
    if pa.types.is_struct(kind) and (twice := _twice([field.name for field in fields])):
        return f'has two fields named "{twice}"'
    return next(filter(None, (_unreadable(field.type, depth + 1) for field in fields)), None)


def widen(one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    """The smallest JSON type that holds both, or None. Numbers widen to double; strings and numbers
    never mix.
    """
    if one == two or pa.types.is_null(one) or pa.types.is_null(two):
        return two if pa.types.is_null(one) else one
    if {one, two} == _INTEGERS:
        return pa.uint64()
    if pa.float64() in (one, two) and {one, two} & _INTEGERS:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(two):
        inner = widen(one.value_type, two.value_type)
        return None if inner is None else pa.list_(inner)
    if pa.types.is_struct(one) and pa.types.is_struct(two):
        return _widen_structs(one, two)
    return None


def united(name: str, one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    """The smallest type for a column of several files, or None. Whole numbers widen to larger ones
    and to double, structs have the fields of both, and ids that are numbers here and texts there
    are texts.
    """
    test = pa.types
    if one == two or test.is_null(one) or test.is_null(two):
        return two if test.is_null(one) else one
    if test.is_nested(one) or test.is_nested(two):
        return _united_nested(name, one, two)
    whole = [test.is_integer(kind) for kind in (one, two)]
    numbers = [test.is_integer(kind) or test.is_floating(kind) for kind in (one, two)]
    if all(numbers):
        return _wider_integer(one, two) if all(whole) else pa.float64()
    texts = is_id(name) and any(whole) and pa.string() in (one, two)
    return pa.string() if texts else None


def _united_nested(name: str, one: Any, two: Any) -> pa.DataType | None:
    test = pa.types
    if test.is_list(one) and test.is_list(two):
        inner = united(name, one.value_type, two.value_type)
        return None if inner is None else pa.list_(inner)
    if test.is_struct(one) and test.is_struct(two):
        fields = {field.name: field.type for field in one}
        for field in two:
            inner = united(field.name, fields.get(field.name, pa.null()), field.type)
            if inner is None:
                return None
            fields[field.name] = inner
        return pa.struct(list(fields.items()))
    return None


def _wider_integer(one: pa.DataType, two: pa.DataType) -> pa.DataType:
    signed, unsigned = pa.types.is_signed_integer, pa.types.is_unsigned_integer
    wide = max(one, two, key=lambda kind: kind.bit_width)
    if signed(one) == signed(two):
        return wide
    narrow = max((kind.bit_width for kind in (one, two) if unsigned(kind)), default=0)
    if narrow == 64:
        return pa.uint64()
    return next(
        kind
        for kind in (pa.int16(), pa.int32(), pa.int64())
        if kind.bit_width > narrow and kind.bit_width >= wide.bit_width
    )


def is_id(name: str) -> bool:
    """Whether a column of this name identifies rows, so that its numbers are names."""
    return name.lower() == "id" or name.lower().endswith("_id")


def fitted(batch: pa.RecordBatch, schema: pa.Schema, where: str) -> pa.RecordBatch:
    """The columns of `schema`, null where the batch has none. Raises PomonaError where a value is
    not one of the column's.
    """
    arrays: list[pa.Array] = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        try:
            array = pa.nulls(batch.num_rows) if at < 0 else batch.column(at)
            arrays.append(_fitted(array, field.type))
        except pa.ArrowException as error:
            message = f'column "{field.name}" cannot be read as {field.type}: {first_line(error)}'
            remedy = "read the files apart, or write them again with the same columns"
            raise PomonaError(message, where=where, remedy=remedy) from error
    return pa.record_batch(arrays, schema=schema)


def _fitted(array: pa.Array, kind: pa.DataType) -> pa.Array:
    own = plain_type(array.type)
    if pa.types.is_null(own):
        return pa.nulls(len(array), kind)
    if own == kind:
        return array.cast(kind)
    if pa.types.is_struct(own) and pa.types.is_struct(kind):
        nulls = pa.nulls(len(array))
        inner = [
            _fitted(
                pc.struct_field(array, field.name)
                if own.get_field_index(field.name) >= 0
                else nulls,
                field.type,
            )
            for field in kind
        ]
        return pa.StructArray.from_arrays(inner, fields=list(kind), mask=array.is_null())
    if pa.types.is_list(own) and pa.types.is_list(kind):
        lists = array.cast(own)
        return relisted(lists, _fitted(lists.flatten(), kind.value_type))
    return as_text(array) if pa.types.is_string(kind) else array.cast(kind)


def relisted(lists: pa.Array, values: pa.Array) -> pa.Array:
    """Lists of other values, as many in each: `values` stand for those of the flattened lists."""
    sizes = pc.list_value_length(lists).fill_null(0).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(sizes)])
    return pa.ListArray.from_arrays(offsets, values, mask=lists.is_null())


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
                kind = widen(kind, _type_of(value)) or kind
            except (pa.ArrowException, OverflowError, UnicodeError):
                continue
        return kind


def _type_of(value: Any) -> pa.DataType:
    """The JSON type of one value, with `uint64` for integers of 64 bits that `int64` lacks."""
    if isinstance(value, dict):
        return pa.struct([(name, _type_of(inner)) for name, inner in value.items()])
    if isinstance(value, list):
        kind = pa.null()
        for inner in value:
            if (wider := widen(kind, _type_of(inner))) is None:
                raise pa.ArrowInvalid("values of several types")
            kind = wider
        return pa.list_(kind)
    if isinstance(value, int) and value > _INT64:
        return pa.array([value], pa.uint64()).type
    return pa.array([value]).type


def unseen(name: str, kind: pa.DataType) -> list[bytes]:
    """Patterns of what a line has that gives a type to what has none yet in a column or field."""
    if pa.types.is_null(kind):
        return [key_sign(name, False)]
    if pa.types.is_list(kind):
        inner = kind.value_type
        return [key_sign(name, True)] if pa.types.is_null(inner) else unseen(name, inner)
    fields = list(kind) if pa.types.is_struct(kind) else []
    return [sign for field in fields for sign in unseen(field.name, field.type)]


def key_sign(name: str, of_list: bool) -> bytes:
    """A key whose value is not null, or is a list that is not empty."""
    key = re.escape(json.dumps(name)).encode()
    return rb"%b\s*:\s*%b" % (key, rb"\[\s*[^]\s]" if of_list else rb"[^n\s]")


def all_types(
    found: Mapping[str, pa.DataType], rows: Sequence[Mapping[str, Any]]
) -> dict[str, pa.DataType]:
    """Types of columns as wide as further rows need, and those of keys that only these have; what
    no type holds leaves its column's as it is.
    """
    types = dict(found)
    for name in dict.fromkeys(name for row in rows for name in row):
        own = natural_type([row.get(name) for row in rows])
        types[name] = widen(types.get(name, pa.null()), own) or types[name]
    return types


def json_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values of parsed JSON as a column of `kind`. Raises MisfitError unless every value keeps its
    meaning.
    """
    try:
        column = _array(values, kind)
        if column.type != kind:
            if kind in _NATURAL or pa.types.is_nested(kind) or pa.types.is_nested(column.type):
                raise MisfitError(f"holds {column.type} where {kind} is expected")
            column = column.cast(kind)
    except OverflowError as error:
        raise MisfitError(_beyond(values, kind)) from error
    except UnicodeError as error:
        raise MisfitError("holds half a surrogate pair, which is not text") from error
    except pa.ArrowException as error:
        if "too large" in str(error):
            raise MisfitError(_beyond(values, kind)) from error
        several = pa.types.is_nested(kind) or pa.types.is_null(kind)
        held = "holds values of several types" if several else f"does not fit {kind}"
        raise MisfitError(f"{held}: {first_line(error)}") from error
    if _infinite(column):
        raise MisfitError("holds a number too large for 64 bits")
    return column


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values as their own type, or as `kind` where that is wider."""
    try:
        column = pa.array(values)
    except OverflowError:
        own = natural_type(values)
        if pa.types.is_null(own) or widen(kind, own) != kind:
            raise
        return pa.array(values, kind)
    # Keys of objects stay in the order of `kind`, whatever order these values have them in.
    return pa.array(values, kind) if widen(kind, column.type) == kind else column


def _beyond(values: Sequence[Any], kind: pa.DataType) -> str:
    """What is wrong with an integer."""
    numbers = [value for value in values if isinstance(value, int)] or [0]
    if kind == pa.uint64() and min(numbers) < 0:
        return "holds a negative number where uint64 is expected"
    small = min(numbers) >= -_INT64 - 1 and 0 < max(numbers) < 2 * _INT64 + 2
    return (
        f"holds an integer that {kind} cannot hold" if small else "holds an integer beyond 64 bits"
    )


def _infinite(column: pa.Array) -> bool:
    """Whether a number was so large that it became infinity, which JSON has no other way to say."""
    if pa.types.is_floating(column.type):
        return bool(np.isinf(column.to_numpy(zero_copy_only=False)).any())
    if pa.types.is_struct(column.type):
        return any(_infinite(inner) for inner in column.flatten())
    return pa.types.is_list(column.type) and _infinite(column.flatten())


def as_text(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Values of any type as text, null as null: lists and structs as JSON, bytes that are no UTF-8
    with escapes.
    """
    if not pa.types.is_nested(column.type) and not pa.types.is_binary(column.type):
        try:
            return column.cast(pa.string())
        except pa.ArrowException:
            pass
    return pa.array([_spelt(value) for value in column], pa.string())


def as_codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[str]]:
    """Values as indices [n] into their distinct texts, -1 for null."""
    codes, values = _encoded(column if pa.types.is_dictionary(column.type) else as_text(column))
    seen = np.zeros(len(values) + 1, bool)
    seen[codes] = True  # the last for -1
    if not seen[:-1].all():  # a dictionary may hold what no row has
        used = np.flatnonzero(seen[:-1])
        number = np.full(len(values) + 1, -1, np.int32)
        number[used] = np.arange(len(used))
        codes, values = number[codes], values.take(pa.array(used))
    return codes, as_text(values).to_pylist()


def _encoded(column: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.Array]:
    """Indices into distinct values, -1 for null, and these."""
    whole = column.dictionary_encode()
    if isinstance(whole, pa.ChunkedArray):
        # What has just been encoded has one dictionary: all of its chunks' need no second look.
        given = pa.types.is_dictionary(column.type)
        whole = (whole.unify_dictionaries() if given else whole).combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.combine_chunks()
    codes = whole.indices.fill_null(-1) if whole.null_count else whole.indices
    return codes.to_numpy(zero_copy_only=False), whole.dictionary


def as_groups(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Which rows have the same value: int64 [n] from 0 on without gaps, -1 for null. Faster than
    `as_codes`, which needs the texts.
    """
    if pa.types.is_integer(column.type) and not column.null_count and len(column):
        values = column.to_numpy()
        if values.min() >= 0 and values.max() < 4 * len(values) + 1000:
            number = np.zeros(int(values.max()) + 1, np.int64)  # a table is faster than a hash
            number[values] = 1
            return (np.cumsum(number) - 1)[values]
    plain = as_text(column) if pa.types.is_nested(column.type) else column
    return _encoded(plain)[0].astype(np.int64)


def _spelt(scalar: pa.Scalar) -> str | None:
    try:
        value = scalar.as_py()
    except (ValueError, OverflowError):  # a time that Python cannot hold
        return str(scalar)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return json.dumps(value, ensure_ascii=False, default=str)


def csv_column(values: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    """Fields of a CSV file as a column of `kind`. Raises MisfitError when a field is not one."""
    try:
        return pa.array(values, pa.string()).cast(kind)
    except pa.ArrowException as error:
        raise MisfitError(f"does not fit {kind}: {first_line(error)}") from error


def mixes_parts(values: Sequence[Any]) -> bool:
    """Whether values are conversations of which some contents are texts and others lists of parts,
    which no type holds.
    """
    kinds = {
        type(message[key])
        for messages in values
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict) and (key := _content_key(message))
    }
    return {str, list} <= kinds


def lists_in(kind: pa.DataType) -> list[pa.Field]:
    """The lists of an object: side by side they may be a conversation, `{"role": […], …}`."""
    fields = list(kind) if pa.types.is_struct(kind) else []
    return [field for field in fields if pa.types.is_list(field.type)]


def messages_of(chat: Any) -> Any:
    """A conversation, as Python has it, as a list of messages; what is none stays."""
    if not isinstance(chat, Mapping):
        return chat
    lists = {name: values for name, values in chat.items() if isinstance(values, list)}
    if len({len(values) for values in lists.values()}) != 1:
        return []
    return [dict(zip(lists, one, strict=True)) for one in zip(*lists.values(), strict=True)]


def in_parts(messages: Any) -> Any:
    """A conversation whose contents that are texts are lists of one part."""
    return [_in_parts(one) for one in messages] if isinstance(messages, list) else messages


def _in_parts(message: Any) -> Any:
    key = _content_key(message) if isinstance(message, dict) else None
    if key is None or not isinstance(message[key], str):
        return message
    return {**message, key: [{"type": "text", "text": message[key]}]}


def _content_key(message: Mapping[str, Any]) -> str | None:
    return next((key for role, key in CHAT_KEYS if role in message and key in message), None)
