"""How far answers keep to what they were told, where that can be measured on a text alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa

from pomona.markers.measures import Texts, buckets
from pomona.markers.taxonomy import Marker, Taxonomy, Value

# Tokens need a tokenizer, and "untranslated" the source, which a prompt is more than.
_ELSEWHERE = ("tokens", "untranslated")


class Wishes:
    """What was given of the markers that can be measured, or are buckets of what can."""

    def __init__(self, taxonomy: Taxonomy, given: Mapping[str, Value]) -> None:
        self._markers = taxonomy.markers
        self.values = {name: value for name, value in given.items() if self._measure(name)}

    def kept(self, text: str) -> dict[str, int]:
        """Of each marker 0 where the text has what was wished, -1 where it has less, 1 where it has
        more or another value; none where nothing is known of the text.
        """
        measured = _Measured(text)
        found = {name: self._compared(name, measured) for name in self.values}
        return {name: one for name, one in found.items() if one is not None}

    def _measure(self, name: str) -> str | None:
        marker = self._markers[name]
        if marker.kind == "buckets":
            marker = self._markers[marker.of] if marker.edges and marker.of else marker
        return None if marker.measure in _ELSEWHERE else marker.measure

    def _compared(self, name: str, measured: _Measured) -> int | None:
        marker, wish = self._markers[name], self.values[name]
        has = measured[str(self._measure(name))]
        if has is None:
            return None
        if marker.edges is not None:
            order = list(marker.values)
            (own,) = buckets(pa.array([has]), order, marker.edges, None).to_pylist()
            return _sign(order.index(own) - order.index(str(wish)))
        if marker.kind in ("integer", "float"):
            return _sign(float(has) - float(wish))
        same = same_language if marker.measure == "language" else _same
        return None if _unknown(marker, has) else int(not same(str(has), str(wish)))


class _Measured:
    """What is measured on a text, each once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._known: dict[str, Any] = {}

    @cached_property
    def _texts(self) -> Texts:
        return Texts(pa.array([self._text], pa.string()), None, None)

    def __getitem__(self, measure: str) -> Any:
        if measure not in self._known:
            (self._known[measure],) = self._texts.measured(measure).values.to_pylist()
        return self._known[measure]


def same_language(answer: str, wish: str) -> bool:
    """Whether a language that was recognised, which has no region or script, is the one wished."""
    return answer == wish.replace("-", "_").split("_")[0]


def _same(answer: str, wish: str) -> bool:
    return answer == wish


def _unknown(marker: Marker, has: str) -> bool:
    """Whether a taxonomy does not tell apart what was measured; of languages it has regions."""
    return bool(marker.values) and marker.measure != "language" and has not in marker.values


def _sign(number: float) -> int:
    return int(number > 0) - int(number < 0)
