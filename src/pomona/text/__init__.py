"""Text by itself: the words that search compares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.text.terms import words as words

__getattr__, __dir__ = lazily(__name__, {"terms": "words"})
