"""What markers there are: a YAML file with the kind of each and where its value is from."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pomona.answers.categories import Category, Definitions
from pomona.documents import StrictModel, problems, read_model
from pomona.errors import PomonaError, nearest

PAPER = "paper"
Value = str | int | float
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = {"form", "line"}  # of columns of rows
_ENDS = ("_by", "_sure", "_form")  # of columns beside a marker's
FORMALITY = {"Formal", "Informal"}
_COUNTS = {"tokens", "characters", "words", "sentences", "paragraphs"}


def _named(value: Any) -> Any:
    """Values that are written as a list, without definitions."""
    if not isinstance(value, list):
        return value
    for at, one in enumerate(value):
        if isinstance(one, int | float):
            text = f'a value is a text: write "{one}", with the marks around it'
            raise problems([((), text)])
        if one in value[:at]:
            raise problems([((), f'"{one}" is there twice')])
    return {one: {} for one in value} if all(isinstance(one, str) for one in value) else value


Values = Annotated[
    dict[str, Category],
    BeforeValidator(_named, json_schema_input_type=list[str] | dict[str, Category]),
]


class Marker(StrictModel):
    """A marker: what its values are, and where they are from. A column comes first, then what can
    be measured, then a model that is shown the definitions of the values.
    """

    kind: Literal["float", "integer", "values", "buckets", "text"]
    """float, integer or text; one of `values`; or the bucket that another marker's number is in."""
    values: Values = Field(default={})
    """Of values and buckets: their names, or names with definitions, examples and rules."""
    question: str | None = None
    """What a model is asked, where values have definitions."""
    column: Annotated[str, Field(min_length=1)] | None = None
    """Column that says it."""
    measure: Literal[
        "tokens", "characters", "words", "sentences", "paragraphs", "language", "format", "code",
        "formality", "untranslated",
    ] | None = None  # fmt: skip
    """What is measured on the text where no column says it."""
    of: str | None = None
    """Of buckets: the marker of the number."""
    edges: list[float] | None = None
    """Of buckets: the least number of each but the first; quantiles with the largest numbers in the
    first bucket when left out."""
    within: str | None = None
    """Of quantiles: the marker in whose groups they are taken."""
    listed: bool = True
    """Whether it stands in lists; one that only others are made of, as the number of buckets, need
    not.
    """

    @property
    def defined(self) -> bool:
        """Whether all values have definitions or rules, so that a row can be put in them."""
        told = [one.definition is not None or bool(one.rules) for one in self.values.values()]
        return self.kind == "values" and bool(told) and all(told)

    def definitions(self, name: str) -> Definitions:
        """The values as categories of the name."""
        question = self.question or f"Which {name.replace('_', ' ')} does the text have?"
        return Definitions(name=name, question=question, categories=self.values)

    def wrong(self, value: Any) -> str | None:
        """What is wrong with a value, None where it is one of the marker's."""
        if self.kind in ("values", "buckets"):
            if value in self.values:
                return None
            return f"is {str(value)[:60]!r}, which is none of its values — " + nearest(
                str(value), self.values
            )
        if self.kind == "text":
            fine = isinstance(value, str) and value.strip() == value and value
            return None if fine else f"is {str(value)[:60]!r}, and must be a text"
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            return f"is {str(value)[:60]!r}, and must be a number"
        if self.kind == "integer" and value != int(value):
            return f"is {value:g}, and must be a whole number"
        return None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """The keys that do not fit the kind, and why."""
        several = self.kind in ("values", "buckets")
        if several and len(self.values) < 2:
            yield "values", f'a marker of kind "{self.kind}" needs two values or more'
        if not several and self.values:
            yield "values", f'a marker of kind "{self.kind}" has no list of values'
        for name in self.values:
            if not name or name != " ".join(name.split()):
                yield "values", f'"{name}" is no name of a value: one line without outer blanks'
        if self.kind == "buckets" and self.of is None:
            yield "kind", 'buckets need "of", the marker of the number'
        for key in ("of", "edges", "within"):
            if self.kind != "buckets" and getattr(self, key) is not None:
                yield key, f'"{key}" is for buckets alone'
        if self.edges is not None:
            if len(self.edges) != len(self.values) - 1:
                yield "edges", f'"edges" must be {len(self.values) - 1} numbers, one between values'
            if sorted(set(self.edges)) != self.edges:
                yield "edges", '"edges" must grow'
        if self.measure and (wrong := self._mismeasured()):
            yield "measure", wrong

    def _mismeasured(self) -> str | None:
        if self.measure in _COUNTS:
            fits = self.kind in ("integer", "float")
            return None if fits else f'"{self.measure}" is a number: make the kind "integer"'
        if self.kind not in ("values", "text"):
            return f'"{self.measure}" is no number: make the kind "values" or "text"'
        if self.measure == "untranslated" and set(self.values) != {"yes", "no"}:
            return '"untranslated" is yes or no: make these the values'
        if self.measure == "formality" and self.values and not set(self.values) >= FORMALITY:
            return '"formality" is Formal or Informal: have both among the values'
        return None


class Taxonomy(StrictModel):
    """Markers by name, in the order of lists."""

    extends: Literal["paper"] | None = None
    """Take the markers of the paper too; what is here replaces those of the same name."""
    without: list[str] = Field(default=[])
    """Markers of the paper that are left out."""
    markers: dict[str, Marker] = Field(default={})
    """The markers."""

    @property
    def digest(self) -> str:
        """Equal digests mean the same."""
        told = self.model_dump_json(exclude_defaults=True)  # the same where markers learn more
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    @property
    def whole(self) -> Taxonomy:
        """With those of the paper that it extends."""
        if self.extends is None:
            return self
        every = {**read_taxonomy(PAPER).markers, **self.markers}
        kept = {name: one for name, one in every.items() if name not in self.without}
        return Taxonomy(markers=kept)

    @property
    def listed(self) -> dict[str, Marker]:
        """Those that stand in lists."""
        return {name: one for name, one in self.markers.items() if one.listed}

    def marker(self, name: str) -> Marker:
        """The marker of a name. Raises PomonaError with the nearest where there is none."""
        if name not in self.markers:
            raise PomonaError(f'no marker "{name}"', remedy=nearest(name, self.markers))
        return self.markers[name]

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise PomonaError for a marker that is in no list, and a value that is none of its."""
        for name, value in values.items():
            if not self.marker(name).listed:
                remedy = nearest(name, self.listed)
                raise PomonaError(f'marker "{name}" does not stand in lists', remedy=remedy)
            if (wrong := self.marker(name).wrong(value)) is not None:
                raise PomonaError(f'marker "{name}" {wrong}')

    @model_validator(mode="after")
    def _check(self) -> Self:
        if wrong := list(self._mistakes()):
            raise problems(wrong)
        return self

    def _mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        known = self.markers
        if self.extends:
            known = {**read_taxonomy(PAPER).markers, **known}
        for at, name in enumerate(self.without):
            if not self.extends or name not in known:
                rest = nearest(name, known) if self.extends else 'give "extends: paper"'
                yield ("without", at), f'no marker "{name}" to leave out — {rest}'
        known = {name: one for name, one in known.items() if name not in self.without}
        if not any(one.listed for one in known.values()):
            yield ("markers",), "there are no markers" + (" that are listed" if known else "")
        for name, one in self.markers.items():
            place = ("markers", name)
            if not _NAME.fullmatch(name) or name.endswith(_ENDS) or name in _RESERVED:
                ends = " or ".join(_ENDS)
                text = f'"{name}" is no name: a-z, 0-9 and _, and it does not end in {ends}'
                yield place, text
            yield from (((*place, key), text) for key, text in one.mistakes())
            for key in ("of", "within"):
                other = getattr(one, key)
                if other is not None and (other not in known or other == name):
                    yield (*place, key), f'no marker "{other}" — {nearest(other, known)}'
            number = known.get(one.of or "")
            if number is not None and number.kind not in ("integer", "float"):
                yield (*place, "of"), f'"{one.of}" is no number'
        yield from _circles(known)
        for name, one in known.items():
            for other in (one.of, one.within):
                if name not in self.markers and other is not None and other not in known:
                    yield ("without",), f'"{name}" needs "{other}": leave it out too'


def _circles(markers: Mapping[str, Marker]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Markers whose groups are made within their own."""
    for name, one in markers.items():
        other, passed = one.within, {name}
        while other is not None and other in markers and other not in passed:
            passed.add(other)
            other = markers[other].within
        if other == name != one.within:
            text = f'"{name}" is within itself, by way of "{one.within}"'
            yield ("markers", name, "within"), text


def read_taxonomy(path: str | Path = PAPER) -> Taxonomy:
    """The markers of a YAML file, or "paper": those of the paper. Raises PomonaError with every
    mistake and its line.
    """
    own = Path(__file__).with_name("paper.yaml") if str(path) == PAPER else Path(path)
    told = read_model(own, Taxonomy, kind="taxonomy of markers", example="docs/markers.md")
    return told.whole
