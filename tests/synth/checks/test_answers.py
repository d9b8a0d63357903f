"""Checks of an answer and its source: what is wrong, in words."""

from __future__ import annotations

from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.synth.checks import checks_from, reason_of
from pomona.synth.teachers import Assignment, Candidate, Lesson


def told(checks: dict[str, Any], source: str, answer: str, lang: str = "af") -> Any:
    row = Assignment("1", source, "en", lang)
    return reason_of(checks_from(checks), Candidate(row, Lesson("1", answer, "t", None)))


FILE = "The file could not be saved"


@pytest.mark.parametrize(
    ("checks", "source", "answer", "lang", "expected"),
    [
        ({"language": True}, FILE, "Die lêer kon nie gestoor word nie", "af", None),
        ({"language": True}, FILE, "Файл не может быть сохранён", "af", "is written in Cyrillic, not as af is"),
        ({"language": True}, FILE, "O arquivo não pôde ser guardado no disco", "de", "is in pt, not in de"),
        ({"language": True}, FILE, "Filen kunne ikke gemmes på disken", "nn", None),
        ({"language": True}, "{0}", "{0}", "be", None),
        ({"placeholders": True}, "Save %s in {0}", "Stoor %s in {0}", "af", None),
        ({"placeholders": True}, "Save %s in {0}", "Stoor", "af", "lost %s, {0}"),
        ({"placeholders": True}, "Save", "Stoor {0}", "af", "has {0}, which the source has not"),
        ({"length_ratio": [0.3, 3]}, "Save", "Stoor", "af", None),
        ({"length_ratio": [0.3, 3]}, "Save", "Stoor die hele lêer nou", "af", "is 5.8 times as long as its source"),
        ({"words": [1, 3]}, "Save", "een twee drie vier", "af", "has 4 words"),
        ({"words": [1, 3]}, "Save", "保存文件", "zh", None),
        ({"untranslated": 0.8}, FILE, "the file could not be gestoor", "af", "took 83% of its words from the source"),
        ({"untranslated": 0.8}, "Firefox", "Firefox", "af", None),
        ({"copied": True}, FILE, " the file  COULD not be saved", "en", "is its source again"),
    ],
)  # fmt: skip
def test_a_check_says_what_is_wrong(
    checks: dict[str, Any], source: str, answer: str, lang: str, expected: str | None
) -> None:
    said = told(checks, source, answer, lang)
    assert said == (None if expected is None else (next(iter(checks)), expected))


def test_the_first_check_that_fails_is_told() -> None:
    both = {"words": [2, 9], "placeholders": True}
    assert told(both, "Save %s", "Stoor") == ("placeholders", "lost %s")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lenght_ratio": [1, 2]}, 'did you mean "length_ratio"?'),
        ({"length_ratio": [3, 1]}, "must be the least and the most, in this order"),
        ({"words": [3]}, "must be the least and the most, in this order"),
        ({"near_duplicates": 2}, "at most 1"),
        ({"untranslated": True}, '"untranslated" must be a number'),
    ],
)
def test_what_a_recipe_says_wrongly_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PomonaError) as raised:
        checks_from(wrong)
    assert said in str(raised.value)
