"""Every reader meets some damaged input in the tests; `python scripts/fuzz.py` gives them more."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_damaged_input_is_read_or_refused_at_once(fuzz: Any, tmp_path: Path, capfd: Any) -> None:
    found = {
        name: fuzz.fuzz(name, reader, 5, 0, tmp_path, most=30)["findings"]
        for name, reader in fuzz.readers().items()
        if name != "load"  # seconds for torch
    }
    assert not any(found.values()), capfd.readouterr().out


def test_what_is_not_refused_by_name_is_found(fuzz: Any, tmp_path: Path) -> None:
    def read(folder: Path) -> None:
        assert (folder / "x").read_bytes().startswith(b"{")

    reader = fuzz.Reader({"x": b'{"a": 1}'}, read)
    assert fuzz.fuzz("none", reader, 5, 0, tmp_path, most=60)["findings"] > 0
    assert "AssertionError" in (tmp_path / "none-1" / "said.txt").read_text()
