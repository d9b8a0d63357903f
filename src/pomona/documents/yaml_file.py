"""YAML 1.2 files as a user writes them: scalars without surprises, and the line of every
mistake.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.error import MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pomona.documents.json_file import open_file
from pomona.errors import PomonaError, nearest

LARGEST = 1 << 20  # bytes; nobody writes more by hand
DEEPEST = 100  # collections in each other; composing and reading recurse
MOST = 50_000  # values, those behind an alias as often as it is named
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


_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Parser):
    """Scalars as YAML 1.2 reads them, so that `no` is a language and 1e-3 a number."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


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
    root = compose(read_text(path, kind), path, aliases=False)
    if root is None:
        raise PomonaError("is empty", where=path, remedy=f"see {example}")
    value = _plain(root, problems, kind)
    if problems:
        raise told(path, problems)
    return Document(path, value, root)


def read_text(path: Path, kind: str = "recipe") -> str:
    """The text of a YAML file. Raises PomonaError, with the files beside it where it is not
    there.
    """
    try:
        with open_file(path, pipes=True) as stream:
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


def compose(
    text: str, path: str | Path, *, loader: Any = _Loader, aliases: bool = True
) -> Node | None:
    """The tree of a document as PyYAML's `loader` makes it, None for an empty one.

    Raises PomonaError with the line where it is broken, nested too deeply, holds more than MOST
    values, has an alias of what it stands in, or (`aliases=False`) any alias.
    """
    with _refused(text, path, aliases):
        return yaml.compose(text, Loader=loader)


def compose_all(text: str, path: str | Path, *, loader: Any = _Loader) -> list[Node]:
    """The trees of all documents of a text, parted by `---`, without empty ones beside others.
    Raises as `compose` does.
    """
    with _refused(text, path, aliases=True):
        roots: list[Node] = list(yaml.compose_all(text, Loader=loader))
    null = _SCALARS["null"]
    full = [root for root in roots if not (isinstance(root, ScalarNode) and null.match(root.value))]
    return full or roots[:1]


@contextmanager
def _refused(text: str, path: str | Path, aliases: bool) -> Iterator[None]:
    """Look a text through before it is composed, and tell what is wrong with it by its line."""
    if odd := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        message = f"broken YAML: the character U+{ord(odd[0]):04X}"
        raise PomonaError(message, where=f"{path}, line {line}")
    try:
        # Before anything recurses: the loader in C has no limit, and ends the process.
        _survey(yaml.parse(text, Loader=_Parser), path, aliases)
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # The loader in C names a line after the last where a text ends too early.
        lines = text.split("\n")
        at = (mark.line, mark.column) if mark else (0, 0)
        row, column = at if at[0] < len(lines) else (len(lines) - 1, len(lines[-1]))
        place = f"{path}, line {row + 1}, column {column + 1}" if mark else path
        problem = error.problem or error.context or ""
        remedy = "give each a file of its own" if "another document" in problem else "fix the line"
        if Path(path).suffix in (".jsonl", ".ndjson", ".csv"):
            problem, remedy = "this is a table", "name a YAML file"
        raise PomonaError(f"broken YAML: {problem}", where=place, remedy=remedy) from None


def _survey(events: Iterable[yaml.Event], path: str | Path, aliases: bool) -> None:
    """Raise PomonaError for what would recurse or grow without end."""
    top = _Span(None)
    spans = [top]  # the collections that are open
    known: dict[str, _Span] = {}
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            spans.append(_Span(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = spans.pop()
            if ended.anchor:
                known[ended.anchor] = ended
            spans[-1].take(ended)
        elif isinstance(event, yaml.ScalarEvent):
            spans[-1].size += 1
            known.pop(event.anchor or "", None)
        elif isinstance(event, yaml.AliasEvent):
            name = str(event.anchor)
            wrong = None if aliases else f"aliases such as *{name} are not supported"
            if any(span.anchor == name for span in spans):
                wrong = f"*{name} stands in what it names"
            if wrong:
                raise MarkedYAMLError(None, None, wrong, event.start_mark)
            spans[-1].take(known.get(name, _Span(None)))
        line = event.start_mark.line + 1 if event.start_mark else 0
        if len(spans) + spans[-1].depth > DEEPEST + 1:
            raise PomonaError("broken YAML: nested too deeply", where=f"{path}, line {line}")
        if sum(span.size for span in spans) > MOST:
            raise PomonaError(f"holds more than {MOST:,} values", where=f"{path}, line {line}")


@dataclass
class _Span:
    """A collection: how many values it holds, and how many collections in each other."""

    anchor: str | None
    size: int = 1
    depth: int = 0

    def take(self, inner: _Span) -> None:
        """Count what is inside."""
        self.size += inner.size
        self.depth = max(self.depth, inner.depth + 1)


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
