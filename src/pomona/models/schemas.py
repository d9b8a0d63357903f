"""What holds an answer to a JSON Schema or to the call of a function: a grammar in the language of
llguidance, which rows of torch and llama.cpp follow alike, and what of a schema cannot be followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from pomona.models.narrowing import (
    BOUNDS,
    disjoint,
    divides,
    narrowed,
    simplified,
    widened,
    written_as,
)
from pomona.models.request import ModelError, Reply, Request, content_of, wrong_request
from pomona.models.validity import validity_of

Check = Callable[[str], str]  # from a grammar to why it cannot be followed, "" where it can
Calls = tuple[Mapping[str, Any], ...]
UNSUPPORTED = "unsupported_schema"  # the code of what is refused
NO_ANSWER = "it leads back to itself, or leaves too much open at once"
_HEAD = "%llguidance {}\n"
_OPTIONS = "x-guidance"
# As `json.dumps` writes: where blanks are free, a weak model writes them for ever.
_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_BEFORE, _AFTER = "<tool_call>\n", "\n</tool_call>"
_CALL = re.compile(r'(?:<tool_call>\n)?\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')
_DIGITS = re.compile(r"-?\d[\d.]*\Z")
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_LONGEST, _DEEPEST, _MOST = 120_000, 64, 2000  # characters, levels, schemas in a schema
_MOST_TRIES = 400
_NEAR_ZERO = 1e-9  # the least bound that the regular expressions of numbers hold
_MALFORMED = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)
_NOTHING = "Unsatisfiable schema: "
_ONE = ("items", "additionalProperties")
_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_NAMED = ("$defs", "definitions", "properties", "patternProperties")
_PLACE = re.compile(r"^(?:at \d+\(\d+\): )?(?:failed to compile JSON schema: )?")
_KEYS = re.compile(r'Unimplemented keys: \["([^"]+)"')
_ELSEWHERE = re.compile("^Resource '.*' is not present|^Pointer '.*' does not exist")
_LOOKS = re.compile(r"\(\?<?[=!]|(?<!\\)(?:\\\\)*\\[bB]")
_ONE_OF = (
    '"oneOf" can be held to only where its parts differ by type, or by a required property that is '
    "another const in each"
)


@dataclass(frozen=True)
class Hold:
    """What holds an answer to its schemas, by the names of functions, or "": the grammar that it
    follows. Where that allows more than they do, `narrower` is one that allows no more.
    """

    grammar: str
    narrower: str = ""
    schemas: Mapping[str, Any] = field(default_factory=dict)

    def kept(self, reply: Reply, *, narrow: bool = False) -> bool:
        """Whether an answer fulfils its schema, or was cut before that can be told: also within a
        number, where it followed the `narrow` grammar to its limit.
        """
        if narrow and reply.finish_reason == "length" and _DIGITS.match(reply.text):
            return True
        texts = [(reply.text, self.schemas.get(""))]
        if reply.tool_calls:
            functions = [call["function"] for call in reply.tool_calls]
            texts = [(one["arguments"], self.schemas.get(one["name"])) for one in functions]
        return not self.narrower or all(_fulfils(*each) for each in texts)


def hold_of(request: Request, check: Check, *, tagged: bool) -> Hold | None:
    """What the answer to a request must follow, None where it is free. A ModelError of status 400
    names the keyword that cannot be followed, and its place; it may take a second.

    tagged: whether a call stands in the tags that most templates which know tools teach.
    """
    if request.must_call:
        named = {tool["function"]["name"]: tool["function"] for tool in _functions(request)}
        absent = [name for name in request.must_call if name not in named]
        if absent:
            remedy = "give it among the tools"
            raise wrong_request(f'no tool is called "{absent[0]}"', remedy=remedy)
        given = {name: _arguments(named[name]) for name in request.must_call}
        places = {name: f'tools["{name}"].parameters' for name in given}
    elif request.schema is not None:
        given, places = {"": request.schema}, {"": "schema"}
    else:
        return None
    for name, schema in given.items():
        _check_size(schema, places[name])
    schemas = {name: _simplified(json.dumps(schema)) for name, schema in given.items()}
    grammar = _grammar(schemas, tagged=tagged)
    reason = next(filter(None, map(_uncounted, schemas.values())), "") or check(grammar)
    if not reason:
        return Hold(grammar)
    pairs = {name: _pair(schema, check) for name, schema in schemas.items()}
    known = {name: pair for name, pair in pairs.items() if pair is not None}
    if len(known) == len(pairs):
        wider, narrower = (
            _grammar({name: pair[at] for name, pair in known.items()}, tagged=tagged)
            for at in range(2)
        )
        if not check(wider) and not check(narrower):
            return Hold(wider, narrower, schemas)
    if reason == NO_ANSWER:
        raise unheld(reason)
    _refuse([(places[name], schema) for name, schema in schemas.items()], check)
    raise wrong_request("the schemas are too much together", code=UNSUPPORTED)


def _pair(schema: Any, check: Check) -> tuple[Any, Any] | None:
    """Two schemas that grammars can be made of: one that allows what this one does or more, and one
    that allows no more. None where there are none.
    """
    if not _reason(schema, {}, check):
        return schema, schema
    wider, rich, values = _variants(json.dumps(schema))
    held = wider is not None and not _reason(wider, {}, check)
    if rich is not None and not _reason(rich, {}, check):
        return wider if held else rich, rich
    # A few values are good enough for what is seldom drawn, and no answer by themselves.
    return (wider, {"enum": values}) if held and values else None


@lru_cache(64)
def _simplified(text: str) -> Any:
    schema = json.loads(text)
    try:
        return simplified(schema, referred='Ref"' in text or '"$ref"' in text)
    except _MALFORMED:  # it is no schema, as whoever makes a grammar of it says better
        return schema


@lru_cache(64)
def _variants(text: str) -> tuple[Any, Any, list[Any]]:
    """A schema that allows more than one does, one that allows less, and some of its values."""
    schema, validity = json.loads(text), validity_of(json.loads(text))
    if validity is None or not validity.tells:
        return None, None, []
    try:
        return widened(schema), narrowed(schema, validity), validity.values(schema)
    except _MALFORMED:
        return None, None, []


def called(text: str) -> Calls:
    """The call that the text of such an answer is, as the OpenAI API has it: of one that was cut
    with what there is of its arguments, or none.
    """
    if (found := _CALL.match(text)) is None:
        return ()
    arguments = text[found.end() :]
    with suppress(ValueError, RecursionError):  # it was cut
        arguments = arguments[: json.JSONDecoder().raw_decode(arguments)[1]]
    function = {"name": json.loads(found[1]), "arguments": arguments}
    return ({"id": "call_0", "type": "function", "function": function},)


def _fulfils(text: str, schema: Any) -> bool:
    try:
        value = json.loads(text)
    except ValueError:  # it was cut
        return True
    validity = validity_of(schema)
    return validity is None or validity.told(value) is True


def described(request: Request) -> Request:
    """The request to a model whose template knows no tools: the functions, one of which it must
    call, stand in the system's message.
    """
    if request.prompt is not None or not request.tools:
        return replace(request, tools=())
    listed = [json.dumps(tool["function"], ensure_ascii=False) for tool in _functions(request)]
    told = "\n".join(["Answer by calling one of these functions:", *listed])
    first, *rest = request.messages
    if first.get("role") != "system":
        return replace(
            request, tools=(), messages=({"role": "system", "content": told}, first, *rest)
        )
    both = {**first, "content": f"{content_of(first)}\n\n{told}"}
    return replace(request, tools=(), messages=(both, *rest))


def unfollowed(where: str) -> ModelError:
    """The error of an answer that does not fulfil its schema, though it was held."""
    message = "its answer does not follow the schema"
    remedy = "use a simpler schema"
    return ModelError(message, status=502, where=where, remedy=remedy, code="schema_not_followed")


def unheld(reason: str) -> ModelError:
    """The error of a schema that no answer could follow to its end."""
    message = f"no answer can follow this schema to its end: {reason}"
    return wrong_request(message, remedy="use a simpler schema", code=UNSUPPORTED)


def _functions(request: Request) -> list[Mapping[str, Any]]:
    return [tool for tool in request.tools if tool.get("type") == "function"]


def _grammar(schemas: Mapping[str, Any], *, tagged: bool) -> str:
    """The grammar of an answer by the one schema, or of a call, each function's arguments by its
    schema.
    """
    if "" in schemas:
        return _HEAD + "start: %json " + _written(schemas[""])
    before, after = (_BEFORE, _AFTER) if tagged else ("", "")
    rules = [_HEAD + "start: " + " | ".join(f"call{at}" for at in range(len(schemas)))]
    for at, (name, schema) in enumerate(schemas.items()):
        head = f'{before}{{"name": {json.dumps(name)}, "arguments": '
        rules += [
            f"call{at}: {json.dumps(head)} arguments{at} {json.dumps('}' + after)}",
            f"arguments{at}: %json {_written(schema)}",
        ]
    return "\n".join(rules)


def _arguments(function: Mapping[str, Any]) -> Any:
    """The schema of a function's arguments, which are an object whatever it says."""
    given = function.get("parameters")
    if given is None:
        return _NO_ARGUMENTS
    return {"type": "object", **given} if isinstance(given, Mapping) else given


def _written(schema: Any) -> str:
    """The schema as answers follow it."""
    if not isinstance(schema, Mapping):
        schema = {"allOf": [schema]}
    bare = {name: value for name, value in schema.items() if name != _OPTIONS}
    close = not any(_combines(one) for one in _all(bare))
    return json.dumps({**_adapted(bare, bare, close), _OPTIONS: _FORM})


def _adapted(schema: Any, root: Mapping[str, Any], close: bool) -> Any:
    """The schema with `anyOf` for each `oneOf` of which no value can fulfil two parts. With `close`
    objects that name properties have no others unless it is said: a weak model would go on with
    them until it is cut.
    """
    if not isinstance(schema, Mapping):
        return schema
    adapted: dict[str, Any] = {}
    for name, inner in _without_zero(schema).items():
        if name == "uniqueItems" and inner is False:  # as if it were not there
            continue
        if name in _NAMED and isinstance(inner, Mapping):
            inner = {key: _adapted(one, root, close) for key, one in inner.items()}
        elif name in _SEVERAL and isinstance(inner, list):
            inner = [_adapted(one, root, close) for one in inner]
            if name == "oneOf" and "anyOf" not in schema and disjoint(inner, root):
                name = "anyOf"
        elif name in _ONE:
            inner = _adapted(inner, root, close)
        elif name == "enum" and isinstance(inner, list):
            inner = [value for value in inner if written_as(value)]
        adapted[name] = inner
    named = schema.get("properties")
    if close and isinstance(named, Mapping) and named and "patternProperties" not in schema:
        required = schema.get("required", [])
        if isinstance(required, list) and all(name in named for name in required):
            adapted.setdefault("additionalProperties", False)
    return adapted


def _without_zero(node: Mapping[str, Any]) -> dict[str, Any]:
    """An open bound at zero as one beside it, where the other bound is nearer than one: the regular
    expressions of numbers have zero there.
    """
    changed = dict(node)
    for side, other, sign in (("Minimum", "Maximum", 1), ("Maximum", "Minimum", -1)):
        bounds = [node.get(f"exclusive{other}"), node.get(other.lower())]
        ends = [sign * end for end in bounds if isinstance(end, int | float)]
        if node.get(f"exclusive{side}") == 0 and ends and 2 * _NEAR_ZERO < min(ends) < 1:
            changed[f"exclusive{side}"] = sign * _NEAR_ZERO
    return changed


def _all(schema: Any) -> Iterator[Mapping[str, Any]]:
    """A schema and all in it."""
    if isinstance(schema, Mapping):
        yield schema
        for _, inner in _inner(schema):
            yield from _all(inner)


def _combines(schema: Mapping[str, Any]) -> bool:
    """Whether the properties of a value may be named in several places."""
    several = schema.get("allOf")
    beside = sum(name in schema for name in ("properties", "$ref", "anyOf", "oneOf", "allOf"))
    return beside > 1 or (isinstance(several, list) and len(several) > 1)


def _check_size(schema: Any, where: str) -> None:
    """Raise ModelError where a schema is larger than any that is meant."""
    level, depth = [schema] if isinstance(schema, Mapping | list) else [], 0
    while level and depth <= _DEEPEST:
        inner = (one.values() if isinstance(one, Mapping) else one for one in level)
        level = [one for some in inner for one in some if isinstance(one, Mapping | list)]
        depth += 1
    if depth > _DEEPEST:
        message = f"has more than {_DEEPEST} levels"
        raise wrong_request(message, where=where, remedy="use fewer", code=UNSUPPORTED)
    if (count := sum(1 for _ in _all(schema))) > _MOST:
        message = f"has {count:,} schemas in it, and at most {_MOST:,} are taken"
        raise wrong_request(message, where=where, remedy="use fewer", code=UNSUPPORTED)
    if (size := len(json.dumps(schema))) > _LONGEST:
        message = f"has {size:,} characters, and at most {_LONGEST:,} are taken"
        raise wrong_request(message, where=where, remedy="use fewer", code=UNSUPPORTED)


def _refuse(parts: Sequence[tuple[str, Any]], check: Check) -> None:
    """Raise ModelError for the first schema that alone cannot be followed, with the innermost part
    of it that cannot for the same reason.
    """
    for where, schema in parts:
        reason = _reason(schema, {}, check)
        if not reason:
            continue
        _refuse_patterns(where, schema, check)
        tries, inside = _MOST_TRIES, schema
        searching = isinstance(schema, Mapping)
        kept = {name: schema[name] for name in _NAMED[:2] if searching and name in schema}
        while searching:
            searching = False
            for step, inner in _inner(inside):
                tries -= 1
                if tries and _reason(inner, kept, check) == reason:
                    where, inside, searching = where + step, inner, True
                    break
        raise _unsupported(reason, where, inside)


def _refuse_patterns(where: str, schema: Any, check: Check) -> None:
    """Raise ModelError for the first regular expression that no grammar has."""
    for at, name, pattern in islice(_patterns(where, schema), _MOST_TRIES):
        reason = _reason({"type": "string", "pattern": pattern}, {}, check)
        if not reason:
            continue
        said = f'"{name}" has {json.dumps(pattern[:40], ensure_ascii=False)}'
        said, remedy = f"{said}: {reason.rpartition('error: ')[2]}", "write it otherwise"
        if found := _LOOKS.search(pattern):
            said = f'"{name}" has "{found[0]}": look-around cannot be held to'
            remedy = r"write it without (?=…), (?!…), (?<=…), (?<!…), \b and \B"
        if "@" in pattern:
            remedy += ', or leave it out: "format": "email" is enough for an address'
        where = f"{at}.{name}"
        raise wrong_request(said, where=where, remedy=remedy, code=UNSUPPORTED)


def _patterns(where: str, schema: Any) -> Iterator[tuple[str, str, str]]:
    """The regular expressions in a schema: the place, the keyword and the expression."""
    if isinstance(schema, Mapping):
        if isinstance(pattern := schema.get("pattern"), str):
            yield where, "pattern", pattern
        if isinstance(several := schema.get("patternProperties"), Mapping):
            yield from ((where, "patternProperties", pattern) for pattern in several)
        for step, inner in _inner(schema):
            yield from _patterns(where + step, inner)


def _unsupported(reason: str, where: str, schema: Any) -> ModelError:
    message, remedy = reason, "change or leave out what cannot be held to"
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    outside = _KEYS.search(reason) and not str(reference).startswith("#")  # a schema of schemas
    if isinstance(reference, str) and (outside or _ELSEWHERE.search(reason)):
        message = f'"$ref" leads to {json.dumps(reference[:80])}, which is not in the schema'
        remedy = 'put what is meant under "$defs", and refer to it as "#/$defs/NAME"'
        where = f"{where}.$ref"
    elif (keys := _KEYS.search(reason)) is not None:
        message = f'"{keys[1]}" is a keyword that answers cannot be held to'
    elif reason.startswith("oneOf "):
        message, remedy = _ONE_OF, "use anyOf"
    elif reason.startswith(_NOTHING):
        message = f"no value fulfils it: {reason.removeprefix(_NOTHING)}"
    return wrong_request(message, where=where, remedy=remedy, code=UNSUPPORTED)


def _reason(schema: Any, kept: Mapping[str, Any], check: Check) -> str:
    """Why a schema cannot be followed, in one line."""
    if isinstance(schema, Mapping):
        schema = {**kept, **schema}
    if reason := _uncounted(schema):
        return reason
    text = check(_HEAD + "start: %json " + _written(schema))
    reason = text.partition("\n   1 | ")[0].partition("while processing json-schema:")[0]
    return " ".join(_PLACE.sub("", reason).split())[:300]


def _uncounted(schema: Any) -> str:
    """Why no grammar is made of a schema, though the library would: for hours, or of another
    number.
    """
    for node in _all(schema):
        if not divides(node):
            return "Value for 'multipleOf' has too many digits"
        values = [node["const"]] if "const" in node else node.get("enum")
        bounds = [node[name] for name in BOUNDS if name in node]
        listed = not isinstance(values, list) or not values or any(map(written_as, values))
        if not listed or not all(map(written_as, bounds)):
            return "a number has too many digits"
    return ""


def _inner(schema: Any) -> Iterator[tuple[str, Any]]:
    """The schemas in a schema, with the steps to them."""
    if not isinstance(schema, Mapping):
        return
    for name in _NAMED:
        if isinstance(named := schema.get(name), Mapping):
            yield from ((f".{name}.{key}"[:200], inner) for key, inner in named.items())
    for name in _SEVERAL:
        if isinstance(several := schema.get(name), list):
            yield from ((f".{name}[{at}]", inner) for at, inner in enumerate(several))
    for name in _ONE:
        if isinstance(one := schema.get(name), Mapping):
            yield f".{name}", one


def obeys(calls: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
    """Whether an answer that had to be a call is one of these functions, with JSON arguments."""
    functions = [call.get("function") or {} for call in calls]
    try:
        texts = [one["arguments"] for one in functions if one["name"] in names]
        return bool(texts) and all(isinstance(json.loads(text), dict) for text in texts)
    except (KeyError, TypeError, ValueError, RecursionError):
        return False
