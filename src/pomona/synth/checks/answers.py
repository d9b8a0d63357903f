"""Checks of an answer and its source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from pomona.documents import StrictModel, model_of
from pomona.synth.teachers import Candidate, mask
from pomona.text import (
    base_language,
    count_words,
    expected_scripts,
    identify,
    known_languages,
    letters_by_script,
    prose,
    same_language,
    script_name,
    words_of,
)

_WORDS = 3  # of a source, below which an answer may be its copy: names, "OK", "Internet"


class Check(Protocol):
    """Says what is wrong with an answer."""

    @property
    def name(self) -> str:
        """What cards call it."""
        ...

    def reason(self, candidate: Candidate) -> str | None:
        """Why the answer is not taken; None where nothing is wrong."""
        ...


@dataclass(frozen=True)
class Language:
    """Answers that are clearly in another language, or have no letter of a script that theirs is
    written in. Short texts and alike languages pass, as `text.identify` says; of placeholders and
    code nothing is said.
    """

    name: str = "language"

    def reason(self, candidate: Candidate) -> str | None:
        """See `Check`."""
        lang, words = candidate.row.lang, prose(candidate.lesson.text)
        letters, expected = letters_by_script(words), expected_scripts(lang)
        if letters and expected is not None and not letters.keys() & expected:
            written = ", ".join(script_name(script) for script in sorted(letters))
            return f"is written in {written}, not as {lang} is"
        if not letters or base_language(lang) not in known_languages():
            return None
        found = identify([words], [lang])[0]
        own = found is None or same_language(found, lang)
        return None if own else f"is in {found}, not in {lang}"


@dataclass(frozen=True)
class Placeholders:
    """Answers that do not have just the placeholders, tags and addresses of their source."""

    name: str = "placeholders"

    def reason(self, candidate: Candidate) -> str | None:
        """See `Check`."""
        source = Counter(mask(candidate.row.text).parts)
        answer = Counter(mask(candidate.lesson.text).parts)
        if lost := source - answer:
            return f"lost {_few(lost)}"
        more = answer - source
        return f"has {_few(more)}, which the source has not" if more else None


def _few(parts: Counter[str]) -> str:
    told = [part if len(part) <= 40 else part[:37] + "…" for part in [*parts][:3]]
    return ", ".join(told) + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")


@dataclass(frozen=True)
class Lengths:
    """Answers with fewer or more characters than so many times those of their source."""

    least: float
    most: float
    name: str = "length_ratio"

    def reason(self, candidate: Candidate) -> str | None:
        """See `Check`."""
        source, answer = candidate.row.text.strip(), candidate.lesson.text.strip()
        if not source:
            return None
        ratio = len(answer) / len(source)
        if self.least <= ratio <= self.most:
            return None
        return f"is {ratio:.2g} times as long as its source"


@dataclass(frozen=True)
class Words:
    """Answers with fewer or more words; in scripts without spaces two letters are a word."""

    least: int
    most: int
    name: str = "words"

    def reason(self, candidate: Candidate) -> str | None:
        """See `Check`."""
        count = count_words(candidate.lesson.text)
        return None if self.least <= count <= self.most else f"has {count:,} words"


@dataclass(frozen=True)
class Untranslated:
    """Answers in another language than their source of whose words at least this share are the
    source's. Sources of less than three words pass: they may be names.
    """

    share: float = 0.8
    name: str = "untranslated"

    def reason(self, candidate: Candidate) -> str | None:
        """See `Check`."""
        row = candidate.row
        if row.source_lang == row.lang:
            return None
        source, answer = (words_of(prose(text)) for text in (row.text, candidate.lesson.text))
        if len(source) < _WORDS or not answer:
            return None
        taken = (Counter(source) & Counter(answer)).total() / len(answer)
        return f"took {taken:.0%} of its words from the source" if taken >= self.share else None


@dataclass(frozen=True)
class Copied:
    """Answers that are their source again, but for case and spaces: for rows in one language, where
    a text is written anew.
    """

    name: str = "copied"

    def reason(self, candidate: Candidate) -> str | None:
        """See `Check`."""
        source, answer = candidate.row.text, candidate.lesson.text
        same = _plain(source) == _plain(answer)
        return "is its source again" if same else None


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()


def _ordered(bounds: list[Any]) -> list[Any]:
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise PydanticCustomError("bounds", "the least and the most, in this order")
    return bounds


_Ratios = Annotated[list[Annotated[float, Field(ge=0)]], AfterValidator(_ordered)]
_Counts = Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_ordered)]
_Share = Annotated[float, Field(gt=0, le=1)]


class ChecksSpec(StrictModel):
    """What an answer must pass."""

    language: bool = False
    """Leave out what is clearly in another language."""
    placeholders: bool = False
    """Leave out what lost or made up placeholders, tags or addresses."""
    length_ratio: _Ratios | None = None
    """The least and most characters, in characters of the source."""
    words: _Counts | None = None
    """The fewest and most words."""
    untranslated: _Share | None = None
    """Leave out what took this share of its words from the source."""
    copied: bool = False
    """Leave out what is its source again."""
    near_duplicates: _Share | None = None
    """The similarity from which an answer is a near copy of one that was taken, or of a test
    item.
    """


def checks_from(given: ChecksSpec | Mapping[str, Any]) -> list[Check]:
    """The checks that a recipe's part names, but for near-duplicates, which know what was taken:
    they are `NearDuplicates`. Raises PomonaError for unknown names and settings.
    """
    if not isinstance(given, ChecksSpec):
        given = model_of(given, ChecksSpec, kind="checks")
    made: list[Check] = []
    if given.language:
        made.append(Language())
    if given.placeholders:
        made.append(Placeholders())
    if given.length_ratio:
        made.append(Lengths(given.length_ratio[0], given.length_ratio[1]))
    if given.words:
        made.append(Words(given.words[0], given.words[1]))
    if given.untranslated:
        made.append(Untranslated(given.untranslated))
    if given.copied:
        made.append(Copied())
    return made


def reason_of(checks: list[Check], candidate: Candidate) -> tuple[str, str] | None:
    """The first check that an answer does not pass, and why; None where it passes all."""
    for check in checks:
        if (why := check.reason(candidate)) is not None:
            return check.name, why
    return None
