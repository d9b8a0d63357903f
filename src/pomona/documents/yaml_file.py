"""YAML 1.2 files as a user writes them: scalars without surprises, and the line of every
mistake.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from pomona.errors import PomonaError, nearest

LARGEST = 1 << 24  # bytes; nobody writes more by hand
DEEPEST = 100  # collections in each other; composing and reading recurse
Problem = tuple[int, str]

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": re.compile(r"^(?:~|null|Null|NULL|)$"),
    "bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "int": re.compile(r"^[-+]?[0-9][0-9_]*$"),
    "float": re.compile(
        r"^[-+]?(?:\.inf|(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?)$"
    ),
}


class _Loader(yaml.SafeLoader):
    """Scalars as YAML 1.2 reads them, so that `no` is a language and 1e-3 a number; no aliases."""

    yaml_implicit_resolvers = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            text = f"aliases such as *{event.anchor} are not supported"
            raise ComposerError(None, None, text, event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise RecursionError
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)


@dataclass(frozen=True)
class Document:
    """A YAML file that was read: its `value`, and the tree of nodes that knows where it stands."""

    path: Path
    value: Any
    root: Node


def read_yaml(path: str | Path, kind: str, example: str) -> Document:
    """Read a YAML file; `example` says where to see a right one. Raises PomonaError with file and
    line: it is missing, too large, not UTF-8, empty or broken, or has keys twice.
    """
    path = Path(path)
    problems: list[Problem] = []
    root = _composed(read_text(path, kind), path, example)
    value = _plain(root, problems, kind)
    if problems:
        raise told(path, problems)
    return Document(path, value, root)


def read_text(path: Path, kind: str = "recipe") -> str:
    """The text of a YAML file. Raises PomonaError, with the files beside it where it is not
    there.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        remedy = nearest(path.name, beside) if beside else "check the path"
        raise PomonaError(f"no such {kind}", where=path, remedy=remedy) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PomonaError(
            "is not UTF-8 text", where=f"{path}, line {line}", remedy="save it as UTF-8"
        ) from None
    except OSError as error:
        raise PomonaError(
            f"cannot be read: {error.strerror}", where=path, remedy="name a YAML file"
        ) from None
    if len(data) > LARGEST:
        remedy = f"name a file that holds a {kind}"
        raise PomonaError(f"has more than {LARGEST:,} bytes", where=path, remedy=remedy)
    return text


def told(path: Path, problems: list[Problem]) -> PomonaError:
    """The error that tells all of `problems`, in the order of their lines."""
    lines = [f"{path}, line {line}: {clean(text)}" for line, text in sorted(set(problems))]
    return PomonaError("\n".join(lines))


def _composed(text: str, path: Path, example: str) -> Node:
    """The tree of a document. Raises PomonaError with the line where it is broken."""
    try:
        root = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else path
        raise PomonaError(
            f"broken YAML: {error.problem or error.context}", where=place, remedy="fix the line"
        ) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"broken YAML: the character U+{ord(text[error.position]):04X}"
        raise PomonaError(message, where=f"{path}, line {line}") from None
    except RecursionError:
        raise PomonaError("broken YAML: nested too deeply", where=path) from None
    if root is None:
        raise PomonaError("is empty", where=path, remedy=f"see {example}")
    return root


def _plain(node: Node, problems: list[Problem], noun: str) -> Any:
    """The value of a node; keys are text. Duplicate keys and what YAML 1.2's core schema does not
    hold are added to `problems`.
    """
    if isinstance(node, SequenceNode):
        return [_plain(item, problems, noun) for item in node.value]
    if isinstance(node, MappingNode):
        return _mapping(node, problems, noun)
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    known = kind in _SCALARS and _SCALARS[kind].match(text) and len(text) <= 400
    if kind != "str" and not known:
        problems.append((line_of(node), f"{shown(text)} is not a value a {noun} can hold"))
        return None
    digits = text.replace("_", "")
    return {
        "null": lambda: None,
        "bool": lambda: text.lower() == "true",
        "int": lambda: int(digits),
        "float": lambda: float(digits.replace(".inf", "inf")),
        "str": lambda: text,
    }[kind]()


def _mapping(node: MappingNode, problems: list[Problem], noun: str) -> dict[str, Any]:
    lines: dict[str, int] = {}
    result: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            problems.append((line_of(key), "a key must be text"))
        elif key.value in lines:
            text = f'the key "{key.value}" was already given in line {lines[key.value]}'
            problems.append((line_of(key), text))
        else:
            lines[key.value] = line_of(key)
            result[key.value] = _plain(value, problems, noun)
    return result


def clean(text: str) -> str:
    """`text` without control characters."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def line_of(node: Node) -> int:
    """The line a node begins on, from 1."""
    return node.start_mark.line + 1


def shown(value: Any) -> str:
    """A value as a message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:58] + '…"'
