"""What every section of a recipe needs: checks that gather mistakes with their place instead of
raising the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pomona.errors import nearest
from pomona.merge.reading.lines import Place
from pomona.merge.reading.references import ModelRef, meant, parse_model
from pomona.merge.reading.spec import Method, known_parameters

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}


class Reader:
    """Reads parts of a recipe. `problems` holds what is wrong and where, `notes` what has no
    effect; `method` is None until it is known.
    """

    def __init__(self) -> None:
        self.problems: list[tuple[Place, str]] = []
        self.notes: list[str] = []
        self.method: Method | None = None

    def wrong(self, place: Place, text: str) -> None:
        """Take down a mistake."""
        self.problems.append((place, text))

    def note(self, text: str) -> None:
        """Take down what has no effect."""
        self.notes.append(text)

    def mapping(
        self, value: Any, place: Place, known: tuple[str, ...], needed: tuple[str, ...] = ()
    ) -> Mapping[str, Any]:
        """`value` when it is a mapping, its unknown and missing keys taken down; an empty one
        otherwise.

        Unknown keys are noted and have no effect, as in mergekit; those that are nearly a known one
        are mistakes.
        """
        if not isinstance(value, Mapping):
            self.wrong(
                place, f"expected a mapping with {', '.join(known[:4])}, found {shown(value)}"
            )
            return {}
        for key in map(str, value):
            if key not in known and meant(key, known):
                self.wrong((*place, key), f'unknown key "{key}": {nearest(key, known)}')
            elif key not in known:
                stray = ' outside "parameters"' if key in known_parameters() else ""
                self.note(f'"{key}"{stray} has no effect')
        for key in needed:
            if value.get(key) is None:
                self.wrong(place, f'"{key}" is missing')
        return cast("Mapping[str, Any]", value)

    def listed(self, value: Any, place: Place) -> list[tuple[tuple[str | int, ...], Any]]:
        """The items of a list with their places; none when it is not a list."""
        if not isinstance(value, list | tuple) or not value:
            self.wrong(place, f"expected a list with at least one item, found {shown(value)}")
            return []
        return [((*place, index), item) for index, item in enumerate(value)]

    def model(self, value: Any, place: Place) -> ModelRef:
        """A model; a stand-in when it is malformed."""
        try:
            return parse_model(value, self.note)
        except ValueError as error:
            self.wrong(place, str(error))
            return ModelRef("?")

    def text(self, top: Mapping[str, Any], key: str) -> str | None:
        """The text under a key of the recipe."""
        value = top.get(key)
        if value is None or isinstance(value, str):
            return value
        self.wrong((key,), f"expected text, found {shown(value)}")
        return None

    def dtype(self, top: Mapping[str, Any], key: str) -> str | None:
        """The float type under a key of the recipe, as safetensors names it."""
        value = self.text(top, key)
        if not value:
            return None
        name = value.removeprefix("torch.")
        if name not in DTYPES:
            self.wrong((key,), f'unknown {key} "{value}": {nearest(name, DTYPES)}')
        return DTYPES.get(name)


def shown(value: Any) -> str:
    """A value as an error message tells it."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return "nothing" if value is None else repr(value)
