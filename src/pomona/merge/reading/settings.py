"""The `parameters` of a recipe: names, filters, gradients and the kind of every value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pomona.errors import nearest
from pomona.merge.reading.lines import Place
from pomona.merge.reading.parameters import Condition, Scalar, Setting, check_filter, convert
from pomona.merge.reading.reader import Reader, shown
from pomona.merge.reading.references import meant
from pomona.merge.reading.spec import Kind, known_parameters


def parameters(reader: Reader, value: Any, place: Place) -> dict[str, Setting]:
    """A mapping of parameters, without those that the method has not."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        reader.wrong(place, f"expected a mapping of parameters, found {shown(value)}")
        return {}
    found = {
        str(name): _parameter(reader, str(name), item, (*place, name))
        for name, item in value.items()
    }
    return {name: setting for name, setting in found.items() if setting is not None}


def _parameter(reader: Reader, name: str, value: Any, place: Place) -> Setting | None:
    method = reader.method
    known = {item.name for item in method.parameters} if method else known_parameters()
    if name not in known_parameters() and meant(name, known):
        reader.wrong(place, f'unknown parameter "{name}": {nearest(name, known)}')
        return None
    mine = method.parameter(name) if method else None
    if method is not None and mine is None:
        more = '; the type of the result is the recipe\'s own "dtype"' if name == "dtype" else ""
        reader.note(f'parameter "{name}" has no effect in {method.name}{more}')
    return None if mine is None or value is None else _setting(reader, value, mine.kind, place)


def _setting(reader: Reader, value: Any, kind: Kind, place: Place) -> Setting | None:
    if isinstance(value, Mapping):
        return (_condition(reader, value, kind, place),)
    if isinstance(value, list | tuple):
        filtered = [isinstance(item, Mapping) for item in value]
        if filtered and all(filtered):
            return tuple(
                _condition(reader, item, kind, (*place, index)) for index, item in enumerate(value)
            )
        if any(filtered):
            reader.wrong(
                place,
                (
                    "holds values and filters side by side; write {value: …} for the value of "
                    "all other tensors"
                ),
            )
            return None
    return _value(reader, value, kind, place)


def _condition(reader: Reader, value: Any, kind: Kind, place: Place) -> Condition:
    item = reader.mapping(value, place, ("filter", "value"), ("value",))
    rule = item.get("filter")
    if rule is not None and not isinstance(rule, str):
        reader.wrong((*place, "filter"), f"expected text, found {shown(rule)}")
        rule = None
    if rule is not None and (wrong := check_filter(rule)):
        reader.wrong((*place, "filter"), wrong)
    found = (
        _value(reader, item["value"], kind, (*place, "value"))
        if item.get("value") is not None
        else None
    )
    return Condition(rule, 0 if found is None else found)


def _value(
    reader: Reader, value: Any, kind: Kind, place: Place
) -> Scalar | tuple[Scalar, ...] | None:
    many = isinstance(value, list | tuple)
    if many and not value:
        reader.note(f'"{place[-1]}" is an empty list, and has no effect')
    try:
        for item in value if many else [value]:
            if not isinstance(item, bool | int | float | str):
                raise ValueError(f"expected a value, found {shown(item)}")
            convert(item, kind)
    except ValueError as error:
        reader.wrong(place, str(error))
        return None
    return tuple(value) if many else value
