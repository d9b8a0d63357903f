"""What a text alone says: length, sentences, lexical diversity, readability."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import regex
from numpy.typing import NDArray

from pomona.text import base_tag, letters_by_script, mtld, spaced, words_of

NAMES = ("length", "words", "sentences", "sentence_length", "mtld", "gunning_fog", "rix")
LONG = 6  # characters that a word of RIX is longer than
COMPLEX = 3  # syllables of a word that counts for Gunning-Fog

NO_WORDS = "has no words"
NO_SPACES = "is in a script without spaces between words"
NO_ENDS = "is in Thai or Lao, which mark no ends of sentences"
NO_SYLLABLES = "is in a script without a rule for syllables here (Latin and Cyrillic have one)"

_END = regex.compile(
    r"""
      (?<!\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|e\.g|i\.e|\p{Lu}))\.[.!?…]*+["'”’»)\]]*+
      (?=\s+["'“‘«(\[¿¡]*+[^\s\p{Ll}]|\s*+$)
    | [!?…‽][.!?…]*+["'”’»)\]]*+(?=\s+["'“‘«(\[¿¡]*+[^\s\p{Ll}]|\s*+$)
    | [。！？｡।॥؟۔։።៕။༎]++
    | \n[^\S\n]*+\n
    """,
    regex.VERBOSE,
)
_WORD = regex.compile(r"[\p{L}\p{N}]")
_GRAPHEME = regex.compile(r"\X")
_LATIN = regex.compile(r"[aeiouyæœøåäöüáàâãāăąéèêëēėęěíìîïīįıóòôõōőúùûũūůűųýÿỳ]+")
_CYRILLIC = regex.compile(r"[аеёиоуыэюяіїєўѣѵ]")
_SYLLABIC = regex.compile(r"[^aeiouylr]l(?:e|es|ed)$")  # table, tables, settled; not whole, called
_SILENT = regex.compile(r"[^aeiouy]e$|(?:[^aeiouyhsxzcg]|[^cs]h)es$|[^aeiouytd]ed$")


def syllables(word: str, *, english: bool) -> int:
    """Syllables of a word in lower case, at least one.

    Of Cyrillic every vowel is one. Of Latin every run of vowels is one; in English the e at the end
    is silent after a consonant, and so are those of -es, but after s, x, z, c, g, ch and sh, and of
    -ed, but after t and d; unless a consonant and l stand before (table, tables, settled).
    """
    if vowels := len(_CYRILLIC.findall(word)):
        return vowels
    groups = len(_LATIN.findall(word))
    if english and _SILENT.search(word) and not _SYLLABIC.search(word):
        groups -= 1
    return max(1, groups)


def sentences(text: str) -> int:
    """Sentences of a text: pieces with a letter or digit between full stops, exclamation and
    question marks of any script, and empty lines.

    A full stop ends one where space and no small letter follow, and neither a title (Dr.) nor a
    single capital stands before it. Thai and Lao mark no ends: there a text is one.
    """
    return sum(1 for part in _END.split(text) if _WORD.search(part))


class _Known(dict[str, int]):
    """A number for each word, computed once."""

    def __init__(self, count: Callable[[str], int]) -> None:
        super().__init__()
        self._count = count

    def __missing__(self, word: str) -> int:
        self[word] = value = self._count(word)
        return value


def _letters(word: str) -> int:
    return sum(unicodedata.category(letter)[0] in "LN" for letter in word)


@dataclass
class TextFigures:
    """The figures of texts, row by row; NaN where one does not apply, and how often for what
    reason. `ids` are the words of each text as numbers, of which there are `kinds`.
    """

    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})
    reasons: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in NAMES}
    )
    ids: list[NDArray[np.int64]] = field(default_factory=list)
    letters_as_words: int = 0  # rows in scripts without spaces
    without_factor: int = 0  # rows too short for MTLD
    other_languages: int = 0  # rows with Gunning-Fog that are not English

    def __post_init__(self) -> None:
        self._index = _Known(lambda _: len(self._index))
        self._long = _Known(lambda word: _letters(word) > LONG)
        self._hard = _Known(lambda word: syllables(word, english=False) >= COMPLEX)
        self._hard_english = _Known(lambda word: syllables(word, english=True) >= COMPLEX)

    @property
    def kinds(self) -> int:
        """Different words."""
        return len(self._index)

    def add(self, text: str, lang: str | None) -> None:
        """Take in a text in a language, English where none is known."""
        words = words_of(text)
        self.ids.append(np.fromiter(map(self._index.__getitem__, words), np.int64, len(words)))
        length = len(text) if text.isascii() else len(_GRAPHEME.findall(text))
        self._put("length", length)
        self._put("words", len(words))
        script = "LATIN" if text.isascii() else _script(text)
        ends = script not in ("THAI", "LAO")
        count = sentences(text) if ends else 0
        self._put("sentences", count if ends else math.nan, NO_ENDS)
        lack = NO_ENDS if not ends else NO_WORDS if not words or not count else None
        self._put("sentence_length", math.nan if lack else len(words) / count, lack)
        self._put_mtld(words)
        separate = text.isascii() or spaced(text)
        self.letters_as_words += not separate
        lack = lack if separate else NO_SPACES
        long = math.nan if lack else sum(map(self._long.__getitem__, words)) / count
        self._put("rix", long, lack)
        lack = lack or (None if script in ("LATIN", "CYRILLIC") else NO_SYLLABLES)
        if lack:
            self._put("gunning_fog", math.nan, lack)
            return
        english = script == "LATIN" and (lang is None or base_tag(lang) == "en")
        self.other_languages += not english
        known = self._hard_english if english else self._hard
        hard = sum(map(known.__getitem__, words)) / len(words)
        self._put("gunning_fog", 0.4 * (len(words) / count + 100 * hard))

    def _put_mtld(self, words: Sequence[str]) -> None:
        if not words:
            self._put("mtld", math.nan, NO_WORDS)
            return
        value = mtld(words)
        # Without a factor on either way it is but the number of words, or guessed from a part.
        self.without_factor += value >= len(words)
        self._put("mtld", value)

    def _put(self, name: str, value: float, reason: str | None = None) -> None:
        self.values[name].append(value)
        if math.isnan(value):
            self.reasons[name][reason or NO_WORDS] += 1


def _script(text: str) -> str | None:
    counted = letters_by_script(text).most_common(1)
    return counted[0][0] if counted else "LATIN"


def distinct(
    ids: Sequence[NDArray[np.int64]], blocks: Iterable[NDArray[np.intp]], n: int, kinds: int
) -> NDArray[np.float64]:
    """Different n-grams of words and all, `[blocks, 2]`: n-grams lie within texts, and are counted
    in each block of them anew. At most three words, and two million kinds of them.
    """
    counted = [_distinct([ids[row] for row in block], n, kinds) for block in blocks]
    return np.array(counted, np.float64).reshape(-1, 2)


def _distinct(texts: Sequence[NDArray[np.int64]], n: int, kinds: int) -> tuple[int, int]:
    grams = []
    for words in texts:
        if len(words) >= n:
            size = len(words) - n + 1
            gram = words[:size]
            for more in range(1, n):
                gram = gram * kinds + words[more : more + size]
            grams.append(gram)
    if not grams:
        return 0, 0
    every = np.concatenate(grams)
    return len(np.unique(every)), len(every)
