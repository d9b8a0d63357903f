"""The fields of a JSON object, read one by one with the checks of the OpenAI API. null is the same
as nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pomona.models import Bounds
from pomona.web import ApiError, wrong

_MOST_TOKENS = 1 << 31
_KINDS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    list: "an array",
    dict: "an object",
}


class Fields:
    """Takes fields out of an object; `rest` is what nobody took."""

    def __init__(self, body: Mapping[str, Any], where: str = "") -> None:
        self.rest = {name: value for name, value in body.items() if value is not None}
        self._where = where

    def path(self, name: str) -> str:
        """The name of a field as errors give it."""
        return f"{self._where}.{name}" if self._where else name

    def take(self, name: str, kind: type, default: Any = None) -> Any:
        """The field, of exactly this JSON type."""
        value = self.rest.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise mistyped(self.path(name), _KINDS[kind])
        return value

    def need(self, name: str, kind: type) -> Any:
        """The field, which must be there."""
        value = self.take(name, kind)
        if value is None:
            raise missing(self.path(name))
        return value

    def number(
        self,
        name: str,
        low: float,
        high: float,
        default: float | None = None,
        *,
        above: bool = False,
        below: bool = False,
    ) -> float | None:
        """A number from `low` (with `above`: over it) to `high` (with `below`: under it)."""
        value = self.rest.pop(name, None)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise mistyped(self.path(name), "a number")
        if not low <= value <= high or (above and value == low) or (below and value == high):
            bounds = f"from {low:g} to {'below ' if below else ''}{high:g}"
            bounds = f"above {low:g} and at most {high:g}" if above else bounds
            raise bad(self.path(name), f"is {_short(value)}; it must be {bounds}")
        return float(value)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int | None:
        """A whole number from `low` to `high`; 2.0 counts as 2."""
        value = self.rest.get(name)
        if isinstance(value, float) and value.is_integer():
            self.rest[name] = int(value)
        value = self.take(name, int)
        if value is None:
            return default
        if not low <= value <= high:
            raise bad(self.path(name), f"is {_short(value)}; it must be from {low} to {high}")
        return value

    def bounded(self, name: str, bounds: Bounds) -> Any:
        """A number within bounds, None where there is none."""
        if bounds.whole:
            return self.integer(name, int(bounds.low), int(bounds.high))
        return self.number(name, bounds.low, bounds.high, above=bounds.above, below=bounds.below)

    def prompts(
        self, name: str, most: int, *, empty: bool = True
    ) -> tuple[str | tuple[int, ...], ...]:
        """A string, a list of token ids, or a list of 1 to `most` of these; it must be there."""
        value = self.rest.get(name)
        if value is None:
            raise missing(self.path(name))
        several = [value] if isinstance(value, list) and value and _is_ids(value) else value
        if not (
            several and isinstance(several, list) and all(isinstance(one, list) for one in several)
        ):
            return self.texts(name, most, empty=empty, also=" or arrays of token ids") or ()
        del self.rest[name]
        if not 1 <= len(several) <= most:
            raise bad(self.path(name), f"has {len(several)} entries; it must have from 1 to {most}")
        for at, ids in enumerate(several):
            if not ids or not _is_ids(ids):
                raise mistyped(f"{self.path(name)}[{at}]", "an array of token ids, not empty")
        return tuple(map(tuple, several))

    def texts(
        self, name: str, most: int, *, empty: bool = True, also: str = "", least: int = 1
    ) -> tuple[str, ...] | None:
        """A string, or a list of `least` to `most` strings. `also` is what else may stand there."""
        value = self.rest.pop(name, None)
        if value is None:
            return None
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise mistyped(self.path(name), "a string or an array of strings" + also)
        if not least <= len(texts) <= most:
            bounds = f"it must have from {least} to {most}"
            raise bad(self.path(name), f"has {len(texts)} entries; {bounds}")
        if not empty and not all(texts):
            raise bad(self.path(name), "holds an empty string")
        return tuple(texts)

    def objects(self, name: str, most: int) -> tuple[Mapping[str, Any], ...]:
        """A list of at most `most` objects."""
        value = self.take(name, list, [])
        if not all(isinstance(one, dict) for one in value):
            raise mistyped(self.path(name), "an array of objects")
        if len(value) > most:
            raise bad(self.path(name), f"has {len(value)} entries; at most {most} are taken")
        return tuple(value)

    def end(self) -> None:
        """An ApiError when a field is left that nobody knows."""
        for name in self.rest:
            raise bad(self.path(_short(name)), "is not known here", "unknown_parameter")


def _is_ids(values: list[Any]) -> bool:
    return all(type(one) is int and 0 <= one < _MOST_TOKENS for one in values)


def bad(path: str, what: str, code: str = "invalid_value") -> ApiError:
    """The error of the field at `path`, with which its text begins."""
    return wrong(path, f"{path} {what}", code)


def missing(path: str, remedy: str = "") -> ApiError:
    """The error of a field that must be there."""
    return bad(path, f"is missing{remedy}", "missing_required_parameter")


def mistyped(path: str, wanted: str) -> ApiError:
    """The error of a field of the wrong type."""
    return bad(path, f"must be {wanted}", "invalid_type")


def _short(value: object) -> str:
    text = str(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 80 else text[:77] + "…"
