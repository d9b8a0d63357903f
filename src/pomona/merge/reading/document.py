"""YAML as mergekit reads it (YAML 1.1, safe tags only), with the line of every key and value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pomona.documents import read_text
from pomona.errors import PomonaError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
KeyPath = Sequence[str | int]


class MergekitDocument:
    """A YAML file: its `value`, and `line(place)` for the keys and indexes that lead to a part of
    it.
    """

    def __init__(self, path: Path) -> None:
        loader = _Loader(read_text(path))
        try:
            root = loader.get_single_node()
            self.twice = [] if root is None else list(_twice(root))
            self._root: Node | None = root
            self.value: Any = None if root is None else loader.construct_document(root)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}, line {mark.line + 1}" if mark else path
            problem = getattr(error, "problem", None) or str(error)
            remedy = (
                "give each recipe a file of its own"
                if "another document" in problem
                else "check indentation, quotes and brackets"
            )
            raise PomonaError(f"is not YAML: {problem}", where=where, remedy=remedy) from None
        finally:
            loader.dispose()

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


def _child(node: Node | None, step: str | int) -> tuple[Node | None, Node | None]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == str(step):
                return key, value
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None, None


def _twice(node: Node) -> list[tuple[int, str]]:
    """Line and name of every key that a mapping holds a second time."""
    doubles: list[tuple[int, str]] = []
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            waiting += node.value
        elif isinstance(node, MappingNode):
            names = set()
            for key, value in node.value:
                if isinstance(key, ScalarNode) and key.value != "<<":
                    if key.value in names:
                        doubles.append((key.start_mark.line + 1, key.value))
                    names.add(key.value)
                waiting.append(value)
    return doubles
