"""From a recipe's YAML or mapping to a `MergeRecipe`, or to an error with a line for each
mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.merge.reading.document import MergeRecipe
from pomona.merge.reading.lines import Document, Place
from pomona.merge.reading.reader import Reader
from pomona.merge.reading.sections import models, modules, slices
from pomona.merge.reading.settings import parameters
from pomona.merge.reading.spec import METHODS, method_of
from pomona.merge.reading.vocabulary import key_map, tokenizer

_MERGEKIT = (
    "models",
    "slices",
    "modules",
    "merge_method",
    "base_model",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
)
_OWN = ("parameters", "seed", "key_map")


def read(recipe: str | Path | Mapping[str, Any]) -> MergeRecipe:
    """See `pomona.merge.reading.document.read_recipe`."""
    document = None if isinstance(recipe, Mapping) else Document(Path(recipe))
    value: Any = recipe if document is None else document.value
    name = "recipe" if isinstance(recipe, Mapping) else str(recipe)
    if not isinstance(value, Mapping):
        raise PomonaError(
            "a recipe is a mapping of keys and values, and this is not",
            where=name,
            remedy="begin with merge_method: …",
        )
    reader = Reader()
    for _, key in document.twice if document else ():
        reader.note(f'"{key}" is given twice, and the last counts')
    built = _build(reader, value)
    found = [
        (document.line(place) if document else 0, _said(place, text))
        for place, text in reader.problems
    ]
    if found:
        raise PomonaError(
            "\n".join(
                f"{name}, line {line}: {text}" if document else f"{name}: {text}"
                for line, text in sorted(set(found))
            )
        )
    return built


def _said(place: Place, text: str) -> str:
    path = ".".join(str(step) for step in place)
    return f"{path}: {text}" if path else text


def _build(reader: Reader, value: Mapping[str, Any]) -> MergeRecipe:
    top = reader.mapping(value, (), (*_MERGEKIT, *_OWN), ("merge_method",))
    method = _method(reader, top)
    given = [key for key in ("models", "slices", "modules") if top.get(key)]
    if len(given) != 1:
        reader.wrong(
            (), f"give one of models, slices and modules, found {' and '.join(given) or 'none'}"
        )
    return MergeRecipe(
        method=method,
        models=models(reader, top, ()),
        slices=slices(reader, top, ()),
        modules=modules(reader, top.get("modules")),
        base=reader.model(top["base_model"], ("base_model",))
        if top.get("base_model") is not None
        else None,
        dtype=reader.dtype(top, "dtype"),
        out_dtype=reader.dtype(top, "out_dtype"),
        tokenizer=tokenizer(reader, top),
        chat_template=reader.text(top, "chat_template") or None,
        parameters=parameters(reader, top.get("parameters"), ("parameters",)),
        seed=_seed(reader, top.get("seed")),
        key_map=key_map(reader, top.get("key_map")),
        raw=dict(value),
        notes=tuple(dict.fromkeys(reader.notes)),
    )


def _method(reader: Reader, top: Mapping[str, Any]) -> str:
    name = reader.text(top, "merge_method") or ""
    reader.method = METHODS.get(name)
    if name:
        try:
            method_of(name)
        except PomonaError as error:
            reader.wrong(("merge_method",), f"{error.message}; {error.remedy}")
    return name


def _seed(reader: Reader, value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value < 2**64):
        reader.wrong(("seed",), f"expected a whole number from 0 to 2^64 − 1, found {value!r}")
        return None
    return value
