"""A mix as a YAML file: inputs, schedule, total, size, column, seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.documents import read_yaml
from pomona.errors import PomonaError, nearest

KEYS = ("inputs", "schedule", "total", "size", "column", "seed")
_TYPES = {"total": int | float, "size": str, "column": str, "seed": int}


def load_mix(path: str | Path) -> dict[str, Any]:
    """The keyword arguments of `mix` that a YAML file gives; paths in it are relative to its
    folder.

    Raises PomonaError when the file is missing or broken, has an unknown key, no inputs, or a value
    of the wrong kind.
    """
    path = Path(path)
    value = read_yaml(path, "mix", "docs/data.md for a mix").value
    if not isinstance(value, dict) or not isinstance(value.get("inputs"), dict):
        raise PomonaError(
            "has no inputs", where=path, remedy="write inputs: and under it NAME: PATH, one a line"
        )
    for key, found in value.items():
        if key not in KEYS:
            raise PomonaError(f'unknown key "{key}"', where=path, remedy=nearest(str(key), KEYS))
        if key in _TYPES and (isinstance(found, bool) or not isinstance(found, _TYPES[key])):
            raise PomonaError(
                f'"{key}" is {found!r}',
                where=path,
                remedy=f"give {'text' if _TYPES[key] is str else 'a number'}",
            )
    return value | {
        "inputs": {
            str(name): _resolved(path, str(name), where) for name, where in value["inputs"].items()
        }
    }


def _resolved(path: Path, name: str, where: Any) -> list[str]:
    found = where if isinstance(where, list) else [where]
    if not found or not all(isinstance(item, str) for item in found):
        raise PomonaError(
            f'the path of "{name}" is {where!r}',
            where=path,
            remedy="give a path, a glob, or a list of them",
        )
    return [item if "://" in item else str(path.parent / item) for item in found]
