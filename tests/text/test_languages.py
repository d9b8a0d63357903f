from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.text.languages import (
    _identifier,
    base_language,
    language_confidence,
    prose,
    same_language,
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    _identifier.cache_clear()
    yield
    _identifier.cache_clear()


def test_confidence_is_that_of_the_rows_language(monkeypatch: pytest.MonkeyPatch) -> None:
    class Identifier:
        @classmethod
        def from_model_file(cls, file: str, norm_probs: bool) -> Identifier:
            assert (file, norm_probs) == ("model", True)
            return cls()

        def rank(self, text: str) -> list[tuple[str, float]]:
            return [("pt", 0.75), ("no", 0.25)]

    module = ModuleType("py3langid.langid")
    module.MODEL_FILE, module.LanguageIdentifier = "model", Identifier  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "py3langid", ModuleType("py3langid"))
    monkeypatch.setitem(sys.modules, "py3langid.langid", module)
    confidences = language_confidence(["x"] * 4, ["pt_BR", "nb", "pt", "hsb"])
    np.testing.assert_array_equal(confidences, [0.75, 0.25, 0.75, np.nan])


def test_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(
        PomonaError,
        match=r"language identification needs py3langid — pip install 'pomona\[language\]'",
    ):
        language_confidence(["x"], ["en"])


def test_real_texts() -> None:
    pytest.importorskip("py3langid")
    texts = [
        "Die Datei wurde erfolgreich gespeichert.",
        "Le fichier a été enregistré avec succès.",
        "Die Datei wurde erfolgreich gespeichert.",
    ]
    german, french, wrong = language_confidence(texts, ["de", "fr_CA", "fr"])
    assert min(german, french) > 0.9
    assert wrong < 0.1


def test_tags() -> None:
    assert [base_language(tag) for tag in ("zh_Hans", "sr-Latn", "nb", "DE", "ca@valencia")] == [
        "zh",
        "sr",
        "no",
        "de",
        "ca",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Seite %(page)s von %(count)d, %s, %1$s und %-5.2f", "Seite von , , und"),
        ("100 % sicher, 50% der Fälle", "% sicher, % der Fälle"),
        ("{0} und {name!r:>10} und ${HOME} und $USER {{ user.name }}", "und und und"),
        ('<a href="x">hier</a> &amp; <br/> a < b', "hier a < b"),
        ("siehe https://example.org/a?b=1, www.example.org und a.b@example.org", "siehe und"),
        ("`code` ``more`` :ref:`label` mit --option -v /usr/share/x", "mit"),
        ("settings.py DATABASE_URL foo_bar a.b.c ISO8859 utf8 2024", ""),
        ("Straße, naïve — Ελλάδα 中文", "Straße, naïve — Ελλάδα 中文"),
        ("%d Dateien, %i Ordner, 5 %d", "Dateien, Ordner,"),
        ("Das ist so. Und: ja/nein", "Das ist so. Und:"),
        ("", ""),
    ],
)
def test_what_belongs_to_no_language_is_taken_out(text: str, words: str) -> None:
    assert prose(text) == words


def test_long_texts_of_signs_take_no_time() -> None:
    for sign in ("%(", "<", "`", "{", "$", "&", ":a", "w_", "-a", "%0", "@", "/a"):
        prose(sign * 20_000)


def test_texts_without_a_word_have_no_confidence() -> None:
    pytest.importorskip("py3langid")
    texts = ["%(count)s: {0}", "Die Datei %(name)s wurde gespeichert."]
    none, german = language_confidence(texts, ["de", "de"])
    assert np.isnan(none) and german > 0.9


def test_languages_that_are_one() -> None:
    assert same_language("nb", "da") and same_language("ku", "ckb") and same_language("de_AT", "de")
    assert not same_language("es", "gl")
