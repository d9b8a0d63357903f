"""`models`, `slices` and `modules` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pomona.merge.reading.document import Module, Slice, Source
from pomona.merge.reading.lines import Place
from pomona.merge.reading.parameters import convert
from pomona.merge.reading.reader import Reader, shown
from pomona.merge.reading.references import ModelRef
from pomona.merge.reading.settings import parameters


def models(reader: Reader, holder: Mapping[str, Any], place: Place) -> tuple[Source, ...]:
    """The `models` of a mapping that may have them."""
    if not holder.get("models"):
        return ()
    return tuple(
        _source(reader, item, here, layered=False)
        for here, item in reader.listed(holder["models"], (*place, "models"))
    )


def slices(reader: Reader, holder: Mapping[str, Any], place: Place) -> tuple[Slice, ...]:
    """The `slices` of a mapping that may have them."""
    if not holder.get("slices"):
        return ()
    return tuple(
        _slice(reader, item, here)
        for here, item in reader.listed(holder["slices"], (*place, "slices"))
    )


def modules(reader: Reader, value: Any) -> dict[str, Module]:
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


def _module(reader: Reader, value: Any, place: Place) -> Module:
    item = reader.mapping(value, place, ("models", "slices", "parameters"))
    if bool(item.get("models")) == bool(item.get("slices")):
        reader.wrong(place, 'give "models" or "slices", one of them')
    settings = parameters(reader, item.get("parameters"), (*place, "parameters"))
    return Module(models(reader, item, place), slices(reader, item, place), settings)


def _slice(reader: Reader, value: Any, place: Place) -> Slice:
    item = reader.mapping(
        value, place, ("sources", "parameters", "base_model", "residual_weight"), ("sources",)
    )
    if item.get("residual_weight") is not None:
        reader.note('"residual_weight" has no effect, as in mergekit')
    base = (
        reader.model(item["base_model"], (*place, "base_model"))
        if item.get("base_model") is not None
        else None
    )
    listed = (
        reader.listed(item["sources"], (*place, "sources"))
        if item.get("sources") is not None
        else []
    )
    sources = tuple(_source(reader, part, here, layered=True) for here, part in listed)
    lengths = {source.layers[1] - source.layers[0] for source in sources if source.layers}
    if len(lengths) > 1:
        reader.wrong(
            place,
            f"its sources have different numbers of layers: {', '.join(map(str, sorted(lengths)))}",
        )
    return Slice(sources, base, parameters(reader, item.get("parameters"), (*place, "parameters")))


def _source(reader: Reader, value: Any, place: Place, *, layered: bool) -> Source:
    needed = ("model", "layer_range") if layered else ("model",)
    item = reader.mapping(value, place, (*needed, "parameters"), needed)
    layers = (
        _layers(reader, item["layer_range"], (*place, "layer_range"))
        if layered and item.get("layer_range") is not None
        else None
    )
    model = (
        reader.model(item["model"], (*place, "model"))
        if item.get("model") is not None
        else ModelRef("?")
    )
    return Source(model, layers, parameters(reader, item.get("parameters"), (*place, "parameters")))


def _layers(reader: Reader, value: Any, place: Place) -> tuple[int, int]:
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
