"""Contexts opened by names, in the order in which they change a request."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.sample.context import Index, open_contexts


def weigh(fruit: str) -> int:
    """Tell what a fruit weighs."""
    return len(fruit)


def test_contexts_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orchard = ModuleType("orchard")
    orchard.weigh = weigh  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orchard", orchard)
    index, tools = tmp_path / "index", ["calculator", "orchard:weigh"]
    Index.build(pa.table({"text": ["a page about pears"]}), out=index)
    with open_contexts(think=True, tool=tools, retrieve=index) as contexts:
        assert [context.name for context in contexts] == ["retrieval", "tools", "thought"]
    with open_contexts() as none:
        assert none == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"tool": ["calculater"]},
            r'calculater: is no tool — did you mean "calculator"\?, or name',
        ),
        ({"tool": ["math:nothing"]}, "math:nothing: cannot be imported"),
        ({"steer_to": "x"}, "--steer-to and --steer-from: give both or none"),
        ({"steer_from": "x"}, "--steer-to and --steer-from: give both or none"),
        ({"retrieve": "nowhere"}, "nowhere: is no index that can be read"),
        ({"mcp": ['"open']}, '"open: cannot be read'),
    ],
)
def test_what_cannot_be_opened_says_why(given: dict[str, object], says: str) -> None:
    with pytest.raises(PomonaError, match=says), open_contexts(**given):  # type: ignore[arg-type]
        raise AssertionError
