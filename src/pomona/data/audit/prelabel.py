"""What a row probably is, told from the text alone, before a person looks at it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from pomona.errors import PomonaError, quantity
from pomona.text import (
    base_tag,
    count_words,
    expected_scripts,
    half_words_by_script,
    identify,
    known_languages,
    letters_by_script,
    prose,
    same_language,
    script_name,
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
NAME_WORDS = 3
RULES = {
    "NL": f"letters are under {LETTER_SHARE:.0%} of characters; or under {LOW_ENTROPY} bits "
    f"each in {ENTROPY_LENGTH} characters or more; "
    f"or one token of at least {LONG_TOKEN} characters in a script with spaces",
    "WL": (
        "equals the English source; or most words are of a script the language is not written "
        f"in (fewer than {NAME_WORDS} Latin ones are names); or language ID clearly disagrees"
    ),
    "CB": (
        f"most of the text is in lines that occur at least {BOILERPLATE_TIMES} times in the group"
    ),
    "CS": f"fewer than {SHORT_WORDS} words",
    "CC": "everything else",
}


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


def check_identifier(language_id: LanguageId) -> None:
    """Raise PomonaError for an identifier that is not known, and for py3langid (139 languages)
    where it is not installed.
    """
    if language_id == "py3langid":
        known_languages()
    elif language_id != "script" and not callable(language_id):
        raise PomonaError(
            f'"{language_id}" is not known',
            where="language_id",
            remedy='use "script", "py3langid" or a function',
        )


def identified_languages(
    texts: Sequence[str], langs: Sequence[str], language_id: LanguageId
) -> list[str | None]:
    """What language ID says of each text: None for texts too short to tell, for languages it does
    not know, and where another language than the row's is not clear. What belongs to no language,
    such as placeholders, is taken out first.
    """
    check_identifier(language_id)
    if language_id == "script":
        return [None] * len(texts)
    words = [prose(text) for text in texts]
    sure = [
        place
        for place, text in enumerate(words)
        if letters_by_script(text).total() >= IDENTIFIED_LETTERS
    ]
    if callable(language_id):
        said = list(language_id([words[place] for place in sure]))
    else:
        known = known_languages()
        sure = [p for p in sure if any(same_language(langs[p], other) for other in known)]
        said = identify([words[place] for place in sure], [langs[place] for place in sure])
    if len(said) != len(sure):
        remedy = "return one language, or None, for each text"
        raise PomonaError(
            f"language ID gave {quantity(len(said), 'answer')} for {quantity(len(sure), 'text')}",
            where="language_id",
            remedy=remedy,
        )
    answers = dict(zip(sure, said, strict=True))
    return [answers.get(place) for place in range(len(texts))]


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
    words = prose(text)
    same = english is not None and text.split() == english.split() and base_tag(lang) != "en"
    if same and letters_by_script(words):
        return "equals the English source"
    if (script := _wrong_script(words, lang)) is not None:
        return script
    if identified and not same_language(identified, lang):
        return f"language ID says {identified}"
    return ""


def _wrong_script(words: str, lang: str) -> str | None:
    """That most words are of a script the language is not written in. A few Latin words are names,
    which other scripts keep.
    """
    scripts, expected = half_words_by_script(words), expected_scripts(lang)
    total = scripts.total()
    if not expected or 2 * sum(scripts[script] for script in expected) >= total:
        return None
    script, most = scripts.most_common(1)[0]
    if script == "LATIN" and most < 2 * NAME_WORDS:
        return None
    if most == total:
        return f"written in {script_name(script)} script"
    return f"written mostly in {script_name(script)} script: {most / total:.0%} of its words"
