"""The limits of the house, as CONTRIBUTING and docs/design.md promise them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("house", ROOT / "scripts" / "house.py")
    assert spec is not None and spec.loader is not None
    house = importlib.util.module_from_spec(spec)
    sys.modules["house"] = house
    spec.loader.exec_module(house)
    return house.report(house.read(ROOT))


def test_no_two_files_import_each_other_in_a_loop(figures: dict[str, Any]) -> None:
    assert figures["circles"] == []


def test_few_functions_are_long(figures: dict[str, Any]) -> None:
    assert figures["functions over 40 lines, %"] <= 3


@pytest.mark.parametrize(("job", "most"), [("near-duplicates", 40), ("merge", 50), ("answer", 63)])
def test_a_job_is_behind_few_files(figures: dict[str, Any], job: str, most: int) -> None:
    assert 1 < figures["files behind"][job] <= most


def test_no_file_is_longer_than_five_hundred_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "src").rglob("*.py")}
    assert not {str(path): length for path, length in lengths.items() if length > 500}
