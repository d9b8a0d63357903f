"""A small language of conditions, `lang == "de" and score > 0.3 and len(text) >= 20`: Python's
grammar, of which only comparisons, arithmetic and a few functions of columns are taken, worked out
a batch at a time by Arrow. Nothing is ever run as Python.

Null is what is not known, as in SQL: a comparison with it is unknown, `and` and `or` are unknown
where the known side does not decide, and so is a sum. NaN is null too.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pomona.data.filtering.values import (
    FUNCTIONS,
    NOTHING,
    Run,
    Value,
    absent,
    as_float,
    column,
    compared,
    constant,
    member,
    quotient,
    taken_as,
)
from pomona.errors import PomonaError, first_line, nearest
from pomona.records import ROLES, Records, is_chat, lists_in

LONGEST, DEEPEST, MOST = 10_000, 100, 2_000  # characters, levels, and parts of a condition
_EXAMPLE = (
    'write it like lang == "de" and score > 0.3 and len(text) >= 20, and columns of odd names like '
    'column("class")'
)
_SIGNS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_LITERAL = re.compile(r"""[rRuU]?("|')((?:\\.|(?!\1).)*)\1""", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """A condition that was read: what it says, the columns it looks at, and `test`, which gives
    for a batch of rows true, false, or null where it is unknown, bool `[n]`.
    """

    text: str
    columns: tuple[str, ...]
    _run: Run

    def test(self, rows: pa.RecordBatch) -> pa.BooleanArray:
        """What the condition is for each row. Raises PomonaError when Arrow cannot say."""
        try:
            found = self._run(rows)
        except pa.ArrowException as error:
            message = f"cannot be worked out: {first_line(error)}"
            raise PomonaError(message, where=f'the condition "{self.text}"') from error
        return found if isinstance(found, pa.Array) else pa.array([found.as_py()] * rows.num_rows)


def condition(text: str, records: Records) -> Condition:
    """Read a condition on the rows of `records`. Raises PomonaError with the character (from 1)
    of what is wrong: a sign or a word that has no place there, a column that is missing, values of
    kinds that do not go together.
    """
    reader = _Reader(re.sub(r"[\r\n\t]", " ", text.strip()), records)
    if "\0" in text or len(text) > LONGEST:
        wrong = "holds a NUL" if "\0" in text else f"has more than {LONGEST:,} characters"
        raise PomonaError(wrong, where=f'the condition "{text[:40]!a} …"', remedy=_EXAMPLE)
    value = reader.whole()
    if not reader.columns:
        raise reader.wrong(None, "names no column", _EXAMPLE)
    read = Condition(reader.text, tuple(reader.columns), value.run)
    read.test(pa.RecordBatch.from_pylist([], records.select(*reader.columns).schema))
    return read


class _Reader:
    """One condition while it is read."""

    def __init__(self, text: str, records: Records) -> None:
        self.text, self.records = text, records
        self.columns: dict[str, None] = {}

    def whole(self) -> Value:
        """The value of the whole text, which is a truth."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on escapes: patterns have them
                tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            at = getattr(error, "offset", None) or 1
            raise self.wrong(at, "cannot be read from there on", _EXAMPLE) from error
        self._bound(tree)
        return self._truth(tree)

    def wrong(self, at: ast.AST | int | None, message: str, remedy: str | None) -> PomonaError:
        """The error at a part of the text, or at a character (from 1)."""
        where = f'the condition "{self.text if len(self.text) <= 80 else self.text[:79] + "…"}"'
        if isinstance(at, ast.AST):
            before: int = at.col_offset  # type: ignore[attr-defined] (bytes)
            at = len(self.text.encode()[:before].decode()) + 1
        place = "" if at is None else f", character {at}"
        return PomonaError(message, where=f"{where}{place}", remedy=remedy)

    def _bound(self, tree: ast.AST) -> None:
        level: list[ast.AST] = [tree]
        parts = depth = 0
        while level:
            parts, depth = parts + len(level), depth + 1
            if parts > MOST or depth > DEEPEST:
                message = f"has more than {MOST:,} parts, or {DEEPEST} within one another"
                raise self.wrong(None, message, "give several conditions")
            level = [child for node in level for child in ast.iter_child_nodes(node)]

    def _truth(self, node: ast.expr) -> Value:
        value = taken_as(self._value(node), "truth")
        if value.kind != "truth":
            message = f"{self._named(node)} is a {value.kind}, not a condition"
            raise self.wrong(node, message, "compare it, for example with > or ==")
        return value

    def _number(self, node: ast.expr) -> Value:
        value = taken_as(self._value(node), "number")
        if value.kind != "number":
            message = f"{self._named(node)} is a {value.kind}, not a number"
            remedy = "number(…) reads text, null where it is none" if value.kind == "text" else None
            raise self.wrong(node, message, remedy or "use a column of numbers")
        return value

    def _value(self, node: ast.expr) -> Value:
        reading: Callable[[Any], Value] | None = _READING.get(type(node), lambda *_: None)(self)
        if reading is None:
            remedy = "use columns, numbers, quoted text, comparisons, arithmetic, and, or, not"
            raise self.wrong(node, f"{self._named(node)} has no place in a condition", remedy)
        return reading(node)

    def _named(self, node: ast.expr) -> str:
        text = ast.get_source_segment(self.text, node) or ""
        return f'"{text if len(text) <= 40 else text[:39] + "…"}"'

    def _constant(self, node: ast.Constant) -> Value:
        if not isinstance(node.value, str | int | float | bool | None):
            raise self.wrong(node, f"{self._named(node)} is no text, number or truth", _EXAMPLE)
        return constant(node.value)

    def _name(self, node: ast.Name) -> Value:
        known = self.records.column_names
        if node.id not in known and node.id.lower() in _WORDS:
            return constant(_WORDS[node.id.lower()])
        return self._column(node, node.id)

    def _column(self, node: ast.expr, name: str) -> Value:
        known = self.records.column_names
        if name not in known:
            where, message = self.records.source.where, f'there is no column "{name}"'
            raise self.wrong(node, f"{message} in {where}", nearest(name, known))
        self.columns[name] = None
        return column(name, self.records.schema.field(name).type)

    def _field(self, node: ast.Attribute | ast.Subscript) -> Value:
        of = self._value(node.value)
        if isinstance(node, ast.Attribute):
            name: Any = node.attr
        else:
            name = node.slice.value if isinstance(node.slice, ast.Constant) else None
        roles = ROLES if is_chat(of.type) else ()
        if name in roles and name not in [one.name for one in lists_in(of.type)]:
            return of.said(name)
        if roles and of.kind == "list":
            message = f'{self._named(node.value)} is a conversation, without "{name}"'
            raise self.wrong(node, message, nearest(str(name), roles))
        if of.kind != "struct" or not isinstance(name, str):
            message = f"{self._named(node.value)} is a {of.kind}, without parts of a name"
            raise self.wrong(node, message, 'columns of odd names are column("NAME")')
        names = [field.name for field in of.type]
        if name not in names:
            message = f'{self._named(node.value)} has no part "{name}"'
            raise self.wrong(node, message, nearest(name, [*names, *roles]))
        return of.part(name)

    def _all(self, node: ast.BoolOp) -> Value:
        sign = "and_kleene" if isinstance(node.op, ast.And) else "or_kleene"
        parts = [self._truth(part).run for part in node.values]

        def run(rows: pa.RecordBatch) -> Any:
            found = parts[0](rows)
            for part in parts[1:]:
                found = pc.call_function(sign, [found, part(rows)])
            return found

        return Value("truth", pa.bool_(), run)

    def _signed(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            return Value.of("truth", pa.bool_(), "invert", self._truth(node.operand))
        if not isinstance(node.op, ast.USub | ast.UAdd):
            raise self.wrong(node, "~ has no place in a condition", "write not")
        value = self._number(node.operand)
        if isinstance(node.op, ast.UAdd):
            return value
        if value.constant is not None:
            return constant(-value.constant)
        return Value.of("number", pa.float64(), "negate", as_float(value))

    def _sum(self, node: ast.BinOp) -> Value:
        if isinstance(node.op, ast.Div):
            return quotient(self._number(node.left), self._number(node.right))
        if type(node.op) not in _SIGNS:
            remedy = "use + - * /; columns of odd names, and, or, not are written out: "
            remedy += 'column("perplexity@ui-s") < 50 and len(text) > 20'
            raise self.wrong(node, f"the sign in {self._named(node)} is unknown", remedy)
        sides = [as_float(self._number(side)) for side in (node.left, node.right)]
        return Value.of("number", pa.float64(), _SIGNS[type(node.op)], *sides)

    def _compared(self, node: ast.Compare) -> Value:
        found: list[Value] = []
        left = node.left
        for sign, right in zip(node.ops, node.comparators, strict=True):
            found.append(self._pair(left, sign, right))
            left = right
        whole = found[0]
        for one in found[1:]:
            whole = Value.of("truth", pa.bool_(), "and_kleene", whole, one)
        return whole

    def _pair(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Value:
        if isinstance(sign, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Name | ast.Constant) and self._value(right).null):
                raise self.wrong(right, "is goes with None alone", "write == or !=")
            found = absent(self._value(left))
            return found if isinstance(sign, ast.Is) else found.inverted()
        if isinstance(sign, ast.In | ast.NotIn):
            found = self._within(left, right)
            return found if isinstance(sign, ast.In) else found.inverted()
        one, other = self._value(left), self._value(right)
        if one.null or other.null:
            node = left if one.null else right
            raise self.wrong(node, "nothing is equal to null", "write NAME is None")
        one = taken_as(one, "text" if other.kind == NOTHING else other.kind)
        found = compared(_SIGNS[type(sign)], one, taken_as(other, one.kind))
        if found is None:
            message = f"{self._named(left)} is a {one.kind} and {self._named(right)} a {other.kind}"
            known = {one.kind, other.kind} == {"text", "number"}
            remedy = "compare what is of one kind" + ("; number(…) reads text" if known else "")
            if {one.kind, other.kind} == {"text", "time"}:
                remedy = (
                    'write times like "2024-05-01", with a zone (T00:00:00Z) where the column has'
                )
            raise self.wrong(left, message, remedy)
        return found

    def _within(self, left: ast.expr, right: ast.expr) -> Value:
        one = self._value(left)
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            among = [self._value(item) for item in right.elts]
            one = taken_as(one, among[0].kind) if among else one
            for item, value in zip(right.elts, among, strict=True):
                if value.constant is None or value.kind != one.kind:
                    message = f"{self._named(item)} is not a {one.kind} as {self._named(left)} is"
                    raise self.wrong(item, message, "list values of that kind, written out")
            if one.kind in ("text", "number", "truth") and among:
                return member(one, [value.constant for value in among])
            wrong = f"no {one.kind} can be in it" if among else "there is nothing in it"
            raise self.wrong(right, wrong, 'write lang in ["de", "en"]')
        other = taken_as(self._value(right), "text")
        if other.kind != "text" or one.kind != "text" or one.constant is None:
            message = f"{self._named(left)} in {self._named(right)} is no question"
            remedy = 'write lang in ["de", "en"], or "part of it" in text'
            raise self.wrong(left, message, remedy)
        options = pc.MatchSubstringOptions(one.constant)
        return Value.of("truth", pa.bool_(), "match_substring", other, options=options)

    def _called(self, node: ast.Call) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name is None or node.keywords:
            remedy = "write a function of columns, such as startswith(text, "
            raise self.wrong(node, f"{self._named(node)} is no function", f'{remedy}"The")')
        if name == "column" and len(node.args) == 1:
            said = node.args[0]
            if isinstance(said, ast.Constant) and isinstance(said.value, str):
                return self._column(said, said.value)
            raise self.wrong(said, "is no name in quotes", 'write column("perplexity@ui-s")')
        if name not in FUNCTIONS:
            raise self.wrong(
                node, f'there is no function "{name}"', nearest(name, [*FUNCTIONS, "column"])
            )
        function = FUNCTIONS[name]
        given = [self._argument(name, place, part) for place, part in enumerate(node.args)]
        wanted = [kinds.removeprefix("fixed ").split()[0] for kinds in function.kinds]
        given = [*map(taken_as, given, wanted)] if len(given) == len(wanted) else given
        if (wrong := function.refuses(given)) is not None:
            raise self.wrong(node, f"{self._named(node)}: {wrong}", f"write {function.usage}")
        try:
            return function.make(*given)
        except pa.ArrowException as error:
            raise self.wrong(node, first_line(error), f"write {function.usage}") from error

    def _argument(self, name: str, place: int, node: ast.expr) -> Value:
        """A pattern is what stands between its quotes: in Python \\b would be a backspace."""
        if name == "matches" and place == 1 and isinstance(node, ast.Constant):
            said = _LITERAL.fullmatch(ast.get_source_segment(self.text, node) or "")
            return constant(said[2]) if said else self._constant(node)
        return self._value(node)


_READING: dict[type[ast.expr], Callable[[_Reader], Any]] = {
    ast.Constant: lambda reader: reader._constant,
    ast.Name: lambda reader: reader._name,
    ast.Attribute: lambda reader: reader._field,
    ast.Subscript: lambda reader: reader._field,
    ast.BoolOp: lambda reader: reader._all,
    ast.UnaryOp: lambda reader: reader._signed,
    ast.BinOp: lambda reader: reader._sum,
    ast.Compare: lambda reader: reader._compared,
    ast.Call: lambda reader: reader._called,
}
