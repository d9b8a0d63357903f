"""Whether a value fulfils a JSON Schema, by `jsonschema`, and values that do."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from typing import Any

_TRIED, _FOUND, _DEEPEST, _LONGEST, _MOST = 400, 16, 4, 64, 4000
_SIMPLE: tuple[Any, ...] = ("", "a", 0, 1, True, None, [], {}, -1, 0.5, 10, False, "0", [0], [None])
_INSIDE = ("if", "then", "else", "not", "contains")
_SAME = ("if", "then", "else", "not")  # schemas of the same value
_SEVERAL = ("allOf", "anyOf", "oneOf")


class Validity:
    """What fulfils a schema and those in it, as draft 2020-12 has it. Patterns are read by RE2,
    which takes time in proportion to a text; `format` says nothing.
    """

    def __init__(self, schema: Any) -> None:
        from referencing import Registry

        self.schema: Any = schema if isinstance(schema, Mapping) else {}
        self._checks = _kind()(schema, registry=Registry())
        self._left = _MOST
        text = json.dumps(schema)  # both together take Python's own patterns, which may never end
        self._mixed = '"unevaluatedProperties"' in text and '"patternProperties"' in text

    def told(self, value: Any, inner: Any = None) -> bool | None:
        """Whether a value fulfils the schema, or one in it; None where nothing can tell."""
        try:
            checks = self._checks if inner is None else self._checks.evolve(schema=inner)
            return None if self._mixed else checks.is_valid(value)
        except BaseException as failure:
            # A schema that is none, a reference to nothing, a pattern of no kind; and what recurses
            # too deep ends in the Rust library as an exception that no `except Exception` sees.
            if not isinstance(failure, Exception) and type(failure).__name__ != "PanicException":
                raise
            return None

    @property
    def tells(self) -> bool:
        """Whether it is a schema by which can be told of simple values."""
        if _endless(self.schema):
            return False
        try:
            self._checks.check_schema(self._checks.schema)
        except Exception:  # a regular expression of its own may fail too
            return False
        return all(self.told(value) is not None for value in _SIMPLE)

    def values(self, inner: Any, level: int = 0) -> list[Any]:
        """Some values that fulfil a schema in this one, the simplest first: none where none is
        found, which says nothing.
        """
        found: dict[str, Any] = {}
        for value in islice(self._tried(inner, level), _TRIED):
            self._left -= 1
            if len(found) == _FOUND or self._left < 0:
                break
            with suppress(ValueError):  # it is no number
                text = json.dumps(value, sort_keys=True, allow_nan=False)
                if text not in found and self.told(value, inner):
                    found[text] = value
        return list(found.values())

    def _tried(self, schema: Any, level: int) -> Iterator[Any]:
        if not isinstance(schema, Mapping):
            yield from _SIMPLE
            return
        for name in ("const", "default"):
            if name in schema:
                yield schema[name]
        for name in ("enum", "examples"):
            if isinstance(several := schema.get(name), list):
                yield from several
        if level < _DEEPEST:
            yield from _composed(self, schema, level + 1)
        yield from _numbers(schema)
        if isinstance(least := schema.get("minLength"), int) and least <= 10 * _LONGEST:
            yield "a" * least
        yield from _SIMPLE
        if level < _DEEPEST:
            parts = [schema[name] for name in _INSIDE if name in schema]
            for name in _SEVERAL:
                parts += schema[name] if isinstance(schema.get(name), list) else []
            for part in parts:
                yield from islice(self._tried(part, level + 1), _LONGEST)


def _composed(among: Validity, schema: Mapping[str, Any], level: int) -> Iterator[Any]:
    """Objects with what is required, and arrays as long as they must be."""
    named, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    if isinstance(required := schema.get("required"), list) and len(required) <= _LONGEST:
        some = {name: among.values(named.get(name, rest), level) for name in required}
        for at in range(_FOUND if some and all(some.values()) else not some):
            yield {name: values[min(at, len(values) - 1)] for name, values in some.items()}
    first, rest = schema.get("prefixItems", []), schema.get("items", True)
    more = schema.get("minContains", 1) if "contains" in schema else 1
    least = max(schema.get("minItems", 1), more, 1)
    if least <= _LONGEST:
        parts = [*first, *[rest] * least][:least]
        if "contains" in schema:
            had = [{"allOf": [schema["contains"], part]} for part in parts[:more]]
            yield _array(among, [*had, *parts[more:]], level)
        yield _array(among, parts, level)


def _array(among: Validity, parts: Sequence[Any], level: int) -> list[Any]:
    """An array of such items, no two of them equal where that can be had."""
    known: dict[str, list[Any]] = {}
    array: list[Any] = []
    for part in parts:
        text = json.dumps(part)
        values = known.get(text) or known.setdefault(text, among.values(part, level))
        array.append(next((one for one in values if one not in array), (values or [None])[0]))
    return array


def _numbers(schema: Mapping[str, Any]) -> Iterator[float]:
    low, high = (
        next((schema[name] for name in names if _number(schema.get(name))), None)
        for names in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
    )
    for end in (low, high):
        if end is not None:
            yield from (end, end + 1, end - 1, end * 2, end / 2)
    if low is not None and high is not None:
        yield from ((low + high) / 2, (low + high) // 2)
    step = schema.get("multipleOf", 0)
    if _number(step) and step > 0:
        for end in (low or 0, high or 0):
            if math.isfinite(times := end / step):
                yield from (step * (math.floor(times) + more) for more in range(-1, 3))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _references(schema: Any) -> Iterator[str]:
    """The references of a schema and of all in it."""
    if isinstance(schema, Mapping) and isinstance(found := schema.get("$ref"), str):
        yield found
    inner = schema.values() if isinstance(schema, Mapping) else schema
    if isinstance(schema, Mapping | list):
        yield from (found for one in inner for found in _references(one))


def _endless(root: Any) -> bool:
    """Whether a reference leads back to itself at the same value."""
    left: dict[str, set[str]] = {}
    todo = set(_references(root))
    while todo:
        reference = todo.pop()
        left[reference] = set(_beside(root, reference))
        todo |= left[reference] - left.keys()
    while left:
        ended = [one for one, further in left.items() if not further & left.keys()]
        if not ended:
            return True
        for one in ended:
            del left[one]
    return False


def _beside(root: Any, reference: str) -> Iterator[str]:
    """The references that a schema with this name has for the same value."""
    target: Any = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        target = target.get(name) if isinstance(target, Mapping) else None
    nodes = [target]
    for node in nodes:
        if isinstance(node, Mapping):
            nodes += [node[name] for name in _SAME if name in node]
            for name in _SEVERAL:
                nodes += node[name] if isinstance(node.get(name), list) else []
            if isinstance(found := node.get("$ref"), str):
                yield found


def follows(text: str, schema: Any) -> bool:
    """Whether the text of an answer is JSON, and what its schema asks for as far as that can be
    told: JSON alone without `jsonschema`, and where a pattern is one that RE2 cannot read.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    validity = validity_of(schema)
    return validity is None or validity.told(value) is not False


def validity_of(schema: Any) -> Validity | None:
    """What checks values by a schema; None where nothing does."""
    return _validity(json.dumps(schema))


@lru_cache(64)
def _validity(text: str) -> Validity | None:
    return None if find_spec("jsonschema") is None else Validity(json.loads(text))


@lru_cache(1)
def _kind() -> Any:
    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not matches(wanted, value):
            yield ValidationError("")

    def by_pattern(checks: Any, some: Any, value: Any, _: Any) -> Iterator[ValidationError]:
        for name, inner in value.items() if isinstance(value, dict) else ():
            for wanted, schema in some.items():
                if matches(wanted, name):
                    yield from checks.descend(inner, schema)

    def additional(checks: Any, rest: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        for name, inner in value.items() if isinstance(value, dict) else ():
            known = name in schema.get("properties", ())
            if not known and not any(
                matches(one, name) for one in schema.get("patternProperties", ())
            ):
                yield from checks.descend(inner, rest)

    own = {"pattern": pattern, "patternProperties": by_pattern, "additionalProperties": additional}
    return validators.extend(Draft202012Validator, own)


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern is found in a text, by RE2. A ValueError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    search = pc.match_substring_regex  # pyright: ignore[reportAttributeAccessIssue]
    return search(pa.array([text]), pattern=pattern)[0].as_py()
