"""YAML as mergekit reads it, with the line of every key; and what every section of a recipe needs:
checks that gather mistakes with their place instead of raising the first, and parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pomona.documents import compose, compose_all, read_text
from pomona.errors import PomonaError, nearest
from pomona.merge.reading.parameters import (
    Condition,
    Kind,
    Method,
    Scalar,
    Setting,
    check_filter,
    convert,
    known_parameters,
)
from pomona.merge.reading.recipe import ModelRef, meant, parse_model

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
KeyPath = Sequence[str | int]
_MERGED = "tag:yaml.org,2002:merge"  # the key <<


class MergekitDocument:
    """A YAML file, or one document of it: its `value`, and `line(place)` for the keys and indexes
    that lead to a part of it. `label` is what errors call it.
    """

    def __init__(self, path: Path, root: Node | None = None) -> None:
        self.path, self.label = path, str(path)
        self._root = root or compose(read_text(path), path, loader=_Loader)
        self.twice = [] if self._root is None else list(_twice(self._root))
        self.value: Any = None
        if self._root is not None:
            self.value = _plain(_constructed(self._root, path), self, ())

    @classmethod
    def all_of(cls, path: Path) -> list[MergekitDocument]:
        """Every document of a file that is not empty; one that is empty where all are."""
        roots = compose_all(read_text(path), path, loader=_Loader)
        return [cls(path, root) for root in roots] or [cls(path)]

    def refused(self, place: KeyPath, text: str) -> PomonaError:
        """The error for a part that no recipe can hold."""
        return PomonaError(text, where=f"{self.path}, line {self.line(place)}")

    def line(self, place: KeyPath) -> int:
        """Line of the deepest part of `place` that is in the file."""
        node = self._root
        line = 1 if node is None else node.start_mark.line + 1
        for step in place:
            key, node = _child(node, step)
            if node is None:
                break
            line = (key or node).start_mark.line + 1
        return line


def _constructed(root: Node, path: Path) -> Any:
    loader, at = _Loader(""), root
    try:
        # First every scalar by itself, so that the line of one that has no value is known.
        for at in _nodes(root):
            if isinstance(at, ScalarNode) and at.tag != _MERGED:
                loader.construct_object(at)
            elif isinstance(at, MappingNode):
                _check_keys(at, loader, path)
        return loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or at.start_mark
        problem = getattr(error, "problem", None) or str(error)
        where, remedy = f"{path}, line {mark.line + 1}", "check tags such as !!int, and quotes"
        raise PomonaError(f"is not YAML: {problem}", where=where, remedy=remedy) from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        # Values that their tag or form does not fit raise whatever Python raises for them.
        where = f"{path}, line {at.start_mark.line + 1}"
        message = f"is not YAML: {shown(str(at.value)[:60])} is no value of its kind"
        raise PomonaError(message, where=where, remedy="put it in quotes") from None
    finally:
        loader.dispose()


def _check_keys(node: MappingNode, loader: Any, path: Path) -> None:
    for key, _ in node.value:
        if key.tag != _MERGED and (
            not isinstance(key, ScalarNode) or type(loader.construct_object(key)) not in (str, int)
        ):
            written = str(key.value)[:60] if isinstance(key, ScalarNode) else "a collection"
            message = f"a key must be text, and {written} is not: put it in quotes"
            raise PomonaError(message, where=f"{path}, line {key.start_mark.line + 1}")


def _nodes(root: Node) -> Iterator[Node]:
    """Every node of a tree once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, SequenceNode):
            waiting += node.value
        elif isinstance(node, MappingNode):
            waiting += [part for pair in node.value for part in pair]


def _plain(value: Any, document: MergekitDocument, place: tuple[str | int, ...]) -> Any:
    """`value` as JSON could hold it, keys as text."""
    if isinstance(value, list):
        return [_plain(item, document, (*place, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): _plain(item, document, (*place, str(key))) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    raise document.refused(place, f"{str(value)[:60]} is not a value a recipe can hold")


def _child(node: Node | None, step: str | int) -> tuple[Node | None, Node | None]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == str(step):
                return key, value
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None, None


def _twice(root: Node) -> list[tuple[int, str]]:
    """Line and name of every key that a mapping holds a second time."""
    doubles: list[tuple[int, str]] = []
    for node in _nodes(root):
        if isinstance(node, MappingNode):
            names = set()
            for key, _ in node.value:
                if isinstance(key, ScalarNode) and key.value != "<<":
                    if key.value in names:
                        doubles.append((key.start_mark.line + 1, key.value))
                    names.add(key.value)
    return doubles


DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}


T = TypeVar("T")


class Reader:
    """Reads parts of a recipe. `problems` holds what is wrong and where, `notes` what has no
    effect; `method` is None until it is known.
    """

    def __init__(self) -> None:
        self.problems: list[tuple[KeyPath, str]] = []
        self.notes: list[str] = []
        self.method: Method | None = None

    def wrong(self, place: KeyPath, text: str) -> None:
        """Take down a mistake."""
        self.problems.append((place, text))

    def note(self, text: str) -> None:
        """Take down what has no effect."""
        self.notes.append(text)

    def mapping(
        self, value: Any, place: KeyPath, known: tuple[str, ...], needed: tuple[str, ...] = ()
    ) -> Mapping[str, Any]:
        """`value` when it is a mapping, its unknown and missing keys taken down; an empty one
        otherwise.

        Unknown keys are noted and have no effect, as in mergekit; those that are nearly a known one
        are mistakes.
        """
        if not isinstance(value, Mapping):
            self.wrong(
                place, f"expected a mapping with {', '.join(known[:4])}, found {shown(value)}"
            )
            return {}
        for key in map(str, value):
            if key not in known and meant(key, known):
                self.wrong((*place, key), f'unknown key "{key}": {nearest(key, known)}')
            elif key not in known:
                stray = ' outside "parameters"' if key in known_parameters() else ""
                self.note(f'"{key}"{stray} has no effect')
        for key in needed:
            if value.get(key) is None:
                self.wrong(place, f'"{key}" is missing')
        return cast("Mapping[str, Any]", value)

    def optional(
        self, item: Mapping[str, Any], key: str, place: KeyPath, read: Callable[[Any, KeyPath], T]
    ) -> T | None:
        """What `read` makes of the value of a key and its place; None where there is none."""
        value = item.get(key)
        return None if value is None else read(value, (*place, key))

    def listed(self, value: Any, place: KeyPath) -> list[tuple[tuple[str | int, ...], Any]]:
        """The items of a list with their places; none when it is not a list."""
        if not isinstance(value, list | tuple) or not value:
            self.wrong(place, f"expected a list with at least one item, found {shown(value)}")
            return []
        return [((*place, index), item) for index, item in enumerate(value)]

    def model(self, value: Any, place: KeyPath) -> ModelRef:
        """A model; a stand-in when it is malformed."""
        try:
            return parse_model(value, self.note)
        except ValueError as error:
            self.wrong(place, str(error))
            return ModelRef("?")

    def text(self, top: Mapping[str, Any], key: str) -> str | None:
        """The text under a key of the recipe."""
        value = top.get(key)
        if value is None or isinstance(value, str):
            return value
        self.wrong((key,), f"expected text, found {shown(value)}")
        return None

    def dtype(self, top: Mapping[str, Any], key: str) -> str | None:
        """The float type under a key of the recipe, as safetensors names it."""
        value = self.text(top, key)
        if not value:
            return None
        name = value.removeprefix("torch.")
        if name not in DTYPES:
            self.wrong((key,), f'unknown {key} "{value}": {nearest(name, DTYPES)}')
        return DTYPES.get(name)


def shown(value: Any) -> str:
    """A value as an error message tells it."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return "nothing" if value is None else repr(value)


def parameters(reader: Reader, item: Mapping[str, Any], place: KeyPath) -> dict[str, Setting]:
    """The `parameters` of a section, without those that the method has not."""
    value, place = item.get("parameters"), (*place, "parameters")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        reader.wrong(place, f"expected a mapping of parameters, found {shown(value)}")
        return {}
    settings = {
        str(name): _parameter(reader, str(name), item, (*place, name))
        for name, item in value.items()
    }
    return {name: setting for name, setting in settings.items() if setting is not None}


def _parameter(reader: Reader, name: str, value: Any, place: KeyPath) -> Setting | None:
    method = reader.method
    known = {item.name for item in method.parameters} if method else known_parameters()
    if name not in known_parameters() and meant(name, known):
        reader.wrong(place, f'unknown parameter "{name}": {nearest(name, known)}')
        return None
    mine = method.parameter(name) if method else None
    if method is not None and mine is None:
        more = '; the type of the result is the recipe\'s own "dtype"' if name == "dtype" else ""
        reader.note(f'parameter "{name}" has no effect in {method.name}{more}')
    return None if mine is None or value is None else _setting(reader, value, mine.kind, place)


def _setting(reader: Reader, value: Any, kind: Kind, place: KeyPath) -> Setting | None:
    if isinstance(value, Mapping):
        return (_condition(reader, value, kind, place),)
    if isinstance(value, list | tuple):
        filtered = [isinstance(item, Mapping) for item in value]
        if filtered and all(filtered):
            return tuple(
                _condition(reader, item, kind, (*place, index)) for index, item in enumerate(value)
            )
        if any(filtered):
            reader.wrong(
                place,
                (
                    "holds values and filters side by side; write {value: …} for the value of "
                    "all other tensors"
                ),
            )
            return None
    return _value(reader, value, kind, place)


def _condition(reader: Reader, value: Any, kind: Kind, place: KeyPath) -> Condition:
    item = reader.mapping(value, place, ("filter", "value"), ("value",))
    rule = item.get("filter")
    if rule is not None and not isinstance(rule, str):
        reader.wrong((*place, "filter"), f"expected text, found {shown(rule)}")
        rule = None
    if rule is not None and (wrong := check_filter(rule)):
        reader.wrong((*place, "filter"), wrong)
    held = item.get("value")
    given = None if held is None else _value(reader, held, kind, (*place, "value"))
    return Condition(rule, 0 if given is None else given)


def _value(
    reader: Reader, value: Any, kind: Kind, place: KeyPath
) -> Scalar | tuple[Scalar, ...] | None:
    many = isinstance(value, list | tuple)
    if many and not value:
        reader.note(f'"{place[-1]}" is an empty list, and has no effect')
    try:
        for item in value if many else [value]:
            if not isinstance(item, bool | int | float | str):
                raise ValueError(f"expected a value, found {shown(item)}")
            convert(item, kind)
    except ValueError as error:
        reader.wrong(place, str(error))
        return None
    return tuple(value) if many else value
