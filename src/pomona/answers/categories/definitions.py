"""What categories are: a name and a definition each, with examples and rules, in a YAML file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pomona.documents import StrictModel, problems, read_model
from pomona.errors import PomonaError
from pomona.tasks import compiled

Text = Annotated[str, Field(min_length=1)]
Range = Annotated[list[float | None], Field(min_length=2, max_length=2)]
Value = str | int | float | bool
TOGETHER = " + "  # between the categories of a row that has several
NONE = "none"  # of a row that has none of several, where the file names nothing for it
_NAME = re.compile(r"[^\W\d]\w*")


class Rule(StrictModel):
    """What a text must be for a category: all that is given here."""

    keywords: Annotated[list[Text], Field(min_length=1)] | None = None
    """One of these words or phrases, whatever their case, as whole words."""
    regex: Text | None = None
    """A Python regular expression that is found in the text."""
    words: Range | None = None
    """Words of the text: at least the first number, and fewer than the second; null is open."""
    characters: Range | None = None
    """Characters of the text, as with words."""
    between: dict[str, Range] | None = None
    """Columns of numbers, each with its range, as with words."""
    where: dict[str, Value | list[Value]] | None = None
    """Columns, each with its value or one of several."""

    @property
    def columns(self) -> list[str]:
        """The columns that it looks at beside the text."""
        return [*(self.between or {}), *(self.where or {})]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if wrong := list(self._mistakes()):
            raise problems(wrong)
        return self

    def _mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if not self.model_fields_set:
            yield (), "a rule must not be empty"
        ranges = {("words",): self.words, ("characters",): self.characters}
        ranges |= {("between", name): one for name, one in (self.between or {}).items()}
        for place, one in ranges.items():
            low, high = one or (None, None)
            if low is not None and high is not None and not low < high:
                yield place, f'"{place[-1]}" goes from {low:g} to {high:g}, which nothing is in'
        try:
            compiled(self.regex or "")
        except PomonaError as error:
            yield ("regex",), f'"regex": {error.message}'


class Category(StrictModel):
    """A category in words, with examples that a model is shown, and rules, one of which suffices
    for a text to be in it.
    """

    definition: Text | None = None
    """What belongs in it."""
    examples: list[Text] = Field(default_factory=list)
    """Texts that are in it, which a model is shown."""
    rules: list[Rule] = Field(default_factory=list)
    """Rules, of which one suffices."""


class Definitions(StrictModel):
    """Categories that rows are put in, one each or `several`."""

    name: Text
    """What the categories are, in one word: the column that they are written in."""
    question: Text = "Which category is the text in?"
    """What a model is asked."""
    several: bool = False
    """Whether a row may be in more than one."""
    otherwise: Text | None = None
    """The category of rows that are in no other."""
    categories: Annotated[dict[str, Category], Field(min_length=1)]
    """The categories; of several whose rules fit, the first counts."""

    @property
    def names(self) -> tuple[str, ...]:
        """All that a row can be in, in order."""
        return (*self.categories, *([self.otherwise] if self.otherwise else []))

    @property
    def by_rules(self) -> bool:
        """Whether there are any rules."""
        return any(one.rules for one in self.categories.values())

    @property
    def digest(self) -> str:
        """Equal digests mean the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if wrong := list(self._mistakes()):
            raise problems(wrong)
        return self

    def _mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if not _NAME.fullmatch(self.name):
            yield ("name",), f'"name" is "{self.name}", which is no word'
        if len(self.names) < (1 if self.several else 2):
            yield ("categories",), "one category tells nothing apart"
        seen: dict[str, str] = {}
        for name in self.names:
            place = ("otherwise",) if name == self.otherwise else ("categories", name)
            plain = " ".join(name.split()).casefold()
            if not plain or "\n" in name or TOGETHER.strip() in name:
                yield place, f'"{name}" is no name: one line, without "{TOGETHER.strip()}"'
            elif plain in seen:
                yield place, f'"{name}" and "{seen[plain]}" are one name'
            seen[plain] = name


def read_definitions(path: str | Path) -> Definitions:
    """The categories of a YAML file. Raises PomonaError with every mistake and its line."""
    return read_model(path, Definitions, kind="file of categories", example="docs/synthesis.md")
