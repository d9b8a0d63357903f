"""Serbian and Croatian in Latin and Cyrillic letters: for programs that know one alphabet of a
language that is written in two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pomona.synth.teachers.teacher import Assignment
from pomona.text import base_tag, letters_by_script

_LATIN = dict(zip("абвгдђежзијклмнопрстћуфхцчш", "abvgdđežzijklmnoprstćufhcčš", strict=True)) | {
    "љ": "lj",
    "њ": "nj",
    "џ": "dž",
}
_LATIN |= {letter.upper(): latin.capitalize() for letter, latin in _LATIN.items()}
_CYRILLIC = {latin: letter for letter, latin in _LATIN.items()}
_CYRILLIC |= {"LJ": "Љ", "NJ": "Њ", "DŽ": "Џ", "ǉ": "љ", "ǌ": "њ", "ǆ": "џ"}
_MACEDONIAN = _CYRILLIC | {"đ": "ѓ", "Đ": "Ѓ", "ć": "ќ", "Ć": "Ќ"}
_SOUND = re.compile("|".join(sorted(_CYRILLIC, key=len, reverse=True)))
_WORD = re.compile("[A-Za-zČčĆćĐđŠšŽžǈǉǋǌǅǆ]+")


@dataclass(frozen=True)
class Respelling:
    """How a text is spelt for a program, and its answer for the row: `before` has the text, `after`
    the answer and the row. Neither sees what is masked.
    """

    before: Callable[[str], str]
    after: Callable[[str, Assignment], str]


def latin(text: str) -> str:
    """Serbian in Latin letters; other letters stay."""
    return "".join(_LATIN.get(letter, letter) for letter in text)


def cyrillic(answer: str, row: Assignment) -> str:
    """Words of Latin letters in the Cyrillic ones of the row's language: those that a program did
    not know, and left as they were spelt for it.

    Names stay in Latin letters: words that a text in Cyrillic ones has in them, or of another text
    those of what it is a translation of.
    """
    letters = letters_by_script(row.text)
    mixed = letters["CYRILLIC"] > letters["LATIN"]
    kept = set(_WORD.findall(row.text if mixed else row.original or ""))
    table = _MACEDONIAN if base_tag(row.lang) == "mk" else _CYRILLIC

    def spelt(found: re.Match[str]) -> str:
        word = found[0]
        return word if word in kept else _SOUND.sub(lambda sound: table[sound[0]], word)

    return _WORD.sub(spelt, answer)


# Apertium's dictionary of Serbo-Croatian has Latin letters alone, and what it translates to is
# written in Cyrillic ones.
TO_CYRILLIC = Respelling(latin, cyrillic)
