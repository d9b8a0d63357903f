"""Categories by rules: words, patterns, lengths, and the values of other columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pomona.answers.categories.definitions import Category, Definitions, Rule
from pomona.errors import PomonaError
from pomona.tasks import compiled, searched
from pomona.text import words_of


@dataclass(frozen=True)
class Text:
    """A text with its words, the row that it is from, and where that stands."""

    text: str
    words: Sequence[str]
    row: Mapping[str, Any]
    where: object


def fitting(
    definitions: Definitions, text: str, row: Mapping[str, Any], where: object
) -> list[str]:
    """The categories of which a rule fits, in order. Raises PomonaError for a column that holds no
    numbers where a rule compares some, and a pattern that takes too long.
    """
    told = Text(text, words_of(text), row, where)
    return [name for name, one in definitions.categories.items() if _fits(one, told)]


def _fits(category: Category, told: Text) -> bool:
    return any(_holds(rule, told) for rule in category.rules)


def _holds(rule: Rule, told: Text) -> bool:
    return (
        (rule.words is None or _within(len(told.words), rule.words))
        and (rule.characters is None or _within(len(told.text), rule.characters))
        and all(_is_one(told.row[name], wanted) for name, wanted in (rule.where or {}).items())
        and all(_ranged(name, one, told) for name, one in (rule.between or {}).items())
        and (rule.keywords is None or any(_said(each, told.words) for each in rule.keywords))
        and (rule.regex is None or searched(compiled(rule.regex), told.text) is not None)
    )


def _within(value: float, ends: Sequence[float | None]) -> bool:
    low, high = ends
    return (low is None or value >= low) and (high is None or value < high)


def _ranged(name: str, ends: Sequence[float | None], told: Text) -> bool:
    value = told.row[name]
    if value is None or value == "":
        return False
    try:
        number = float(value)  # a column of a CSV file holds numbers as texts
    except (TypeError, ValueError, OverflowError):
        message = f'column "{name}" is {str(value)[:40]!r}, and a rule compares numbers'
        raise PomonaError(message, where=told.where, remedy="use where for values") from None
    return _within(number, ends)


def _is_one(value: Any, wanted: Any) -> bool:
    """A value equals one as text too: a column of a CSV file may hold numbers or their spelling."""
    several = wanted if isinstance(wanted, list) else [wanted]
    return value in several or str(value) in map(str, several)


def _said(phrase: str, words: Sequence[str]) -> bool:
    wanted = words_of(phrase)
    if len(wanted) == 1:
        return wanted[0] in words
    size = len(wanted)
    return bool(wanted) and any(
        list(words[at : at + size]) == wanted for at in range(len(words) - size + 1)
    )
