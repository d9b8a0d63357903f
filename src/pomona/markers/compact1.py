"""Compact lists as they were first: a digit or letter for one of several values, `_` where nothing
is known, other values with `;` behind them, nothing between places, and what is unknown at the end
left out. They are those of checkpoints whose markers.json is of format 1.

Neighbours could be one token (`00`, `__`), and a list that lost a place was one of other markers.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping

from pomona.markers.taxonomy import Marker, Taxonomy

BEFORE, BETWEEN, TRIMMED = "", "", ";_"
UNKNOWN = "_"
_ENDING = ";"
_SIGNS = string.digits + string.ascii_lowercase + string.ascii_uppercase
_ESCAPED = {char: f"%{ord(char):02X}" for char in "%;|~\n\r"}


def signs_of(taxonomy: Taxonomy) -> dict[str, Mapping[str, str]]:
    """The sign of each value, by marker; none of those whose values are written out."""
    signs = {name: _signs(one) for name, one in taxonomy.listed.items()}
    return {name: one for name, one in signs.items() if one}


def _signs(marker: Marker) -> dict[str, str]:
    names = list(marker.values)
    if len(names) > len(_SIGNS):
        return {}
    if all(len(one) == 1 and one in _SIGNS for one in names):
        return {one: one for one in names}
    return dict(zip(names, _SIGNS, strict=False))


def place(signs: Mapping[str, str] | None, told: str | None) -> str:
    """A place of a list: a marker's value as text, None where it is not known."""
    if signs is not None:
        return UNKNOWN if told is None else signs[told]
    told = "".join(_ESCAPED.get(char, char) for char in told or "")
    return f"{told.removesuffix('_')}%5F;" if told.endswith("_") else f"{told};"


def places_of(
    text: str, taxonomy: Taxonomy, *, whole: bool
) -> Iterator[tuple[str, str | None, bool]]:
    """The markers of a list, or of what may become one where it is not `whole`: name, value as text
    or None, and whether it is written out. ValueError where it is none.
    """
    signs = signs_of(taxonomy)
    for name in taxonomy.listed:
        if not text:
            return
        if name in signs:
            told, text = text[0], text[1:]
            yield name, _value(told, signs[name]), False
        else:
            told, _, text = text.partition(_ENDING)
            yield name, told or None, True
    if text:
        raise ValueError(text)


def _value(sign: str, signs: Mapping[str, str]) -> str | None:
    if sign == UNKNOWN:
        return None
    for value, own in signs.items():
        if own == sign:
            return value
    raise ValueError(sign)
