"""The value of a recipe's parameter for one tensor: filters, gradients over layers, and who
overrides whom.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from typing import Any

from pomona.merge.reading.spec import Kind, Parameter

Scalar = bool | int | float | str
_YES = {"1", "on", "t", "true", "y", "yes"}
_NO = {"0", "off", "f", "false", "n", "no"}
_WORDS = {"rescale": ("expected", "l1"), "scope": ("tensor", "global")}


@dataclass(frozen=True)
class Condition:
    """A value, or a gradient, for the tensors that `filter` matches; all of them without a
    filter.
    """

    filter: str | None
    value: Scalar | tuple[Scalar, ...]


Setting = Scalar | tuple[Scalar, ...] | tuple[Condition, ...]
Settings = Mapping[str, Setting]


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text[3:]) if text.startswith("re:") else re.compile(translate(text))


def matches(rule: str | None, name: str) -> bool:
    """Whether a filter takes the tensor `name`.

    mergekit's rule: no filter and "*" take all, other text takes the names it is a part of. Beyond
    it, text with `*`, `?` or `[` is a glob for the whole name, and `re:` begins a regular
    expression searched for in the name.
    """
    if rule is None or rule == "*":
        return True
    if rule.startswith("re:"):
        return _pattern(rule).search(name) is not None
    if is_glob(rule):
        return _pattern(rule).match(name) is not None
    return rule in name


def is_glob(rule: str) -> bool:
    """Whether a filter is a glob for whole names."""
    return rule != "*" and not rule.startswith("re:") and any(sign in rule for sign in "*?[")


def convert(value: Scalar, kind: Kind) -> Scalar:
    """`value` as its kind has it: "1e-3" becomes a number and 1 a flag, as in mergekit. Raises
    ValueError saying what was expected.
    """
    if kind == "flag":
        return _flag(value)
    if kind in _WORDS:
        return _word(value, kind)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f'expected a number, found "{value}"') from None
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, found {value}")
    if kind == "count":
        if value != int(value):
            raise ValueError(f"expected a whole number, found {value}")
        return int(value)
    return float(value)


def _flag(value: Scalar) -> bool:
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value).lower()
    if text in _YES or text in _NO:
        return text in _YES
    raise ValueError(f"expected true or false, found {value!r}")


def _word(value: Scalar, kind: Kind) -> Scalar:
    if isinstance(value, str) and value in _WORDS[kind]:
        return value
    if kind == "rescale":
        try:
            return _flag(value)
        except ValueError:
            raise ValueError(f"expected true, false, expected or l1, found {value!r}") from None
    raise ValueError(f"expected {' or '.join(_WORDS[kind])}, found {value!r}")


def evaluate(setting: Setting, kind: Kind, name: str, t: float) -> Scalar | None:
    """The value of a setting for the tensor `name` at depth `t` of its slice (0 first layer, 1
    last); None when no filter takes the name.

    Numbers of a gradient are interpolated between their neighbours; flags and words step from one
    to the next, the last one at t = 1 only.
    """
    if not isinstance(setting, tuple):
        return convert(setting, kind)
    if not setting:
        return None
    if isinstance(setting[0], Condition):
        for condition in setting:
            if isinstance(condition, Condition) and matches(condition.filter, name):
                return evaluate(condition.value, kind, name, t)
        return None
    values = [convert(value, kind) for value in setting if not isinstance(value, Condition)]
    place = t * (len(values) - 1)
    low = int(place)
    if kind not in ("number", "count"):
        return values[low]
    first, second = float(values[low]), float(values[min(low + 1, len(values) - 1)])
    part = place - low
    return convert((1 - part) * first + part * second, kind)


def resolve(parameter: Parameter, scopes: Iterable[Settings], name: str, t: float) -> Any:
    """The value of the first scope that has one for the tensor, or the default; REQUIRED when there
    is neither.
    """
    for scope in scopes:
        if parameter.name in scope:
            value = evaluate(scope[parameter.name], parameter.kind, name, t)
            if value is not None:
                return value
    return parameter.default


def check_filter(rule: str) -> str | None:
    """What is wrong with a filter's text, or None."""
    try:
        _pattern(rule if rule.startswith("re:") else "*")
    except re.error as error:
        return f'"{rule}" is not a regular expression: {error}'
    return None
