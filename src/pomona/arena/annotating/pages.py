"""The pages that annotators and their leads see, in their languages; style and script beside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pomona.arena.annotating.markdown import to_html
from pomona.arena.annotating.words import LANGUAGES, Words, direction, language_name
from pomona.pages import Page, render

_HERE = "pomona.arena.annotating"
_NOBODY: dict[str, Any] = {"project": "Pomona", "csrf": "", "person": None, "path": ""}


def show(template: str, language: str, **content: Any) -> Page:
    """The page that a template of this folder makes of `content`, with its words in `language`, a
    key of `LANGUAGES`.
    """
    words = Words(language)
    shared = {
        "words": words,
        "_": words,
        "plain": words.plain,
        "markdown": to_html,
        "direction": direction,
        "language_name": language_name,
        "interfaces": LANGUAGES,
        "forest": forest,
        "version": _version(),
    }
    return render(_HERE, template, served=True, **(_NOBODY | shared | content))


@cache
def stylesheet() -> str:
    """What `/style.css` is: the style of all pages, and that of these."""
    return "\n".join(
        files(package).joinpath("style.css").read_text(encoding="utf-8")
        for package in ("pomona.pages", _HERE)
    )


@cache
def script() -> str:
    """What `/script.js` is."""
    return files(_HERE).joinpath("script.js").read_text(encoding="utf-8")


@cache
def _version() -> str:
    """Style and script may be kept by browsers, under the addresses of one version."""
    return hashlib.sha256((stylesheet() + script()).encode()).hexdigest()[:12]


def forest(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Where ratings and their intervals lie between the lowest and the highest bound, in percent:
    `low` and `high` of the axis, and `marks` (low, rating, high), a row each.
    """
    bounds = [
        tuple(row["rating"] if row[end] is None else row[end] for end in ("low", "rating", "high"))
        for row in rows
    ]
    low, high = min(one[0] for one in bounds), max(one[2] for one in bounds)
    width = (high - low) or 1.0
    marks = [[round(3 + 94 * (value - low) / width, 2) for value in one] for one in bounds]
    return {"low": low, "high": high, "marks": marks}
