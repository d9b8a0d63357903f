"""What packages promise to the public is there: a lazy face has nobody else to notice a lost
name.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import pomona

ROOT = Path(pomona.__file__).parents[1]
FACES = sorted(
    ".".join(file.parent.relative_to(ROOT).parts)
    for file in (ROOT / "pomona").rglob("__init__.py")
    if "lazily(" in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("package", FACES)
def test_every_name_of_a_face_is_there(package: str) -> None:
    face = importlib.import_module(package)
    names = face.__dir__()
    assert names and not [name for name in names if not hasattr(face, name)]
