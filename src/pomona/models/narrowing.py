"""A JSON Schema as one that a grammar can hold answers to: one that says the same, one that allows
more, so that its answers are checked, and one that allows less, whose answers need no check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Any

from pomona.models.validity import Validity

Schema = dict[str, Any]
_TYPES = ("null", "boolean", "number", "string", "array", "object")
BOUNDS = {"minimum": 1, "exclusiveMinimum": 1, "maximum": -1, "exclusiveMaximum": -1}
_ABOUT = {  # what says nothing of values of another type
    "number": (*BOUNDS, "multipleOf"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "array": ("prefixItems", "items", "minItems", "maxItems", "uniqueItems", "contains",
              "minContains", "maxContains", "unevaluatedItems"),
    "object": ("properties", "patternProperties", "additionalProperties", "required",
               "minProperties", "maxProperties", "propertyNames", "dependentRequired",
               "dependentSchemas", "unevaluatedProperties"),
}  # fmt: skip
_LEAST = {"string": "minLength", "array": "minItems", "object": "minProperties"}
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
# No grammar has them; what is there of them after `simplified` is left out or narrowed.
_UNHELD = ("uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems",
           "propertyNames", "dependentRequired", "dependentSchemas", "unevaluatedProperties",
           "not", "if", "then", "else")  # fmt: skip
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains",
            "propertyNames", "unevaluatedItems", "unevaluatedProperties")  # fmt: skip
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas")
_HELD = frozenset({*_SCHEMAS[:2], *_LISTS, *_NAMED[:4]})  # in which less of one is less of all
_NAME = "[A-Za-z0-9_-]"
_PATTERNS = {  # of formats that no grammar knows, in part
    "json-pointer": f"^(/{_NAME}*)*$",
    "relative-json-pointer": f"^(0|[1-9][0-9]{{0,3}})(/{_NAME}*)*$",
    "regex": f"^{_NAME}*$",
    "uri-template": f"^({_NAME}*(/|\\{{{_NAME}+\\}})?)*$",
    "uri-reference": f"^(/{_NAME}*)*$",
    "iri-reference": f"^(/{_NAME}*)*$",
}
_ADDRESS = f"^https?://[a-z0-9-]+(\\.[a-z0-9-]+)*(/{_NAME}*)*$"
_KNOWN = ("date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid",
          "uri", "iri")  # fmt: skip
_NARROWER = {"idn-email": "email", "idn-hostname": "hostname"}
_ESCAPED = re.compile(r"(\\\\)|\\([^\x00-\x7f])")  # what needs none, and libraries refuse it
_GREAT, _SMALL = 10**15, 1e-9  # bounds beyond which the regular expressions of numbers fail
_FACTOR, _MANY = 10_000, 1 << 30
_SUBSETS, _LISTED = 256, 8
_REMARKS = {"title", "description", "default", "examples", "$comment", "deprecated", "readOnly",
            "writeOnly", "contentEncoding", "contentMediaType"}  # fmt: skip
_PLAIN = {"type", "items", "uniqueItems", "minItems", "maxItems", *_REMARKS, "$defs", "definitions"}


def simplified(schema: Any, *, referred: bool = True) -> Any:
    """The schema in the words of draft 2020-12, without what says nothing: unknown formats, `then`
    without `if`, what is about values of another type, and definitions that nobody has `referred`
    to.
    """
    if not isinstance(schema, Mapping):
        return schema
    given = _modern(schema) if referred else _without(_modern(schema), _NAMED[:2])
    node = {
        name: _each(name, inner, lambda one: simplified(one, referred=referred))
        for name, inner in given.items()
    }
    for name in _COUNTS:
        if isinstance(count := node.get(name), float) and count.is_integer():
            node[name] = int(count)
        if name.startswith("max") and node.get(name, 0) > _MANY:
            del node[name]
    if isinstance(pattern := node.get("pattern"), str):
        node["pattern"] = _unescaped(pattern)
    if isinstance(several := node.get("patternProperties"), Mapping):
        plain = {_unescaped(pattern): inner for pattern, inner in several.items()}
        node["patternProperties"] = plain if len(plain) == len(several) else several
    types = _numeric(node)
    for kind, names in _ABOUT.items():
        if kind not in types:
            node = _without(node, names)
    for step in (_format, _unique, _contained, _names, _dependent, _negated, _conditional):
        step(node)
    return False if "not" in node and _empty(node["not"]) else node


def widened(schema: Any) -> Any:
    """A simplified schema without what a grammar cannot hold: it allows more."""
    if not isinstance(schema, Mapping):
        return schema
    node = {name: _each(name, one, widened) for name, one in schema.items() if name not in _UNHELD}
    _written(node)
    if schema.get("uniqueItems") and (most := _variety(schema.get("items"))):
        most += len(node.get("prefixItems", []))
        node["maxItems"] = min(node.get("maxItems", most), most)
    if "oneOf" in node:
        parts = {"anyOf": node.pop("oneOf")}
        node = (
            {**node, "allOf": [*node.get("allOf", []), parts]} if "anyOf" in node else node | parts
        )
    return node if _countable(node) else _without(node, _ABOUT["number"])


def narrowed(schema: Any, validity: Validity) -> Any:
    """A simplified schema as one whose values all fulfil it, so far as one is found."""
    if not isinstance(schema, Mapping):
        return schema
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    kept = {name: schema[name] for name in _NAMED[:2] if name in schema}
    if isinstance(listed, list) and (values := [v for v in listed if validity.told(v, schema)]):
        return {**kept, "enum": values}
    node = dict(schema)
    _one_of(node, validity.schema)
    for step in (_written, _if_then, _distinct, _holding, _plain_names, _freed, _counted, _bounded):
        step(node)
    if node.get("format") in {"uri", "iri"}:
        _restrict(node, _ADDRESS)
    if "not" in node and (left := _types(node) - _numeric(node["not"])):
        node["type"] = sorted(left)
        del node["not"]
    for kind, names in _ABOUT.items():
        held = _countable(node) if kind == "number" else node.get(_LEAST[kind], 0) <= _MANY
        held = held and not any(name in node and name in _UNHELD for name in names)
        left = _types(node) - {kind, "integer" if kind == "number" else kind}
        if not held and left:
            node = _without(node, names)
            node["type"] = sorted(left)
    alone = "oneOf" not in node or disjoint(node["oneOf"], validity.schema)
    if not alone or not _countable(node) or any(name in node for name in _UNHELD):
        values = validity.values(schema)
        node = {**kept, "enum": values} if values else dict(schema)
    held = {name: inner for name, inner in node.items() if name in _HELD}
    return node | {
        n: _each(n, one, lambda part: narrowed(part, validity)) for n, one in held.items()
    }


def _each(name: str, inner: Any, change: Callable[[Any], Any]) -> Any:
    """A keyword's value with each schema in it changed."""
    if name in _NAMED and isinstance(inner, Mapping):
        return {key: change(one) for key, one in inner.items()}
    if name in _LISTS and isinstance(inner, list):
        return [change(one) for one in inner]
    return change(inner) if name in _SCHEMAS else inner


def _modern(schema: Mapping[str, Any]) -> Schema:
    """The keywords of older drafts as later ones write them, so that it names none of them."""
    node = _without(schema, ["$schema"])
    if isinstance(first := node.get("items"), list):
        node["prefixItems"], rest = first, node.pop("additionalItems", None)
        node.pop("items")
        if rest is not None:
            node["items"] = rest
    node.pop("additionalItems", None)
    for side in ("Minimum", "Maximum"):
        if isinstance(open_ := node.get(f"exclusive{side}"), bool):
            del node[f"exclusive{side}"]
            if open_ and side.lower() in node:
                node[f"exclusive{side}"] = node.pop(side.lower())
    if isinstance(dependencies := node.get("dependencies"), Mapping):
        del node["dependencies"]
        for name, needed in dependencies.items():
            kind = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
            node[kind] = {**node.get(kind, {}), name: needed}
    return node


def _unescaped(pattern: str) -> str:
    return _ESCAPED.sub(lambda found: found[1] or found[2], pattern)


def _without(node: Mapping[str, Any], names: Iterable[str]) -> Schema:
    left_out = set(names)
    return {name: inner for name, inner in node.items() if name not in left_out}


def _types(schema: Any) -> set[str]:
    """The types that values of a schema may have, and perhaps fewer have."""
    if not isinstance(schema, Mapping):
        return set() if schema is False else set(_TYPES)
    types: set[str] = set(_TYPES)
    if isinstance(given := schema.get("type", list(_TYPES)), str | list):
        types = (
            {given} if isinstance(given, str) else {one for one in given if isinstance(one, str)}
        )
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        had = {_type(value) for value in values}
        types = {one for one in types if one in had or (one == "integer" and "number" in had)}
    return types


def _type(value: Any) -> str:
    kinds = {type(None): "null", bool: "boolean", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "number")


def _empty(schema: Any) -> bool:
    """Whether everything fulfils a schema, by its first look."""
    return schema is True or (isinstance(schema, Mapping) and set(schema) <= _REMARKS)


def _restrict(node: Schema, pattern: str) -> None:
    """A pattern for a format."""
    del node["format"]
    if "pattern" in node:
        node["allOf"] = [*node.get("allOf", []), {"pattern": pattern}]
    else:
        node["pattern"] = pattern


def _format(node: Schema) -> None:
    """A format that no specification has says nothing."""
    if "format" in node and node["format"] not in {*_KNOWN, *_NARROWER, *_PATTERNS}:
        del node["format"]


def _written(node: Schema) -> None:
    """Of formats that no grammar knows a part."""
    name = node.get("format")
    if name in _NARROWER:
        node["format"] = _NARROWER[name]
    elif name in _PATTERNS:
        _restrict(node, _PATTERNS[name])


def _unique(node: Schema) -> None:
    if node.get("uniqueItems") is False or (node.get("maxItems", 2) in (0, 1)):
        node.pop("uniqueItems", None)


def _contained(node: Schema) -> None:
    """`contains` of anything counts items, and of none or nothing says nothing."""
    if "contains" not in node or (node.get("minContains") == 0 and "maxContains" not in node):
        for name in ("contains", "minContains", "maxContains"):
            node.pop(name, None)
    elif _empty(node["contains"]):
        del node["contains"]
        least, most = node.pop("minContains", 1), node.pop("maxContains", None)
        node["minItems"] = max(least, node.get("minItems", 0))
        if most is not None:
            node["maxItems"] = min(most, node.get("maxItems", most))


def _names(node: Schema) -> None:
    """Names of an object's properties that are listed, or of a pattern, where nothing else is said
    of them.
    """
    rule, value = node.get("propertyNames"), node.get("additionalProperties", True)
    if _empty(rule):
        del node["propertyNames"]
    if not isinstance(rule, Mapping) or set(node) & {"properties", "patternProperties"}:
        return
    match _without(rule, [*_REMARKS, *["type"] * (rule.get("type") == "string")]):
        case {"enum": list(names), **other} if not other:
            node["properties"] = {name: value for name in names if isinstance(name, str)}
        case {"pattern": str(pattern), **other} if not other:
            node["patternProperties"] = {pattern: value}
        case _:
            return
    del node["propertyNames"]
    node["additionalProperties"] = False


def _dependent(node: Schema) -> None:
    """What depends on a property that is required is required."""
    required = node.get("required")
    required = list(required) if isinstance(required, list) else []
    rules, schemas = node.get("dependentRequired", {}), node.get("dependentSchemas", {})
    if isinstance(rules, Mapping):
        for name in (name for name in required if isinstance(rules.get(name), list)):
            required += [more for more in rules[name] if more not in required]
            node["required"] = required
        _keep(
            node, "dependentRequired", {k: v for k, v in rules.items() if k not in required and v}
        )
    if isinstance(schemas, Mapping):
        for name in required:
            if name in schemas:
                node["allOf"] = [*node.get("allOf", []), schemas[name]]
        kept = {k: v for k, v in schemas.items() if k not in required and not _empty(v)}
        _keep(node, "dependentSchemas", kept)


def _keep(node: Schema, name: str, inner: Mapping[str, Any]) -> None:
    node.pop(name, None)
    if inner:
        node[name] = dict(inner)


def _negated(node: Schema) -> None:
    """`not` of nothing, or of types alone."""
    denied = node.get("not", None)
    if denied is False:
        del node["not"]
    elif isinstance(denied, Mapping) and set(denied) == {"type"}:
        less = _types(denied) | ({"integer"} if "number" in _types(denied) else set())
        if "integer" not in less or "number" in less or "number" not in _types(node):
            node["type"] = sorted(_types(node) - less)
            del node["not"]


def _conditional(node: Schema) -> None:
    """`then` and `else` say nothing without `if`, and one of them where that is certain."""
    rule = node.get("if")
    if rule is not None and rule is not False and not _empty(rule):
        if "then" not in node and "else" not in node:
            del node["if"]
        return
    node.pop("if", None)
    branches = {True: node.pop("then", True), False: node.pop("else", True)}
    if rule is not None and (taken := branches[rule is not False]) is not True:
        node["allOf"] = [*node.get("allOf", []), taken]


def _numeric(schema: Any) -> set[str]:
    """The types of a schema's values, integers with all numbers."""
    types = _types(schema)
    return types | {"integer", "number"} if types & {"integer", "number"} else types


def disjoint(parts: Sequence[Any], root: Mapping[str, Any]) -> bool:
    """Whether no value can fulfil two of these: by their types, or as objects with a required
    property that is another text in each.
    """
    types = [_numeric(part) for part in parts]
    if sum(map(len, types)) == len(set().union(*types)):
        return True
    known = [_marks(part, root) for part in parts]
    shared = set.intersection(*map(set, known)) if known else set()
    return any(len({marks[name] for marks in known}) == len(known) for name in shared)


def _marks(part: Any, root: Mapping[str, Any]) -> dict[str, str]:
    """The required properties of an object that have but one text."""
    if isinstance(part, Mapping) and isinstance(reference := part.get("$ref"), str):
        kind, _, name = reference.removeprefix("#/").partition("/")
        part = root.get(kind, {}).get(name) if kind in _NAMED[:2] else None
    match part:
        case {"type": "object", "properties": dict(named), "required": list(required)}:
            found = {name: named[name] for name in named if name in required}
            return {name: text for name, one in found.items() if (text := _only(one)) is not None}
    return {}


def _only(schema: Any) -> str | None:
    match schema:
        case {"const": str(text)} | {"enum": [str(text)]}:
            return text
    return None


def _one_of(node: Schema, root: Mapping[str, Any]) -> None:
    """Of parts that may overlap what no other can have, by type."""
    several = node.get("oneOf")
    if not isinstance(several, list) or "anyOf" in node or disjoint(several, root):
        return
    parts = []
    for at, part in enumerate(several):
        others = (_numeric(one) for place, one in enumerate(several) if place != at)
        if left := _types(part).difference(*others):
            parts.append({**(part if isinstance(part, Mapping) else {}), "type": sorted(left)})
    if parts:
        del node["oneOf"]
        node["anyOf"] = parts


def _if_then(node: Schema) -> None:
    """What is asked for where the condition holds."""
    if "if" in node:
        both = [node.pop("if"), node.pop("then", True)]
        node.pop("else", None)
        node["allOf"] = [*node.get("allOf", []), *both]


def _variety(schema: Any) -> int:
    """How many values a schema has at most, 0 where that is not known."""
    kinds = {"null": 1, "boolean": 2}
    match schema:
        case {"enum": list(values)}:
            return len(values)
        case {"type": str(kind)}:
            return kinds.get(kind, 0)
    return 0


def _distinct(node: Schema) -> None:
    """Arrays of different items: some of those listed, in their order, or one at most."""
    if not node.get("uniqueItems"):
        return
    least, most = node.get("minItems", 0), node.get("maxItems", _SUBSETS)
    match node:
        case {"type": "array", "items": {"enum": list(values), **other}} if (
            set(other) | set(node) <= _PLAIN and len(values) <= _LISTED
        ):
            values = list({json.dumps(value): value for value in values}.values())
            lengths = range(least, min(most, len(values)) + 1)
            some = [list(part) for size in lengths for part in combinations(values, size)]
            kept = {name: node[name] for name in _NAMED[:2] if name in node}
            node.clear()
            node.update(kept, enum=some)
        case _ if least <= 1:
            del node["uniqueItems"]
            node["maxItems"] = min(most, 1)


def _holding(node: Schema) -> None:
    """The first item is the one that an array must have."""
    if "contains" in node and node.get("minContains", 1) == 1 and "maxContains" not in node:
        first = [*node.get("prefixItems", []), node.get("items", True)][0]
        node["prefixItems"] = [
            {"allOf": [node.pop("contains"), first]}, *node.get("prefixItems", [])[1:]
        ]  # fmt: skip
        node["minItems"] = max(1, node.get("minItems", 1))
        node.pop("minContains", None)


def _plain_names(node: Schema) -> None:
    """No properties but those whose names are as they must be."""
    rule = node.get("propertyNames")
    if rule is not None and "patternProperties" not in node:
        validity, named = Validity(rule), node.get("properties", {})
        node["properties"] = {name: one for name, one in named.items() if validity.told(name)}
        node["additionalProperties"] = False
        del node["propertyNames"]


def _freed(node: Schema) -> None:
    """No property on which others depend."""
    triggers = [*node.pop("dependentRequired", {}), *node.pop("dependentSchemas", {})]
    if triggers:
        node["properties"] = {**node.get("properties", {}), **dict.fromkeys(triggers, False)}


def _counted(node: Schema) -> None:
    """A number of properties: so many of those that are named."""
    named = node.get("properties")
    least, most = node.get("minProperties", 0), node.get("maxProperties")
    if not named or "patternProperties" in node or (not least and most is None):
        return
    needed = list(node.get("required", []))
    others = [name for name, one in named.items() if one is not False and name not in needed]
    needed += others[: max(0, least - len(needed))]
    if len(needed) >= least and all(name in named for name in needed):
        node["properties"] = {name: named[name] for name in needed}
        node["required"], node["additionalProperties"] = needed, False


def _bounded(node: Schema) -> None:
    """Bounds as a grammar can have them."""
    for name, sign in BOUNDS.items():
        if not isinstance(bound := node.get(name), int | float):
            continue
        inner = sign * bound  # as of a lower bound
        if inner < -_GREAT:
            node[name] = sign * -_GREAT
        elif -_SMALL < inner < _SMALL and inner:
            node[name] = sign * (_SMALL if inner > 0 else 0)


def _countable(node: Mapping[str, Any]) -> bool:
    """Whether a grammar can hold to the factor and the bounds of a number."""
    bounds = ((sign, node.get(name)) for name, sign in BOUNDS.items())
    return divides(node) and not any(
        isinstance(bound, int | float) and sign * bound > _GREAT for sign, bound in bounds
    )


def written_as(value: Any) -> bool:
    """Whether a grammar writes a value as it is: its numbers are doubles, in decimals."""
    if isinstance(value, dict | list):
        return all(map(written_as, value.values() if isinstance(value, dict) else value))
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value // 1:
        return True
    try:
        return int(Decimal(repr(float(value)))) == int(value)
    except OverflowError:
        return False


def divides(schema: Mapping[str, Any]) -> bool:
    """Whether a grammar can hold to the factor of a number: it has a state for each remainder."""
    factor = schema.get("multipleOf")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or factor <= 0:
        return True
    _, digits, exponent = Decimal(repr(factor)).normalize().as_tuple()
    whole = int("".join(map(str, digits))) * 10 ** max(0, int(exponent))
    return whole <= _FACTOR and int(exponent) >= -9
