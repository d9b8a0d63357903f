"""Free parameters of a merge: numbers of a recipe that are searched or swept instead of written
down.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pomona.errors import PomonaError, nearest

Value = float | bool
# sections of a recipe that are about searching, not about the merge itself
SECTIONS = ("search", "evaluate")


@dataclass(frozen=True)
class Free:
    """A free parameter: a number from `low` to `high`, or one of `choices`. Raises PomonaError when
    that is no choice at all.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    choices: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if self.choices:
            if len(set(self.choices)) < len(self.choices):
                raise PomonaError("names a choice twice", where=self.name, remedy="name each once")
        elif not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            message = f"cannot be searched from {self.low} to {self.high}"
            raise PomonaError(
                message, where=self.name, remedy="write {search: [LOW, HIGH]} with LOW below HIGH"
            )

    def at(self, unit: float) -> Value:
        """The value at a place in [0, 1]; numbers are rounded to six digits, so that a recipe can
        hold them as they were scored.
        """
        unit = min(max(float(unit), 0.0), 1.0)
        if self.choices:
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        if unit in (0.0, 1.0):
            return self.high if unit else self.low
        return min(
            max(float(f"{self.low + unit * (self.high - self.low):.6g}"), self.low), self.high
        )

    def axis(self, points: int) -> tuple[Value, ...]:
        """Every choice, or `points` numbers at equal distances, both ends among them."""
        return self.choices or tuple(self.at(index / (points - 1)) for index in range(points))

    def document(self) -> dict[str, Any]:
        """As it is written in a recipe."""
        if self.choices:
            return {"name": self.name, "choices": list(self.choices)}
        return {"name": self.name, "search": [self.low, self.high]}


@dataclass(frozen=True)
class Space:
    """The free parameters of a merge, in order, each name once."""

    free: tuple[Free, ...]

    def __post_init__(self) -> None:
        if not self.free:
            raise PomonaError(
                "there is nothing to search",
                remedy="write {search: [0, 1]} in place of a number, for example of a weight",
            )
        if len({free.name for free in self.free}) < len(self.free):
            raise PomonaError("two free parameters have one name", remedy="give each its own")

    @classmethod
    def of(cls, ranges: Mapping[str, tuple[float, float] | Sequence[Value]]) -> Space:
        """From names to (low, high), a tuple, or to a list of choices."""
        frees = [
            Free(name, float(given[0]), float(given[1]))
            if isinstance(given, tuple)
            else Free(name, choices=tuple(given))
            for name, given in ranges.items()
        ]
        return cls(tuple(frees))

    @property
    def names(self) -> list[str]:
        """Names of the parameters."""
        return [free.name for free in self.free]

    def at(self, units: Sequence[float]) -> dict[str, Value]:
        """The values at a point of the unit cube."""
        return {
            free.name: free.at(float(unit)) for free, unit in zip(self.free, units, strict=True)
        }

    def middle(self) -> dict[str, Value]:
        """The values in the middle of every range: where equal ranges are searched, the equal
        weights.
        """
        return self.at([0.5] * len(self.free))

    def document(self) -> list[dict[str, Any]]:
        """Every parameter as it is written in a recipe."""
        return [free.document() for free in self.free]


def space_of(recipe: Mapping[str, Any]) -> Space:
    """The free parameters of a recipe: wherever a number stands in `parameters`,
    `{search: [low, high]}` or `{choices: [a, b]}` may stand.

    A parameter is called by its `name`, which several places may share, or else by its place:
    `models.0.weight`. Raises PomonaError for one that cannot be read, for a name with two meanings,
    and when there is none.
    """
    return Space(tuple(_frees(recipe)))


def has_free(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe has free parameters."""
    return any(True for _ in _places(recipe))


def _frees(recipe: Mapping[str, Any]) -> list[Free]:
    frees: dict[str, Free] = {}
    for place, value in _places(recipe):
        free = _read(place, value)
        if frees.setdefault(free.name, free) != free:
            raise PomonaError(
                f'"{free.name}" is already free in another way',
                where=".".join(map(str, place)),
                remedy="write the same in both places, or another name",
            )
    return list(frees.values())


def fill(recipe: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of one candidate: its free parameters replaced by `values`, sections about
    searching left out.

    Raises PomonaError for a name the recipe does not have and for a free parameter without a value.
    """
    merge = copy.deepcopy({key: value for key, value in recipe.items() if key not in SECTIONS})
    names = set()
    for place, value in list(_places(merge)):
        name = _read(place, value).name
        names.add(name)
        if name not in values:
            raise PomonaError(
                f'the free parameter "{name}" has no value',
                remedy=f"give one, for example {name}=0.5",
            )
        _put(merge, place, values[name])
    for name in values:
        if name not in names:
            _put(merge, _number_at(merge, name, names), values[name])
    return merge


def _put(recipe: Any, place: tuple[str | int, ...], value: Any) -> None:
    for part in place[:-1]:
        recipe = recipe[part]
    recipe[place[-1]] = value


def _number_at(recipe: dict[str, Any], name: str, names: set[str]) -> tuple[str | int, ...]:
    """The place of a number that a name such as `models.0.parameters.weight` points at."""
    place: list[str | int] = []
    node: Any = recipe
    for part in name.split("."):
        key: Any = int(part) if isinstance(node, list) and part.isdigit() else part
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            raise PomonaError(
                f'the recipe has no free parameter "{name}" and nothing at that place',
                remedy=(
                    nearest(name, names)
                    if names
                    else "write {search: [0, 1], name: NAME} in the recipe, or the place of a "
                    "number"
                ),
            ) from None
        place.append(key)
    if "parameters" not in place or not isinstance(node, int | float):
        raise PomonaError(
            f'"{name}" is not a number in `parameters`',
            remedy="name the place of one, such as parameters.t",
        )
    return tuple(place)


def _places(
    node: Any, place: tuple[str | int, ...] = (), inside: bool = False
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Where free parameters stand, in the order of the recipe."""
    if isinstance(node, Mapping):
        if inside and ("search" in node or "choices" in node):
            yield place, dict(node)
            return
        for key, value in node.items():
            if not place and key in SECTIONS:
                continue
            yield from _places(value, (*place, key), inside or key == "parameters")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _places(value, (*place, index), inside)


def _read(place: tuple[str | int, ...], value: Mapping[str, Any]) -> Free:
    where = ".".join(map(str, place))
    unknown = sorted(map(str, set(value) - {"search", "choices", "name"}))
    if unknown:
        raise PomonaError(
            f'unknown key "{unknown[0]}"',
            where=where,
            remedy=nearest(unknown[0], ["search", "choices", "name"]),
        )
    if ("search" in value) == ("choices" in value):
        raise PomonaError(
            "has both a range and choices", where=where, remedy="keep one of `search` and `choices`"
        )
    name = value.get("name") or ".".join(str(part) for part in place if part != "parameters")
    if not isinstance(name, str):
        raise PomonaError(f"its name {name!r} is not text", where=where, remedy="write a word")
    if "choices" in value:
        choices = value["choices"]
        if (
            not isinstance(choices, list)
            or not choices
            or not all(isinstance(one, int | float) for one in choices)
        ):
            raise PomonaError(
                "`choices` is not a list of numbers",
                where=where,
                remedy="write {choices: [0.3, 0.5, 0.7]}",
            )
        return Free(
            name, choices=tuple(one if isinstance(one, bool) else float(one) for one in choices)
        )
    ends = value["search"]
    if (
        not isinstance(ends, list)
        or len(ends) != 2
        or not all(isinstance(e, int | float) and not isinstance(e, bool) for e in ends)
    ):
        raise PomonaError(
            "`search` is not a range", where=where, remedy="write {search: [LOW, HIGH]}"
        )
    return Free(name, float(ends[0]), float(ends[1]))
