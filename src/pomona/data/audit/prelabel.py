"""What a row probably is, told from the text alone, before a person looks at it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from pomona.errors import PomonaError
from pomona.text import (
    base_tag,
    count_words,
    expected_scripts,
    identify,
    known_languages,
    letters_by_script,
    spaced,
)

Identify = Callable[[Sequence[str]], Sequence[str | None]]
LanguageId = Literal["script", "py3langid"] | Identify

SHORT_WORDS = 5
BOILERPLATE_TIMES = 10
LETTER_SHARE = 0.5
LOW_ENTROPY, ENTROPY_LENGTH = 2.0, 16
LONG_TOKEN = 25
IDENTIFIED_LETTERS = 20
RULES = {
    "NL": f"letters are under {LETTER_SHARE:.0%} of characters; or under {LOW_ENTROPY} bits "
    f"each in {ENTROPY_LENGTH} characters or more; "
    f"or one token of at least {LONG_TOKEN} characters in a script with spaces",
    "WL": (
        "equals the English source; or most letters are of a script the language is not "
        "written in; or language ID disagrees"
    ),
    "CB": (
        f"most of the text is in lines that occur at least {BOILERPLATE_TIMES} times in the group"
    ),
    "CS": f"fewer than {SHORT_WORDS} words",
    "CC": "everything else",
}
_ALIKE = (
    {"nb", "nn", "no", "da"},
    {"sr", "hr", "bs", "sh"},
    {"id", "in", "ms"},
    {"zh", "cmn", "yue", "wuu", "lzh"},
    {"tl", "fil"},
    {"he", "iw", "hbo"},
    {"ar", "arb", "arz", "ary"},
    {"sw", "swh"},
)


def prelabel(
    text: str, lang: str, english: str | None, repeated: float, identified: str | None
) -> tuple[str, str]:
    """The code of Kreutzer et al. 2022 that the rules give, and why.

    `repeated` is the share of the text in lines that recur in its group, `identified` what language
    ID says (None: it does not know). X, a wrong translation, is never given: that takes a reader.
    """
    if reason := _not_language(text):
        return "NL", reason
    if reason := _wrong_language(text, lang, english, identified):
        return "WL", reason
    if repeated >= 0.5:
        return "CB", f"lines that occur at least {BOILERPLATE_TIMES} times"
    if (count := count_words(text)) < SHORT_WORDS:
        return "CS", f"{count} words"
    return "CC", ""


def entropy(text: str) -> float:
    """Bits per character of the text's own distribution of characters; 0 for empty text."""
    counts = Counter(text).values()
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts)


def identifier(language_id: LanguageId) -> tuple[Identify, set[str] | None] | None:
    """The function that names the language of each text and the languages it knows (None: any);
    None where scripts alone decide.

    "py3langid" is the package of that name (139 languages). Raises PomonaError when it is not
    installed, and for any other name.
    """
    if callable(language_id):
        return language_id, None
    if language_id == "script":
        return None
    if language_id != "py3langid":
        raise PomonaError(
            f'"{language_id}" is not known',
            where="language_id",
            remedy='use "script", "py3langid" or a function',
        )
    return identify, known_languages()


def identified_languages(
    texts: Sequence[str], langs: Sequence[str], language_id: LanguageId
) -> list[str | None]:
    """What language ID says of each text: None for texts too short to tell and for languages it
    does not know.
    """
    identification = identifier(language_id)
    if identification is None:
        return [None] * len(texts)
    identify, known = identification
    sure = [
        place
        for place, text in enumerate(texts)
        if letters_by_script(text).total() >= IDENTIFIED_LETTERS
    ]
    sure = [
        place
        for place in sure
        if known is None or any(same_language(langs[place], other) for other in known)
    ]
    said = list(identify([texts[place] for place in sure]))
    if len(said) != len(sure):
        remedy = "return one language, or None, for each text"
        raise PomonaError(
            f"language ID gave {len(said)} answers for {len(sure)} texts",
            where="language_id",
            remedy=remedy,
        )
    answers = dict(zip(sure, said, strict=True))
    return [answers.get(place) for place in range(len(texts))]


def same_language(one: str, other: str) -> bool:
    """Whether two tags are one language, or so alike that language ID confuses them in short
    texts.
    """
    pair = {base_tag(one), base_tag(other)}
    return len(pair) == 1 or any(pair <= alike for alike in _ALIKE)


def _not_language(text: str) -> str:
    visible = "".join(text.split())
    if not visible:
        return "no text"
    letters = letters_by_script(visible).total()
    if letters < LETTER_SHARE * len(visible):
        return f"{letters / len(visible):.0%} letters"
    if len(visible) >= ENTROPY_LENGTH and (bits := entropy(visible)) < LOW_ENTROPY:
        return f"{bits:.1f} bits per character"
    if len(text.split()) == 1 and len(visible) >= LONG_TOKEN and spaced(visible):
        return f"one token of {len(visible)} characters"
    return ""


def _wrong_language(text: str, lang: str, english: str | None, identified: str | None) -> str:
    if english and text.split() == english.split() and base_tag(lang) != "en":
        return "equals the English source"
    letters, expected = letters_by_script(text), expected_scripts(lang)
    if expected and 2 * sum(letters[script] for script in expected) < letters.total():
        return f"written in {letters.most_common(1)[0][0].capitalize()} script"
    if identified and not same_language(identified, lang):
        return f"language ID says {identified}"
    return ""
