"""Models of what stands in a document, and what pydantic says about them in words: the line, the
key, what was expected, and the nearest right name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from yaml.nodes import MappingNode, Node, SequenceNode

from pomona.documents.yaml_file import (
    Problem,
    clean,
    compose,
    line_of,
    read_yaml,
    shown,
    told,
)
from pomona.errors import PomonaError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

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
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "string_pattern_mismatch": (
        "made of letters, digits, dots, hyphens and underscores, and start with a letter or a digit"
    ),
}


class StrictModel(BaseModel):
    """A section of a document: unknown keys and values of another type are errors. The docstring of
    a field is its description.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def problems(several: list[tuple[Location, str]]) -> PydanticCustomError:
    """One error that carries several: where each is, from the model that raises it, and what is
    wrong.
    """
    text = "; ".join(text for _, text in several)
    return PydanticCustomError("problems", "{text}", {"text": text, "several": several})


def read_model(path: str | Path, model: type[Model], *, kind: str, example: str) -> Model:
    """Read a YAML file as a model; `kind` is the word for such a file in messages, `example` says
    where to see a right one.

    Raises PomonaError as `read_yaml` does, and with all mistakes at once, each in a line: file,
    line, what is wrong, and the nearest right name.
    """
    document = read_yaml(path, kind, example)
    if not isinstance(document.value, dict):
        text = f"a {kind} is a mapping of keys and values, and this is not"
        raise told(document.path, [(line_of(document.root), text)])
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        mistakes = [
            problem
            for details in error.errors()
            for problem in _explain(details, model, document.root, kind)
        ]
    raise told(document.path, mistakes)


def model_of(value: object, model: type[Model], *, kind: str) -> Model:
    """A value that stands in no file as a model. Raises PomonaError with all mistakes at once."""
    text = json.dumps(value, default=str)
    try:
        return model.model_validate(json.loads(text))
    except ValidationError as error:
        root = compose(text, kind)
        assert root is not None
        found = [problem for one in error.errors() for problem in _explain(one, model, root, kind)]
    raise PomonaError("; ".join(clean(text) for _, text in found), where=kind)


def _explain(
    details: ErrorDetails, model: type[BaseModel], root: Node, kind: str
) -> Iterator[Problem]:
    location, context = details["loc"], details.get("ctx", {})
    if details["type"] == "problems":
        for inner, text in context["several"]:
            yield _locate(root, (*location, *inner))[0], text
        return
    line, path = _locate(root, location)
    if details["type"] == "missing":
        yield line, f'"{location[-1]}" is missing{_inside(path)}'
    elif details["type"] == "extra_forbidden":
        remedy = nearest(str(path[-1]), _keys(model, location[:-1]))
        yield line, f'unknown key "{path[-1]}"{_inside(path[:-1])} — {remedy}'
    else:
        yield line, f"{_named(path, kind)} {_demand(details)}"


def _locate(root: Node, location: Location) -> tuple[int, list[str | int]]:
    """The line of a location, and the location without the parts that are not in the file: pydantic
    names the branches of unions in it too, some of which are called as the key that tells them.
    """
    node, line, path = root, line_of(root), []
    for part, then in zip(location, (*location, None)[1:], strict=True):
        if isinstance(node, MappingNode) and (
            pair := next((p for p in node.value if p[0].value == part), None)
        ):
            within = {key.value for key, _ in node.value}
            if then in within and not isinstance(pair[1], MappingNode | SequenceNode):
                continue
            line, node = line_of(pair[0]), pair[1]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = line_of(node)
        else:
            continue
        path.append(part)
    return line, path


def _demand(details: ErrorDetails) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind in {"too_short", "string_too_short"}:
        return "must not be empty"
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"must be {' or '.join(shown(name) for name in known)}, not {shown(value)}"
    expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else details["msg"]
    return f"must be {expected}, not {shown(value)}"


def _named(path: list[str | int], kind: str) -> str:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return f"the {kind}"
    return f'item {path[-1] + 1} of "{names[-1]}"' if isinstance(path[-1], int) else f'"{path[-1]}"'


def _inside(path: list[str | int]) -> str:
    text = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path)
    return f" in {text.lstrip('.')}" if text else ""


def _keys(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that the model at a location knows."""
    branches: dict[Any, type[BaseModel]] = {}  # of the union that was met last, by their tags
    for part in location:
        field = next((one for key, one in _fields(model) if key == part), None)
        if part in branches:
            model = branches[part]
        elif field is not None:
            model, branches = next(_models(field.annotation), model), {}
            branches.update(_tagged(field.annotation))
    return [key for key, _ in _fields(model)]


def _tagged(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models of a union by their tags."""
    inner = get_args(annotation)
    for tag in inner[1:]:
        if isinstance(tag, Tag):
            yield from ((tag.tag, model) for model in _models(inner[0]))
    for one in inner:
        yield from _tagged(one)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a model by the keys that a document writes."""
    return ((field.alias or name, field) for name, field in model.model_fields.items())


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
