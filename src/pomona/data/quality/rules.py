"""The rules, with what each paper asks for. Where a rule does not apply to a text, its number is
null and it is passed over.

Gopher: Rae et al. 2021 (arXiv 2112.11446), Table A1 and section A.1.1. C4: Raffel et al. 2020
(JMLR 21/140), section 2.2, with the lines on cookies that its code drops and the paper does not
name; its list of bad words is left out. FineWeb: Penedo et al. 2024 (arXiv 2406.17557), section
3.6, with the share of newlines that its published pipeline has. Words are cut, and rules come in
the order, as datatrove has them for English.

The thresholds were chosen on English, and so were the stop words, "javascript" and the policies.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """A number of a text that must be at least `least` and at most `most`. `words` needs spaces
    between words, `english` the English language, `stops` a script that ends sentences with . ! ?
    """

    name: str
    place: int  # column of the loop
    least: float | None = None
    most: float | None = None
    needs: str = ""


_GRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
QUALITY = {
    "gopher": (
        Rule("duplicate_paragraphs", 10, most=0.3),
        Rule("duplicate_paragraph_characters", 11, most=0.2),
        Rule("duplicate_lines", 8, most=0.3),
        Rule("duplicate_line_characters", 9, most=0.2),
        Rule("top_2_gram", 12, most=0.2, needs="words"),
        Rule("top_3_gram", 13, most=0.18, needs="words"),
        Rule("top_4_gram", 14, most=0.16, needs="words"),
        *(
            Rule(f"duplicate_{n}_grams", 10 + n, most=most, needs="words")
            for n, most in _GRAMS.items()
        ),
        Rule("words", 0, least=50, most=100_000, needs="words"),
        Rule("mean_word_length", 1, least=3, most=10, needs="words"),
        Rule("hashes", 2, most=0.1, needs="words"),
        Rule("ellipses", 3, most=0.1, needs="words"),
        Rule("bullet_lines", 4, most=0.9),
        Rule("ellipsis_lines", 5, most=0.3),
        Rule("alphabetic_words", 6, least=0.8, needs="words"),
        Rule("stop_words", 7, least=2, needs="words english"),
    ),
    "c4": (
        Rule("lorem_ipsum", 23, most=0, needs="words stops"),
        Rule("curly_bracket", 24, most=0, needs="words stops"),
        Rule("sentences", 21, least=5, needs="words stops"),
        Rule("lines_kept", 22, needs="words stops"),
    ),
    "fineweb": (
        Rule("line_punctuation", 25, least=0.12),
        Rule("short_lines", 26, most=0.67, needs="words"),
        Rule("duplicate_characters", 27, most=0.01),
        Rule("newlines", 28, most=0.3, needs="words"),
    ),
}
# Scripts of which most sentences end with . ! or ?
STOPPED = {"LATIN", "CYRILLIC", "GREEK", "HEBREW", "GEORGIAN", "HANGUL", "ARABIC", "CHEROKEE"}
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_ABBREVIATIONS = (
    "Adm Bros Co co Corp Dr Gen Gov Inc Jr Ltd Messrs Mr Mrs Ms Ph.D Prof Rep Rev Sen St vs v.s "
    "e.g i.e E.g I.e a.m p.m Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
)
ABBREVIATIONS = [f"{name}." for name in _ABBREVIATIONS.split()]
PHRASES = ("lorem ipsum", "javascript", "[edit]", "[citation needed]")
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


def columns_of(score: str) -> list[str]:
    """The columns that a score of quality adds: whether all its rules are kept, the first that is
    not, and the number of each.
    """
    return [score, f"{score}_reason", *(f"{score}_{rule.name}" for rule in QUALITY[score])]
