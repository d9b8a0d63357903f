"""A recipe file becomes a `Recipe`; whatever is wrong with it is said with its line, all of it at once."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from pomona.errors import PomonaError, nearest
from pomona.recipe.schema import Recipe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Problem = tuple[int, str]
Location = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": re.compile(r"^(?:~|null|Null|NULL|)$"),
    "bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "int": re.compile(r"^[-+]?[0-9][0-9_]*$"),
    "float": re.compile(r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$"),
}
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
    "string_pattern_mismatch": "made of letters, digits, dots, hyphens and underscores, and start with a letter or a digit",
}


class _Loader(yaml.SafeLoader):
    """Scalars as YAML 1.2 reads them, so that `no` is a language and 1e-3 a number; no aliases."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ComposerError(None, None, f"aliases such as *{event.anchor} are not supported", event.start_mark)
        return super().compose_node(parent, index)


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe. Raises PomonaError with a line for each mistake: file, line, what is wrong, and the nearest right name."""
    root = _compose(_text(Path(path)), path)
    found: list[Problem] = []
    value = _plain(root, found)
    if not found:
        if isinstance(value, dict):
            try:
                return Recipe.model_validate(value)
            except ValidationError as error:
                found = [problem for details in error.errors() for problem in _explain(details, root)]
        else:
            found = [(_line(root), "a recipe is a mapping of keys and values, and this is not")]
    raise PomonaError("\n".join(f"{path}, line {line}: {_clean(text)}" for line, text in sorted(set(found))))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors and other programs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def resolve(folder: str | Path, value: str) -> str:
    """`value` with a path relative to the recipe's `folder` made absolute, also after `hf:` and `gguf:` and with wildcards.

    Catalogue names, addresses with `://`, absolute paths and whatever does not exist in `folder` stay as they are.
    """
    scheme, _, rest = value.rpartition(":") if value.startswith(("hf:", "gguf:")) else ("", "", value)
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


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        remedy = nearest(path.name, beside) if beside else "check the path"
        raise PomonaError("no such recipe", where=path, remedy=remedy) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PomonaError("is not UTF-8 text", where=f"{path}, line {line}", remedy="save it as UTF-8") from None
    except OSError as error:
        raise PomonaError(f"cannot be read: {error.strerror}", where=path, remedy="name a YAML file") from None


def _compose(text: str, path: str | Path) -> Node:
    try:
        root = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else path
        raise PomonaError(f"broken YAML: {error.problem or error.context}", where=place) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise PomonaError(f"broken YAML: the character U+{ord(text[error.position]):04X}", where=f"{path}, line {line}") from None
    except RecursionError:
        raise PomonaError("broken YAML: nested too deeply", where=path) from None
    if root is None:
        raise PomonaError("is empty", where=path, remedy="see examples/quickstart.yaml for a recipe")
    return root


def _plain(node: Node, found: list[Problem]) -> Any:
    """The value of a node; keys are text. Duplicate keys and what no recipe holds are added to `found`."""
    if isinstance(node, SequenceNode):
        return [_plain(item, found) for item in node.value]
    if isinstance(node, MappingNode):
        return _mapping(node, found)
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    strange = kind != "str" and (kind not in _SCALARS or not _SCALARS[kind].match(text) or len(text) > 400)
    if strange:
        found.append((_line(node), f"{_shown(text)} is not a value a recipe can hold"))
        return None
    digits = text.replace("_", "")
    return {
        "null": lambda: None,
        "bool": lambda: text.lower() == "true",
        "int": lambda: int(digits),
        "float": lambda: float(digits),
        "str": lambda: text,
    }[kind]()


def _mapping(node: MappingNode, found: list[Problem]) -> dict[str, Any]:
    lines: dict[str, int] = {}
    result: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            found.append((_line(key), "a key must be text"))
        elif key.value in lines:
            found.append((_line(key), f'the key "{key.value}" was already given in line {lines[key.value]}'))
        else:
            lines[key.value] = _line(key)
            result[key.value] = _plain(value, found)
    return result


def _clean(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _line(node: Node) -> int:
    return node.start_mark.line + 1


def _locate(root: Node, location: Location) -> tuple[int, list[str | int]]:
    """The line of a location, and the location without the parts that are not in the file."""
    node, line, path = root, _line(root), []
    for part in location:
        if isinstance(node, MappingNode) and (pair := next((p for p in node.value if p[0].value == part), None)):
            line, node = _line(pair[0]), pair[1]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = _line(node)
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
        return [(line, f'unknown key "{path[-1]}"{_inside(path[:-1])} — {nearest(str(path[-1]), _keys(location[:-1]))}')]
    return [(line, f"{_named(path)} {_demand(details)}")]


def _demand(details: ErrorDetails) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind in {"too_short", "string_too_short"}:
        return "must not be empty"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"must be {' or '.join(_shown(name) for name in known)}, not {_shown(value)}"
    expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else details["msg"]
    return f"must be {expected}, not {_shown(value)}"


def _named(path: list[str | int]) -> str:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return "the recipe"
    return f'item {path[-1] + 1} of "{names[-1]}"' if isinstance(path[-1], int) else f'"{names[-1]}"'


def _inside(path: list[str | int]) -> str:
    text = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path)
    return f" in {text.lstrip('.')}" if text else ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:58] + '…"'


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
