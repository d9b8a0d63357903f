"""The page's words come from people, and a language is written in its direction."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from pomona.arena import annotating
from pomona.arena.annotating.words import LANGUAGES, Words, choose, direction, language_name

HERE = Path(annotating.__file__).parent
ROOT = Path(__file__).parents[3]


def test_the_words_are_those_that_the_script_finds_in_the_data() -> None:
    spec = importlib.util.spec_from_file_location("build_words", ROOT / "scripts/build_words.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert json.loads((HERE / "words.json").read_text(encoding="utf-8")) == script.built()


def test_every_word_is_used_by_a_page() -> None:
    used = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("*.j2"))
    words = json.loads((HERE / "words.json").read_text(encoding="utf-8"))["words"]
    every = {word for known in words.values() for word in known}
    assert not [word for word in every if not re.search(f"[\"']{re.escape(word)}[\"']", used)]


def test_many_languages_have_the_words_of_the_page() -> None:
    whole = {
        "ca",
        "de",
        "es",
        "fr",
        "it",
        "nl",
        "pl",
        "pt",
        "pt-BR",
        "sv",
        "tr",
        "zh-Hans",
        "zh-Hant",
    }
    assert {tag for tag in LANGUAGES if Words(tag).plain("Vote") != "Vote"} > whole - {"fr"}
    assert {"ar", "fa", "he", "hi", "ja", "ko", "ru", "sw", "vi"} < set(LANGUAGES)
    assert Words("ar")("Undo") == "تراجع"
    assert Words("sw")("Log out") == "Toka"
    assert Words("tr")("Name") == "Adı"
    assert Words("de").plain("Saving…") == "Speichern…"


def test_what_nobody_translated_says_that_it_is_english() -> None:
    assert str(Words("de")("A <word>")) == '<span lang="en" dir="ltr">A &lt;word&gt;</span>'
    assert Words("de").plain("A <word>") == "A <word>"
    assert str(Words("en")("A <word>")) == "A &lt;word&gt;"


def test_a_language_without_words_is_english() -> None:
    assert (Words("xx").language, Words("xx").dir, str(Words("xx")("Undo"))) == (
        "en",
        "ltr",
        "Undo",
    )


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("ar", "rtl"), ("ar_DZ", "rtl"), ("fa", "rtl"), ("he", "rtl"), ("ug", "rtl"), ("dv", "rtl"),
        ("uz_Arab", "rtl"), ("en", "ltr"), ("zh-Hant", "ltr"), ("sd", "auto"), ("xx", "auto"), (None, "auto"),
    ],
)  # fmt: skip
def test_a_language_is_written_in_its_direction(tag: str | None, expected: str) -> None:
    assert direction(tag) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("de-CH,de;q=0.9,en;q=0.8", "de"), ("en;q=0.1, fa-IR", "fa"), ("zh-TW", "zh-Hant"), ("zh-Hans-CN", "zh-Hans"),
        ("pt-BR,pt;q=0.5", "pt-BR"), ("pt-PT", "pt"), ("no", "nb"), ("xx,yy", "en"), ("de;q=0", "en"), ("de;q=x", "en"),
        ("", "en"), (None, "en"), ("," * 5000 + "de", "en"),
    ],
)  # fmt: skip
def test_the_browser_chooses_the_language(asked: str | None, expected: str) -> None:
    assert choose(asked) == expected


def test_languages_are_called_what_their_speakers_call_them() -> None:
    names = [language_name(tag) for tag in ("sw", "te", "pt_BR", "de_AT", "xx")]
    assert names == ["Kiswahili", "తెలుగు", "Português Brasileiro", "Deutsch", "xx"]
