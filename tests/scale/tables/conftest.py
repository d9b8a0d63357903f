"""Tables of published models: small ones written here, and real ones where they lie beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """Finds a table beside the checkout; the test is skipped where there is none."""

    def find(name: str) -> Path:
        for folder in Path(__file__).resolve().parents:
            if (path := folder / "shared" / "data" / name).exists():
                return path
        pytest.skip(f"shared/data/{name} is not beside the checkout")

    return find


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV table of lines; its path."""

    def write(*lines: str, name: str = "models.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
