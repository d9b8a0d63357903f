from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pomona.text import mtld, words_of

# The sample of lexicalrichness's manual, whose MTLD that package gives as 46.79226361031519.
SAMPLE = """Measure of textual lexical diversity, computed as the mean length of sequential words in
a text that maintains a minimum threshold TTR score.

Iterates over words until TTR scores falls below a threshold, then increase factor
counter by 1 and start over. McCarthy and Jarvis (2010, pg. 385) recommends a factor
threshold in the range of [0.660, 0.750].
(McCarthy 2005, McCarthy and Jarvis 2010)"""


def test_golden_value() -> None:
    words = [word for word in words_of(SAMPLE) if not any(letter.isdigit() for letter in word)]
    assert len(words) == 57
    assert mtld(words) == pytest.approx(46.79226361031519, rel=1e-12)


def reference(words: list[str]) -> float:
    """By the definition, slowly: cut off the shortest beginning whose ratio has come to .72, again
    and again.
    """

    def factors(rest: list[str]) -> float:
        for size in range(1, len(rest) + 1):
            if len(set(rest[:size])) / size <= 0.72:
                return 1 + factors(rest[size:])
        return (1 - len(set(rest)) / len(rest)) / 0.28 if rest else 0.0

    return sum(len(words) / (factors(part) or 1) for part in (words, words[::-1])) / 2


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60))
def test_agrees_with_the_definition(words: list[str]) -> None:
    assert mtld(words) == pytest.approx(reference(words), rel=1e-9)
    assert mtld(words) == pytest.approx(mtld(words[::-1]))


def test_ends() -> None:
    assert mtld([]) == 0
    assert mtld(["one", "two", "three"]) == 3
    assert mtld(["same"] * 100) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('He said: "DON\'T" — twice...', ["he", "said", "don't", "twice"]),
        ("保存文件 now", ["保", "存", "文", "件", "now"]),
        ("हिन्दी में।", ["हिन्दी", "में"]),
        ("ก็ดี, x", ["ก็", "ดี", "x"]),
        ("Ångström's café", ["ångström's", "café"]),
        ("… -- !", []),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert words_of(text) == words
