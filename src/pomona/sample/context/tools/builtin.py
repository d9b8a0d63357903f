"""Two tools as examples: a calculator that runs no code, and a clock."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pomona.sample.context.tools.definition import Refused

_LONGEST = 200
_LARGEST = 1e100
_SIGNS = str.maketrans(
    {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": "", "€": "", "£": "", "=": ""}
)
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (math.sqrt, abs, round, min, max)
}


def calculator(expression: str) -> str:
    """Work out an expression of numbers, + - * / // % **, brackets, sqrt, abs, round, min and
    max.
    """
    if len(expression) > _LONGEST:
        length = len(expression)
        raise Refused(f"the expression has {length} characters, at most {_LONGEST} are taken")
    text = expression.replace("^", "**").translate(_SIGNS).strip()
    try:
        value = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise Refused(f'"{expression}" is not an expression of numbers') from error
    except (ArithmeticError, ValueError, TypeError) as error:
        raise Refused(f'"{expression}" cannot be worked out: {error}') from error
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def clock(zone: str = "UTC") -> str:
    """The date and time now in a time zone such as UTC or Europe/Berlin."""
    try:
        now = datetime.now(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Refused(f'there is no time zone "{zone}"') from error
    return now.strftime("%A %Y-%m-%d %H:%M:%S %Z")


def _value(node: ast.AST) -> int | float:
    """The value of a checked tree: numbers, signs, operators and a few functions; a SyntaxError for
    anything else.
    """
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _bounded(_BINARY[type(sign)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*map(_value, args)))
    raise SyntaxError("not a number")


def _power(base: float, exponent: float) -> int | float:
    if base and abs(exponent) * max(1.0, abs(math.log10(abs(base)))) > 100:
        raise OverflowError("the power is too large")
    return _bounded(base**exponent)


def _bounded(value: Any) -> int | float:
    if isinstance(value, complex) or not abs(value) <= _LARGEST:
        raise OverflowError("a number is too large")
    return value
