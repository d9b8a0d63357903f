"""Whether a text speaks to its reader formally, by the words of address of its language."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from pomona.documents import StrictModel, read_model
from pomona.text import base_language, prose

FORMAL, INFORMAL = "Formal", "Informal"
_LETTER = r"\w\u0300-\u036f\u0900-\u0dff"  # with the signs of Indic scripts, no letters to `re`
_LEFT, _RIGHT = rf"(?<![{_LETTER}-])(?<!\w['’])", rf"(?![{_LETTER}-])"
_BEGIN = r"(?:^|(?<=[.!?:] )|(?<=[¡¿]))"
_BEHIND = r"(?<=[\w,;)] )"
_GAP = " … "  # a placeholder or a number may be a name, the subject, or an end
_LAST = r"(?=[。.!?！？:：…」』）)\"”（(\s]|$)"
_Rules = tuple[re.Pattern[str] | None, re.Pattern[str] | None]


class _Side(StrictModel):
    """What is said to a stranger alone, or to a friend alone. The head of the file says how."""

    words: str = ""
    starts: str = ""
    ends: str = ""
    inside: str = ""
    signs: str = ""
    patterns: list[str] = Field(default=[])
    never: str = ""

    def rule(self) -> re.Pattern[str] | None:
        """What fits any of it, None where there is nothing."""
        rules = list(self._rules())
        return re.compile("|".join(rules), re.MULTILINE) if rules else None

    def _rules(self) -> Iterator[str]:
        if free := [*map(_either, self.words.split()), *self.patterns]:
            never = f"(?!(?i:{'|'.join(self.never.split())}){_RIGHT})" if self.never else ""
            yield f"{_LEFT}{never}(?:{'|'.join(free)}){_RIGHT}"
        if self.starts:
            yield f"{_BEGIN}(?:{'|'.join(map(_either, self.starts.split()))}){_RIGHT}"
        if self.ends:
            yield f"(?:{'|'.join(self.ends.split())}){_LAST}"
        if self.inside:
            yield f"{_BEHIND}(?:{'|'.join(self.inside.split())}){_RIGHT}"
        if self.signs:
            yield f"[{self.signs}]"


class _Sides(StrictModel):
    formal: _Side = Field(default=_Side())
    informal: _Side = Field(default=_Side())


class _Book(StrictModel):
    languages: dict[str, _Sides]


@functools.cache
def _languages() -> dict[str, _Rules]:
    place = Path(__file__).with_name("formality.yaml")
    book = read_model(place, _Book, kind="book of address", example=place.name)
    found: dict[str, _Rules] = {}
    for names, sides in book.languages.items():
        rules = sides.formal.rule(), sides.informal.rule()
        found |= dict.fromkeys(names.split(), rules)
    return found


def formality(texts: Sequence[str | None], langs: Sequence[str | None]) -> list[str | None]:
    """Formal or Informal, as each text speaks to its reader in its language. None where it says
    nothing or both, and where the language is not known or has no rules.
    """
    told: dict[tuple[str, str], str | None] = {}
    found: list[str | None] = []
    for text, lang in zip(texts, langs, strict=True):
        base = None if lang is None else base_language(lang)
        if text is None or base not in _languages():
            found.append(None)
            continue
        if (text, base) not in told:
            told[text, base] = _formality(text, *_languages()[base])
        found.append(told[text, base])
    return found


def _formality(
    text: str, formal: re.Pattern[str] | None, informal: re.Pattern[str] | None
) -> str | None:
    # A line is read alone, since what is inside a sentence must not stand behind a heading.
    lines = unicodedata.normalize("NFC", text).splitlines()
    words = "\n".join(prose(line, _GAP) for line in lines)
    one = formal is not None and formal.search(words) is not None
    other = informal is not None and informal.search(words) is not None
    return None if one == other else FORMAL if one else INFORMAL


def _either(word: str) -> str:
    """In small letters, or with a large first one."""
    large = word[0].upper()
    return f"[{word[0]}{large}]{word[1:]}" if large != word[0] and len(large) == 1 else word
