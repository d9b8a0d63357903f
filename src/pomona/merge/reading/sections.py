"""From a recipe's YAML or mapping to a `MergeRecipe`, section by section, or to an error with a
line for each mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError, nearest
from pomona.merge.reading.parameters import METHODS, convert, method_of, pattern_of
from pomona.merge.reading.reader import KeyPath, MergekitDocument, Reader, parameters, shown
from pomona.merge.reading.recipe import (
    MergeRecipe,
    MergeSource,
    ModelRef,
    RecipeModule,
    Slice,
    TokenizerRule,
    TokenRule,
)

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
_OWN = ("parameters", "seed", "key_map", "integers")


def read_recipe(recipe: str | Path | Mapping[str, Any] | MergekitDocument) -> MergeRecipe:
    """Read and check a recipe: a YAML file, a document of one, or the mapping that is in one.

    Raises PomonaError with a line for each mistake: file, line, what is wrong, and the nearest
    right name.
    """
    document = None
    if not isinstance(recipe, Mapping):
        document = (
            recipe if isinstance(recipe, MergekitDocument) else MergekitDocument(Path(recipe))
        )
    value: Any = recipe if document is None else document.value
    name = "recipe" if document is None else document.label
    if not isinstance(value, Mapping):
        raise PomonaError(
            "a recipe is a mapping of keys and values, and this is not",
            where=name,
            remedy="begin with merge_method: …",
        )
    if "experts" in value and "merge_method" not in value:
        raise PomonaError(
            "is a configuration of a mixture of experts, and no recipe of a merge",
            where=name,
            remedy="pomona merge moe makes it",
        )
    reader = Reader()
    for _, key in document.twice if document else ():
        reader.note(f'"{key}" is given twice, and the last counts')
    built = _build(reader, value)
    mistakes = [
        (document.line(place) if document else 0, _said(place, text))
        for place, text in reader.problems
    ]
    if mistakes:
        raise PomonaError(
            "\n".join(
                f"{name}, line {line}: {text}" if document else f"{name}: {text}"
                for line, text in sorted(set(mistakes))
            )
        )
    return built


def _said(place: KeyPath, text: str) -> str:
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
        base=reader.optional(top, "base_model", (), reader.model),
        dtype=reader.dtype(top, "dtype"),
        out_dtype=reader.dtype(top, "out_dtype"),
        tokenizer=tokenizer(reader, top),
        chat_template=reader.text(top, "chat_template") or None,
        parameters=parameters(reader, top, ()),
        seed=_seed(reader, top.get("seed")),
        key_map=key_map(reader, top.get("key_map")),
        integers=_integers(reader, top.get("integers")),
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


def _integers(reader: Reader, value: Any) -> Any:
    if value in ("equal", "base"):
        return value
    if value is not None:
        reader.wrong(("integers",), f'expected "equal" or "base", found {shown(value)}')
    return "equal"


def _seed(reader: Reader, value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value < 2**64):
        reader.wrong(("seed",), f"expected a whole number from 0 to 2^64 − 1, found {value!r}")
        return None
    return value


def models(reader: Reader, holder: Mapping[str, Any], place: KeyPath) -> tuple[MergeSource, ...]:
    """The `models` of a mapping that may have them."""
    if not holder.get("models"):
        return ()
    return tuple(
        _source(reader, item, here, layered=False)
        for here, item in reader.listed(holder["models"], (*place, "models"))
    )


def slices(reader: Reader, holder: Mapping[str, Any], place: KeyPath) -> tuple[Slice, ...]:
    """The `slices` of a mapping that may have them."""
    if not holder.get("slices"):
        return ()
    place = (*place, "slices")
    found = tuple(
        _slice(reader, item, here) for here, item in reader.listed(holder["slices"], place)
    )
    ranges = [source.layers for piece in found for source in piece.sources]
    if ranges and all(layers and layers[0] == layers[1] for layers in ranges):
        reader.wrong(place, "hold no layers: the end of a layer_range is not included")
    return found


def modules(reader: Reader, value: Any) -> dict[str, RecipeModule]:
    """The `modules` of a recipe."""
    if not value:
        return {}
    if not isinstance(value, Mapping):
        reader.wrong(
            ("modules",),
            f"expected a mapping from module names to models or slices, found {shown(value)}",
        )
        return {}
    return {str(name): _module(reader, item, ("modules", name)) for name, item in value.items()}


def _module(reader: Reader, value: Any, place: KeyPath) -> RecipeModule:
    item = reader.mapping(value, place, ("models", "slices", "parameters"))
    if bool(item.get("models")) == bool(item.get("slices")):
        reader.wrong(place, 'give "models" or "slices", one of them')
    settings = parameters(reader, item, place)
    return RecipeModule(models(reader, item, place), slices(reader, item, place), settings)


def _slice(reader: Reader, value: Any, place: KeyPath) -> Slice:
    item = reader.mapping(
        value, place, ("sources", "parameters", "base_model", "residual_weight"), ("sources",)
    )
    if item.get("residual_weight") is not None:
        reader.note('"residual_weight" has no effect, as in mergekit')
    base = reader.optional(item, "base_model", place, reader.model)
    listed = reader.optional(item, "sources", place, reader.listed) or []
    sources = tuple(_source(reader, part, here, layered=True) for here, part in listed)
    lengths = {source.layers[1] - source.layers[0] for source in sources if source.layers}
    if len(lengths) > 1:
        reader.wrong(
            place,
            f"its sources have different numbers of layers: {', '.join(map(str, sorted(lengths)))}",
        )
    return Slice(sources, base, parameters(reader, item, place))


def _source(reader: Reader, value: Any, place: KeyPath, *, layered: bool) -> MergeSource:
    needed = ("model", "layer_range") if layered else ("model",)
    item = reader.mapping(value, place, (*needed, "parameters"), needed)
    layers = None
    if layered:
        layers = reader.optional(item, "layer_range", place, partial(_layers, reader))
    model = reader.optional(item, "model", place, reader.model) or ModelRef("?")
    return MergeSource(model, layers, parameters(reader, item, place))


def _layers(reader: Reader, value: Any, place: KeyPath) -> tuple[int, int]:
    try:
        first, end = (int(convert(item, "count")) for item in value)
    except (TypeError, ValueError):
        first, end = 1, 0
    if not 0 <= first <= end:
        reader.wrong(
            place, f"expected [first, end], where the end is not included, found {value!r}"
        )
        return (0, 1)
    if first == end:
        reader.note(f"layer_range [{first}, {end}] holds no layers")
    return (first, end)


def tokenizer(reader: Reader, top: Mapping[str, Any]) -> TokenizerRule | None:
    """The rule for the result's tokenizer, or None."""
    source, rule = top.get("tokenizer_source"), top.get("tokenizer")
    if source is not None and rule is not None:
        reader.wrong(("tokenizer",), 'give "tokenizer" or "tokenizer_source", not both')
    if source is not None:
        return TokenizerRule(_tokenizer_source(reader, source, ("tokenizer_source",)))
    if rule is None:
        return None
    item = reader.mapping(rule, ("tokenizer",), ("source", "tokens", "pad_to_multiple_of"))
    multiple = _whole(item.get("pad_to_multiple_of") or None)
    if multiple is not None and multiple < 1:
        reader.wrong(
            ("tokenizer", "pad_to_multiple_of"),
            f"expected a whole number of at least 1, found {item['pad_to_multiple_of']!r}",
        )
    tokens = item.get("tokens") or {}
    if not isinstance(tokens, Mapping):
        reader.wrong(
            ("tokenizer", "tokens"),
            f"expected a mapping from tokens to rules, found {shown(tokens)}",
        )
        tokens = {}
    rules = {
        str(token): _token(reader, value, ("tokenizer", "tokens", token))
        for token, value in tokens.items()
    }
    return TokenizerRule(
        _tokenizer_source(reader, item.get("source") or "union", ("tokenizer", "source")),
        rules,
        multiple,
    )


def _tokenizer_source(reader: Reader, value: Any, place: KeyPath) -> Any:
    return value if value in ("union", "base") else reader.model(value, place)


def _token(reader: Reader, value: Any, place: KeyPath) -> TokenRule:
    item = reader.mapping({} if value is None else value, place, ("source", "force"))
    source, force = item.get("source"), _force(reader, item.get("force", False), (*place, "force"))
    place = (*place, "source")
    if not isinstance(source, Mapping) or "kind" not in source:
        return TokenRule(None if source is None else reader.model(source, place), force=force)
    if source["kind"] == "zero":
        reader.mapping(source, place, ("kind",))
        return TokenRule("zero", force=force)
    if source["kind"] != "model_token":
        reader.wrong(
            place,
            (
                f'unknown kind "{source["kind"]}": '
                f"{nearest(str(source['kind']), ('zero', 'model_token'))}"
            ),
        )
        return TokenRule()
    reader.mapping(source, place, ("kind", "model", "token_id", "token"), ("model",))
    number, text = _whole(source.get("token_id")), source.get("token")
    if (number is None) == (text is None):
        reader.wrong(place, 'give "token_id" or "token", one of them')
    elif (number is not None and number < 0) or (text is not None and not isinstance(text, str)):
        reader.wrong(place, '"token_id" is a whole number and "token" a text')
    model = reader.optional(source, "model", place, reader.model)
    return TokenRule(model, number, text, force)


def _whole(value: Any) -> int | None:
    """A whole number, also written as text; −1 for anything else, None for nothing."""
    try:
        return None if value is None else int(convert(value, "count"))
    except (TypeError, ValueError):
        return -1


def _force(reader: Reader, value: Any, place: KeyPath) -> bool:
    try:
        return (
            bool(convert(value, "flag")) if isinstance(value, bool | int | float | str) else False
        )
    except ValueError as error:
        reader.wrong(place, str(error))
        return False


def key_map(reader: Reader, value: Any) -> Any:
    """The prefixes that make tensors of different models meet."""
    if value is None or value == "auto":
        return value or {}
    if not isinstance(value, Mapping):
        reader.wrong(
            ("key_map",),
            f'expected "auto" or a mapping from models to prefixes, found {shown(value)}',
        )
        return {}
    for model, rules in value.items():
        place = ("key_map", model)
        if rules != "auto" and not isinstance(rules, Mapping):
            reader.wrong(
                place,
                'expected "auto" or a mapping from prefixes or patterns in this model to those in '
                f"the result, found {shown(rules)}",
            )
        for old, new in rules.items() if isinstance(rules, Mapping) else ():
            if not isinstance(new, str):
                reader.wrong((*place, old), f"expected text, found {shown(new)}")
                continue
            try:
                pattern_of(old, new)
            except ValueError as error:
                reader.wrong((*place, old), str(error))
    return {str(model): rules for model, rules in value.items()}
