"""A recipe file becomes a `Recipe`; whatever is wrong with it is said with its line, all of it at
once.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from yaml.nodes import MappingNode, Node, SequenceNode

from pomona._yaml import Problem, clean, compose, line_of, plain, read_text, shown
from pomona.errors import PomonaError, nearest
from pomona.recipe.schema import Recipe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "string_pattern_mismatch": (
        "made of letters, digits, dots, hyphens and underscores, and start with a letter or a digit"
    ),
}


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe. Raises PomonaError with a line for each mistake: file, line, what is
    wrong, and the nearest right name.
    """
    root = compose(read_text(Path(path)), path, "examples/quickstart.yaml for a recipe")
    found: list[Problem] = []
    value = plain(root, found)
    if not found:
        if isinstance(value, dict):
            try:
                return Recipe.model_validate(value)
            except ValidationError as error:
                found = [
                    problem for details in error.errors() for problem in _explain(details, root)
                ]
        else:
            found = [(line_of(root), "a recipe is a mapping of keys and values, and this is not")]
    raise PomonaError(
        "\n".join(f"{path}, line {line}: {clean(text)}" for line, text in sorted(set(found)))
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors and other programs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def resolve(folder: str | Path, value: str) -> str:
    """`value` with a path relative to the recipe's `folder` made absolute, also after `hf:` and
    `gguf:` and with wildcards.

    Catalogue names, addresses with `://`, absolute paths and whatever does not exist in `folder`
    stay as they are.
    """
    scheme, _, rest = (
        value.rpartition(":") if value.startswith(("hf:", "gguf:")) else ("", "", value)
    )
    path = Path(os.path.abspath(folder), rest)  # noqa: PTH100
    if not rest or "://" in value or Path(rest).is_absolute() or not _exists(Path(folder), rest):
        return value
    if not scheme and value in _catalogue():
        return value
    return f"{scheme}:{path}" if scheme else str(path)


def _exists(folder: Path, rest: str) -> bool:
    if (folder / rest).exists():
        return True
    return any(sign in rest for sign in "*?[") and bool(list(folder.glob(rest)))


def _catalogue() -> set[str]:
    from pomona import models

    return {"ui", *(entry.name for entry in models.catalogue())}


def _locate(root: Node, location: Location) -> tuple[int, list[str | int]]:
    """The line of a location, and the location without the parts that are not in the file."""
    node, line, path = root, line_of(root), []
    for part in location:
        if isinstance(node, MappingNode) and (
            pair := next((p for p in node.value if p[0].value == part), None)
        ):
            line, node = line_of(pair[0]), pair[1]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = line_of(node)
        else:
            continue
        path.append(part)
    return line, path


def _explain(details: ErrorDetails, root: Node) -> list[Problem]:
    kind, location, context = details["type"], details["loc"], details.get("ctx", {})
    if kind == "problems":
        return [(_locate(root, (*location, *inner))[0], text) for inner, text in context["found"]]
    line, path = _locate(root, location)
    if kind == "missing":
        return [(line, f'"{location[-1]}" is missing{_inside(path)}')]
    if kind == "extra_forbidden":
        return [
            (
                line,
                (
                    f'unknown key "{path[-1]}"{_inside(path[:-1])} — '
                    f"{nearest(str(path[-1]), _keys(location[:-1]))}"
                ),
            )
        ]
    return [(line, f"{_named(path)} {_demand(details)}")]


def _demand(details: ErrorDetails) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind in {"too_short", "string_too_short"}:
        return "must not be empty"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"must be {' or '.join(shown(name) for name in known)}, not {shown(value)}"
    expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else details["msg"]
    return f"must be {expected}, not {shown(value)}"


def _named(path: list[str | int]) -> str:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return "the recipe"
    return (
        f'item {path[-1] + 1} of "{names[-1]}"' if isinstance(path[-1], int) else f'"{names[-1]}"'
    )


def _inside(path: list[str | int]) -> str:
    text = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path)
    return f" in {text.lstrip('.')}" if text else ""


def _keys(location: Location) -> list[str]:
    """The keys that the model at a location knows."""
    model: type[BaseModel] = Recipe
    for part in location:
        if part in model.model_fields:
            model = next(_models(model.model_fields[str(part)].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
