"""A mix as a YAML file: inputs, schedule, total, size, column, seed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pomona.errors import PomonaError, nearest

KEYS = ("inputs", "schedule", "total", "size", "column", "seed")
_TYPES = {"total": int | float, "size": str, "column": str, "seed": int}


class _Loader(yaml.SafeLoader):
    """Scalars as YAML 1.2 reads them, so that `no` is a language and 1e6 a number."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


for _kind, _pattern in {
    "null": r"^(?:~|null|)$",
    "bool": r"^(?:true|false)$",
    "int": r"^[-+]?[0-9][0-9_]*$",
    "float": r"^[-+]?(?:\.inf|(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?)$",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), None)


def load_mix(path: str | Path) -> dict[str, Any]:
    """The keyword arguments of `mix` that a YAML file gives; paths in it are relative to its folder.

    Raises PomonaError when the file is missing or broken, has an unknown key, no inputs, or a value of the wrong kind.
    """
    path = Path(path)
    value = _parsed(path)
    if not isinstance(value, dict) or not isinstance(value.get("inputs"), dict):
        raise PomonaError("has no inputs", where=path, remedy="write inputs: and under it NAME: PATH, one a line")
    for key, found in value.items():
        if key not in KEYS:
            raise PomonaError(f'unknown key "{key}"', where=path, remedy=nearest(str(key), KEYS))
        if key in _TYPES and (isinstance(found, bool) or not isinstance(found, _TYPES[key])):
            raise PomonaError(f'"{key}" is {found!r}', where=path, remedy=f"give {'text' if _TYPES[key] is str else 'a number'}")
    return value | {"inputs": {str(name): _resolved(path, str(name), where) for name, where in value["inputs"].items()}}


def _parsed(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PomonaError(f"cannot be read: {reason}", where=path, remedy="name a YAML file with inputs and a schedule") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark else path
        raise PomonaError(f"broken YAML: {getattr(error, 'problem', None) or error}", where=place, remedy="fix the line") from None


def _resolved(path: Path, name: str, where: Any) -> list[str]:
    found = where if isinstance(where, list) else [where]
    if not found or not all(isinstance(item, str) for item in found):
        raise PomonaError(f'the path of "{name}" is {where!r}', where=path, remedy="give a path, a glob, or a list of them")
    return [item if "://" in item else str(path.parent / item) for item in found]
