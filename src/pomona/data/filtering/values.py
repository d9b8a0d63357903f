"""What a condition is made of: values by their kind, worked out a batch at a time, and the
functions there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.records import chat_texts

Run = Callable[[pa.RecordBatch], Any]
NOTHING = "column without values"  # the kind of a column of null alone
_TYPES = {"text": pa.string(), "number": pa.float64(), "truth": pa.bool_()}
_SEEN = r"[^\s\p{Z}]"  # what is no white space, as in `Records.complete`
_NUMERAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class Value:
    """`run` gives the value of each row of a batch, an array `[n]` or one for all. `kind` is
    text, number, truth, time, list, struct, null, NOTHING or another name of Arrow's.
    """

    kind: str
    type: pa.DataType
    run: Run
    constant: Any = None

    @classmethod
    def of(
        cls, kind: str, type: pa.DataType, function: str, *parts: Value, options: Any = None
    ) -> Value:
        """What a function of Arrow gives for these."""
        runs = [part.run for part in parts]
        return cls(
            kind,
            type,
            lambda rows: pc.call_function(function, [run(rows) for run in runs], options=options),
        )

    @property
    def null(self) -> bool:
        """Whether it is the word for null."""
        return self.kind == "null" and self.constant is None and pa.types.is_null(self.type)

    def inverted(self) -> Value:
        """Not this truth."""
        return Value.of("truth", pa.bool_(), "invert", self)

    def part(self, name: str) -> Value:
        """A field of a struct."""
        options = pc.StructFieldOptions([name])
        whole = self.run
        return _loaded(
            self.type.field(name).type,
            lambda rows: pc.call_function("struct_field", [whole(rows)], options=options),
        )

    def said(self, role: str) -> Value:
        """What one role says in a conversation, null where it says nothing."""
        whole = self.run
        return Value("text", pa.string(), lambda rows: chat_texts(whole(rows), role))


def constant(value: Any) -> Value:
    """A value that is written out."""
    kind = {str: "text", bool: "truth", type(None): "null"}.get(type(value), "number")
    scalar = pa.scalar(float(value) if _too_long(value) else value)
    return Value(kind, scalar.type, lambda _: scalar, value)


def _too_long(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def column(name: str, type: pa.DataType) -> Value:
    """The values of a column."""
    return _loaded(type, lambda rows: rows.column(name))


def taken_as(value: Value, kind: str) -> Value:
    """A column without any value is one of any kind: of each row nothing is known."""
    if value.kind != NOTHING or kind not in _TYPES:
        return value
    return Value(kind, _TYPES[kind], lambda rows: value.run(rows).cast(_TYPES[kind]))


def _loaded(type: pa.DataType, run: Run) -> Value:
    kinds = pa.types
    if kinds.is_decimal(type) or kinds.is_float16(type):
        return _loaded(pa.float64(), lambda rows: run(rows).cast(pa.float64()))
    if kinds.is_floating(type):
        return Value("number", type, lambda rows: _known(run(rows)))
    if kinds.is_integer(type):
        return Value("number", type, run)
    for kind, is_kind in (
        (NOTHING, kinds.is_null),
        ("text", kinds.is_string),
        ("truth", kinds.is_boolean),
        ("time", kinds.is_temporal),
        ("list", kinds.is_list),
        ("struct", kinds.is_struct),
    ):
        if is_kind(type):
            return Value(kind, type, run)
    return Value(str(type), type, run)


def _known(values: Any) -> Any:
    """Floats without NaN, which is null."""
    nan = pc.call_function("is_nan", [values])
    if not pc.call_function("any", [nan]).as_py():
        return values
    return pc.call_function("if_else", [nan, pa.scalar(None, values.type), values])


def as_float(value: Value) -> Value:
    """A number as float64: arithmetic has no other, so that it cannot overflow."""
    run = value.run
    return Value("number", pa.float64(), lambda rows: run(rows).cast(pa.float64(), safe=False))


def quotient(one: Value, other: Value) -> Value:
    """One number by another; null where that is 0."""
    above, below = as_float(one).run, as_float(other).run

    def run(rows: pa.RecordBatch) -> Any:
        by = below(rows)
        zero = pc.call_function("equal", [by, pa.scalar(0.0)])
        by = pc.call_function("if_else", [zero, pa.scalar(None, pa.float64()), by])
        return pc.call_function("divide", [above(rows), by])

    return Value("number", pa.float64(), run)


def compared(sign: str, one: Value, other: Value) -> Value | None:
    """Two values side by side; None where their kinds do not go together. Text that is written out
    is a time beside one.
    """
    if {one.kind, other.kind} == {"time", "text"}:
        one, other = _timed(one, other), _timed(other, one)
    one, other = _wide(one, other), _wide(other, one)
    alike = one.kind == other.kind and one.kind in ("text", "number", "time", "truth")
    if not alike or (one.kind == "truth" and sign not in ("equal", "not_equal")):
        return None
    return Value.of("truth", pa.bool_(), sign, one, other)


def _wide(value: Value, other: Value) -> Value:
    """A number as it is compared with another. Arrow refuses large whole numbers beside fractions,
    and those above 2⁶³ where the other may be below 0.
    """
    types = {value.type, other.type}
    if value.kind != "number" or other.kind != "number" or len(types) == 1:
        return value
    if not any(map(pa.types.is_floating, types)):
        if pa.uint64() not in types:
            return value
        whole = other if value.constant is None else value
        if type(whole.constant) is int and whole.constant >= 0:
            if value.constant is None:
                return value
            scalar = pa.scalar(value.constant, pa.uint64())
            return Value("number", pa.uint64(), lambda _: scalar, value.constant)
    return as_float(value)


def _timed(value: Value, other: Value) -> Value:
    if value.kind == "time" or not isinstance(value.constant, str):
        return value
    try:
        scalar = pa.scalar(value.constant).cast(other.type)
    except pa.ArrowException:
        return value
    return Value("time", other.type, lambda _: scalar)


def member(value: Value, among: Sequence[Any]) -> Value:
    """Whether a value is one of these; unknown where it is null."""
    run = value.run
    wide = value.kind == "number" and not all(isinstance(one, int) for one in among)
    kind = pa.float64() if wide or pa.types.is_floating(value.type) else None
    large = pa.types.is_uint64(value.type) and all(one >= 0 for one in among if one is not None)
    whole = pa.uint64() if large else pa.int64()
    kind = kind or (whole if value.kind == "number" else value.type)
    options = pc.SetLookupOptions(pa.array(among, kind))

    def found(rows: pa.RecordBatch) -> Any:
        values = run(rows).cast(kind)
        inside = pc.call_function("is_in", [values], options=options)
        valid = pc.call_function("is_valid", [values])
        return pc.call_function("if_else", [valid, inside, pa.scalar(None, pa.bool_())])

    return Value("truth", pa.bool_(), found)


def absent(value: Value) -> Value:
    """Whether a value is null. Never null."""
    return Value.of("truth", pa.bool_(), "is_null", value)


@dataclass(frozen=True)
class Function:
    """How a function is written; the kinds that each argument may have, those of fixed ones being
    written out; and what makes its value.
    """

    usage: str
    kinds: tuple[str, ...]
    make: Callable[..., Value]

    def refuses(self, given: Sequence[Value]) -> str | None:
        """What is wrong with the arguments."""
        if len(given) != len(self.kinds):
            return f"it takes {len(self.kinds)}, not {len(given)}"
        for place, (value, kinds) in enumerate(zip(given, self.kinds, strict=True), 1):
            wanted = kinds.removeprefix("fixed ")
            if value.kind not in wanted.split():
                return f"argument {place} is a {value.kind}, not a {wanted.replace(' ', ' or ')}"
            if wanted != kinds and value.constant is None:
                return f"argument {place} is not written out"
        return None


def _by(kind: str, type: pa.DataType, name: str) -> Callable[..., Value]:
    return lambda *given: Value.of(kind, type, name, *given)


def _matching(name: str) -> Callable[[Value, Value], Value]:
    def make(text: Value, part: Value) -> Value:
        options = pc.MatchSubstringOptions(part.constant)
        pc.call_function(name, [pa.array([""])], options=options)
        return Value.of("truth", pa.bool_(), name, text, options=options)

    return make


def _length(value: Value) -> Value:
    name = "utf8_length" if value.kind == "text" else "list_value_length"
    return Value.of("number", pa.int32(), name, value)


def _words(text: Value) -> Value:
    options = pc.MatchSubstringOptions(f"{_SEEN}+")
    return Value.of("number", pa.int32(), "count_substring_regex", text, options=options)


def _numeral(text: Value) -> Value:
    run, options = text.run, pc.MatchSubstringOptions(_NUMERAL)

    def read(rows: pa.RecordBatch) -> Any:
        said = pc.call_function("utf8_trim_whitespace", [run(rows)])
        is_one = pc.call_function("match_substring_regex", [said], options=options)
        none = pa.scalar(None, pa.string())
        return pc.call_function("if_else", [is_one, said, none]).cast(pa.float64())

    return Value("number", pa.float64(), read)


def _empty(text: Value) -> Value:
    run, options = text.run, pc.MatchSubstringOptions(_SEEN)

    def read(rows: pa.RecordBatch) -> Any:
        seen = pc.call_function("match_substring_regex", [run(rows)], options=options)
        return pc.call_function("invert", [pc.fill_null(seen, False)])

    return Value("truth", pa.bool_(), read)


FUNCTIONS = {
    "len": Function("len(text)", ("text list",), _length),
    "words": Function("words(text)", ("text",), _words),
    "lower": Function("lower(text)", ("text",), _by("text", pa.string(), "utf8_lower")),
    "upper": Function("upper(text)", ("text",), _by("text", pa.string(), "utf8_upper")),
    "strip": Function("strip(text)", ("text",), _by("text", pa.string(), "utf8_trim_whitespace")),
    "startswith": Function(
        'startswith(text, "The")', ("text", "fixed text"), _matching("starts_with")
    ),
    "endswith": Function('endswith(text, ".")', ("text", "fixed text"), _matching("ends_with")),
    "matches": Function(
        'matches(text, "[0-9]{3}")', ("text", "fixed text"), _matching("match_substring_regex")
    ),
    "number": Function("number(text)", ("text",), _numeral),
    "abs": Function(
        "abs(score)",
        ("number",),
        lambda one: Value.of("number", pa.float64(), "abs", as_float(one)),
    ),
    "empty": Function("empty(text)", ("text",), _empty),
}
