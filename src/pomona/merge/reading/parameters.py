"""The merge methods and their parameters as mergekit 0.1.5 has them: names, defaults, demands on
the models; and the value of a parameter for one tensor: filters, gradients, who overrides whom.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from typing import Any, Literal

from pomona.errors import PomonaError, nearest

Kind = Literal["number", "count", "flag", "rescale", "scope"]
# one value, one for every model with the base, one for every model but the base
Per = Literal["merge", "model", "expert"]
REQUIRED: Any = object()


@dataclass(frozen=True)
class Parameter:
    """A parameter: the kind of its values, its default (REQUIRED without one), and what it has one
    value for.
    """

    name: str
    kind: Kind
    default: Any = REQUIRED
    per: Per = "merge"
    effect: bool = True  # False for what is accepted and changes nothing


@dataclass(frozen=True)
class Method:
    """A method. `least` and `most` count all models of a tensor, `experts` the least and most
    without the base.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    base: Literal["ignored", "optional", "required"] = "ignored"
    least: int = 1
    most: int | None = None
    experts: tuple[int, int | None] = (0, None)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter called `name`, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


def _vectors(
    name: str, *more: Parameter, normalize: bool = False, rescale: bool = False, sparse: bool = True
) -> Method:
    """A method on task vectors: base + λ · the (sparse, signed) weighted sum of θ − base."""
    own = [Parameter("scope", "scope", "tensor")] if name == "ties" else []
    return Method(
        name,
        (
            Parameter("weight", "number", per="expert"),
            Parameter("density", "number", 1.0, per="expert", effect=sparse),
            *more,
            Parameter("lambda", "number", 1.0),
            Parameter("normalize", "flag", normalize),
            Parameter("rescale", "rescale", rescale, effect=sparse),
            Parameter("int8_mask", "flag", False, effect=False),
            *own,
        ),
        base="required",
    )


_GAMMA = Parameter("gamma", "number", 0.01, per="expert")
_EPSILON = Parameter("epsilon", "number", 0.15, per="expert")
_WEIGHT = Parameter("weight", "number", per="expert")
_ALL = (
    Method(
        "linear", (Parameter("weight", "number", per="model"), Parameter("normalize", "flag", True))
    ),
    Method("passthrough", (Parameter("scale", "number", None, per="model"),), most=1),
    Method("slerp", (Parameter("t", "number"),), base="required", least=2, most=2),
    Method(
        "nuslerp",
        (
            _WEIGHT,
            Parameter("nuslerp_row_wise", "flag", False),
            Parameter("nuslerp_flatten", "flag", True),
        ),
        base="optional",
        experts=(2, 2),
    ),
    Method(
        "multislerp",
        (_WEIGHT, Parameter("normalize_weights", "flag", True), Parameter("eps", "number", 1e-8)),
        base="optional",
        experts=(1, None),
    ),
    Method("model_stock", (Parameter("filter_wise", "flag", False),), base="required", least=3),
    _vectors("task_arithmetic", sparse=False),
    _vectors("ties", normalize=True),
    _vectors("dare_ties", rescale=True),
    _vectors("dare_linear", rescale=True),
    _vectors("della", _EPSILON, normalize=True, rescale=True),
    _vectors("della_linear", _EPSILON, rescale=True),
    _vectors("breadcrumbs", _GAMMA),
    _vectors("breadcrumbs_ties", _GAMMA),
    Method("karcher", (Parameter("max_iter", "count", 10), Parameter("tol", "number", 1e-5))),
    Method("nearswap", (Parameter("t", "number"),), base="required", least=2, most=2),
    Method("arcee_fusion", base="required", least=2, most=2),
    Method(
        "sce",
        (
            Parameter("int8_mask", "flag", False, effect=False),
            Parameter("select_topk", "number", 1.0),
        ),
        base="required",
    ),
    Method("ram", (Parameter("epsilon", "number", 1e-5),), base="required"),
    Method(
        "ramplus_tl",
        (
            Parameter("r", "number", 0.1),
            Parameter("alpha", "number", 0.2),
            Parameter("epsilon", "number", 1e-5),
        ),
        base="required",
    ),
)
METHODS = {method.name: method for method in _ALL}
# what recipes hold under "parameters" and mergekit passes over
RETIRED = frozenset({"embed_slerp", "dtype"})


@cache
def known_parameters() -> frozenset[str]:
    """The names of every method's parameters, and those that have no effect anywhere."""
    return frozenset(parameter.name for method in _ALL for parameter in method.parameters) | RETIRED


def method_of(name: str) -> Method:
    """The method called `name`. Raises PomonaError when there is none."""
    if name not in METHODS:
        raise PomonaError(
            f'unknown merge_method "{name}"',
            where="merge_method",
            remedy=nearest(name.lower(), METHODS),
        )
    return METHODS[name]


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
    return _regular(text[3:]) if text.startswith("re:") else re.compile(translate(text))


def _regular(text: str) -> re.Pattern[str]:
    """A user's regular expression. Raises re.error also for one that Python warns of, since it
    will mean something else some day.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        try:
            return re.compile(text)
        except FutureWarning as warning:
            raise re.error(str(warning)) from None


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


_WILD = re.compile(r"[*?]")


@dataclass(frozen=True)
class RenamingPattern:
    """How names change that fit a pattern. A glob takes the whole name, and each `*` of the
    replacement is what the star of the same place stood for; a regular expression (`re:…`) is
    searched for, what it found is replaced, and `\\1` is its first group.
    """

    found: re.Pattern[str]
    replacement: str

    def applied(self, name: str) -> str | None:
        """The new name, or None where the pattern does not fit."""
        new, count = self.found.subn(self.replacement, name, count=1)
        return new if count else None


def pattern_of(key: str, value: str) -> RenamingPattern | None:
    """The pattern that a key of a map is, or None for a prefix. Raises ValueError for one that says
    nothing: no regular expression, a group or a star of the replacement that it has not.
    """
    if key.startswith("re:"):
        return RenamingPattern(_compiled(key[3:], value), value)
    if not _WILD.search(key):
        if "*" in value:
            raise ValueError(f'"{value}" has a "*", and the prefix "{key}" has none')
        return None
    if value.count("*") > key.count("*"):
        raise ValueError(f'"{value}" has more "*" than "{key}"')
    text = "".join(
        {"*": "(.*)", "?": "."}.get(part) or re.escape(part) for part in re.split(r"([*?])", key)
    )
    stars = iter(range(1, value.count("*") + 1))
    parts = re.split(r"(\*)", value.replace("\\", r"\\"))
    replacement = "".join(rf"\g<{next(stars)}>" if part == "*" else part for part in parts)
    return RenamingPattern(_compiled(rf"\A{text}\Z", replacement), replacement)


def _compiled(text: str, replacement: str) -> re.Pattern[str]:
    try:
        found = _regular(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f'"{text}" is no regular expression: {error}') from None
    try:
        found.sub(replacement, "")
    except (re.error, IndexError) as error:
        raise ValueError(f'"{replacement}" does not fit "{text}": {error}') from None
    return found
