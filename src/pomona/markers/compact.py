"""Compact lists: a word for each marker, a blank before each. A letter is one of several values,
`x` what is not known, and other values are written out.

Letters run on from marker to marker, so that those of neighbours differ. A letter with the blank
before it is one token of byte-level vocabularies, whatever stands beside it, also where prompt and
answer are one text. A list of another length is none: no place is lost or comes twice unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pomona.markers.taxonomy import Taxonomy

BEFORE, BETWEEN, TRIMMED = " ", " ", ""
UNKNOWN = "x"
# Those last that are two tokens behind a blank where a vocabulary is small.
_LETTERS = "abcdefghijklmnoprstuvwyzABCDEFGHIJKLMNOPRSTUVWZqQXY"
_ESCAPED = {char: f"%{ord(char):02X}" for char in "% |~\n\r"}


def signs_of(taxonomy: Taxonomy) -> dict[str, Mapping[str, str]]:
    """The letter of each value, by marker; none of those whose values are written out."""
    found: dict[str, Mapping[str, str]] = {}
    first = 0
    for name, marker in taxonomy.listed.items():
        values = list(marker.values)
        if values and len(values) <= len(_LETTERS):
            letters = (_LETTERS * 2)[first : first + len(values)]
            found[name] = dict(zip(values, letters, strict=True))
            first = (first + len(values)) % len(_LETTERS)
    return found


def place(signs: Mapping[str, str] | None, told: str | None) -> str:
    """A place of a list: a marker's value as text, None where it is not known."""
    if told is None:
        return UNKNOWN
    if signs is not None:
        return signs[told]
    if told == UNKNOWN:
        return f"%{ord(UNKNOWN):02X}"
    return "".join(_ESCAPED.get(char, char) for char in told)


def places_of(
    text: str, taxonomy: Taxonomy, *, whole: bool
) -> Iterator[tuple[str, str | None, bool]]:
    """The markers of a list, or of what may become one where it is not `whole`: name, value as text
    or None, and whether it is written out. ValueError where it is none.
    """
    # Templates and servers may have taken the first blank away.
    names, words = list(taxonomy.listed), text.removeprefix(BEFORE).split(BETWEEN)
    if len(words) > len(names) or (whole and len(words) < len(names)):
        raise ValueError(text)
    if not whole and not words[-1]:  # the next may be anything
        words.pop()
    signs = signs_of(taxonomy)
    for name, word in zip(names, words, strict=False):
        values = {letter: value for value, letter in signs.get(name, {}).items()}
        if not word or (values and word != UNKNOWN and word not in values):
            raise ValueError(word)
        yield name, None if word == UNKNOWN else values.get(word, word), not values
