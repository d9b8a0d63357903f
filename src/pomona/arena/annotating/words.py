"""The words of the page in the languages that the embedded data has them in, and how languages are
written.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from pomona.text import base_tag, expected_scripts

_RIGHT_TO_LEFT = frozenset({"ARABIC", "HEBREW", "THAANA", "SYRIAC", "NKO"})
_OTHER_TAGS = {
    "no": "nb",
    "iw": "he",
    "in": "id",
    "zh": "zh-Hans",
    "zh-cn": "zh-Hans",
    "zh-sg": "zh-Hans",
    "zh-tw": "zh-Hant",
    "zh-hk": "zh-Hant",
    "zh-mo": "zh-Hant",
}


class Words:
    """The words of one language: `words("Undo")` for text and `words.plain("Undo")` for attributes.

    What nobody translated stays English, and as text says so to whoever reads it aloud. `language`
    is a key of `LANGUAGES`; any other is English.
    """

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else "en"
        self.dir = direction(self.language)
        self._known: dict[str, str] = _data()["words"].get(self.language, {})

    def __call__(self, english: str) -> Markup:
        known = self._known.get(english)
        if known is not None:
            return Markup.escape(known)
        if self.language == "en":
            return Markup.escape(english)
        return Markup('<span lang="en" dir="ltr">{}</span>').format(english)

    def plain(self, english: str) -> str:
        return self._known.get(english, english)


def direction(tag: str | None) -> str:
    """`rtl` or `ltr` by the scripts of a language, `auto` where they differ or are not known."""
    scripts = expected_scripts(tag) if tag else None
    if not scripts or (scripts & _RIGHT_TO_LEFT and scripts - _RIGHT_TO_LEFT):
        return "auto"
    return "rtl" if scripts & _RIGHT_TO_LEFT else "ltr"


def language_name(tag: str) -> str:
    """What its speakers call a language: `Kiswahili` of `sw`; the tag where that is not known."""
    names: dict[str, str] = _data()["names"]
    tag = tag.replace("_", "-")
    return names.get(tag) or names.get(base_tag(tag), tag)


def choose(accept_language: str | None) -> str:
    """The key of `LANGUAGES` that a browser's Accept-Language asks for first; `en` for none."""
    asked: list[tuple[float, str]] = []
    for part in (accept_language or "")[:1000].split(","):
        tag, _, weight = part.strip().partition(";")
        try:
            asked.append((float(weight.strip().removeprefix("q=") or 1), tag.strip().lower()))
        except ValueError:
            continue
    known = {tag.lower(): tag for tag in LANGUAGES} | _OTHER_TAGS
    for weight, tag in sorted(asked, key=lambda one: -one[0]):
        found = (
            known.get(tag) or known.get("-".join(tag.split("-")[:2])) or known.get(base_tag(tag))
        )
        if found and weight > 0:
            return found
    return "en"


@cache
def _data() -> dict[str, Any]:
    text = files("pomona.arena.annotating").joinpath("words.json").read_text(encoding="utf-8")
    return json.loads(text)


LANGUAGES: dict[str, str] = {
    tag: name for tag, name in _data()["names"].items() if tag == "en" or tag in _data()["words"]
}
