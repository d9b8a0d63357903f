"""Words of any script, and the variety of the words of a text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# Scripts written without spaces between words, as ranges of code points: Thai, Lao, Myanmar, Khmer,
# kana, Han and its extensions.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0x20000, 0x3FFFF),
)


def words_of(text: str) -> list[str]:
    """Words in lower case without the punctuation around them; in scripts without spaces every
    letter with its marks is a word.
    """
    words: list[str] = []
    for piece in text.lower().split():
        if piece.isascii():
            words.append(piece.strip("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))
        else:
            words += _cut(piece)
    return [word for word in words if word]


def _cut(piece: str) -> list[str]:
    """The words of a piece without spaces: single letters of unspaced scripts, runs of letters,
    digits and inner punctuation of others.
    """
    words, run = [], ""
    for character in piece:
        kind = unicodedata.category(character)
        if kind[0] == "M":
            if run or not words:
                run += character
            else:
                words[-1] += character
        elif any(low <= ord(character) <= high for low, high in _UNSPACED):
            words.append(run)
            run = ""
            if kind[0] in "LN":
                words.append(character)
        else:
            run += character
    return [stripped for word in [*words, run] if (stripped := _strip(word))]


def _strip(word: str) -> str:
    def plain(character: str) -> bool:
        return unicodedata.category(character)[0] in "LNM"

    start, end = 0, len(word)
    while start < end and not plain(word[start]):
        start += 1
    while end > start and not plain(word[end - 1]):
        end -= 1
    return word[start:end]


def mtld(words: Sequence[str], *, threshold: float = 0.72) -> float:
    """Measure of textual lexical diversity: words a stretch whose type-token ratio stays above
    `threshold`, mean of forwards and backwards.

    McCarthy & Jarvis 2010 (Behavior Research Methods 42), p. 384: a factor is full when the ratio
    reaches the threshold; the rest counts as the part of a factor it has come. Where the ratio
    never leaves 1 the value would be infinite; it is the number of words.
    """
    return (_one_way(words, threshold) + _one_way(words[::-1], threshold)) / 2


def _one_way(words: Sequence[str], threshold: float) -> float:
    factors, count, types, ratio = 0.0, 0, set[str](), 1.0
    for word in words:
        types.add(word)
        count += 1
        ratio = len(types) / count
        if ratio <= threshold:
            factors, count, ratio = factors + 1, 0, 1.0
            types.clear()
    factors += (1 - ratio) / (1 - threshold)
    return len(words) / factors if factors else float(len(words))
