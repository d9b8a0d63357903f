"""Formality: what a text calls its reader, and nothing where that is not told for certain."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.markers import Taxonomy, tag
from pomona.markers.formality import formality
from pomona.records import Records, TableSource, read

SAID: dict[str, dict[str, str | None]] = {
    "de": {
        "Bitte geben Sie Ihr Passwort ein.": "Formal", "Wir helfen Ihnen.": "Formal",
        "Hast du dein Passwort vergessen?": "Informal", "Du bist dran": "Informal",
        "Die Daten sind alt. Sie werden gelöscht.": None, "Ihr Name": None, "ihre Namen": None,
        "Benutzer\nSie werden gelöscht": None, "„Sie“": None, "%(name)s Sie": None,
        "Haben Sie dein Passwort?": None, "Passwort": None, "": None,
    },
    "fr": {
        "Veuillez patienter": "Formal", "Saisissez un nombre": "Formal", "Pouvez-vous ?": "Formal",
        "Connecte-toi": "Informal", "Est-ce que tu viens avec ton chien ?": "Informal",
        "Je t’aime": "Informal", "le ton, un ton": None, "Rendez-vous": None,
        "Chez M. Martinez, assez près de Suez": None, "Martínez": None, "TA": None,
    },
    "es": {
        "¿Desea usted salir?": "Formal", "Introduzca su clave.": "Formal",
        "Error. Por favor, introduzca otra": "Formal", "¿Seguro que quieres salir?": "Informal",
        "su clave": None, "ustedes": None, "Cuando introduzca la clave": None, "té": None,
    },
    "it": {
        "Se vuole, Lei può scegliere": "Formal", "Inserisca la password": "Formal",
        "La tua password": "Informal", "Lei è una collega": None, "il suo": None, "tè": None,
    },
    "nl": {
        "Weet u het zeker?": "Formal", "U kunt gaan": "Formal", "uw naam": "Formal",
        "Weet je het zeker?": "Informal", "Om 24 u sluiten": None, "Kolom U": None,
    },
    "ca": {"Vostè té raó": "Formal", "el teu nom": "Informal", "el vostre nom": None},
    "pl": {
        "Czy ma Pan konto?": "Formal", "Dziękujemy Państwu": "Formal", "Twój adres": "Informal",
        "To jest Pan Kowalski": None, "państwo": None, "ci ludzie": None,
    },
    "cs": {"Zadejte číslo": "Formal", "vaše heslo": "Formal", "tvoje heslo": "Informal",
           "ty soubory": None},
    "ru": {"Введите пароль": "Formal", "Ваш пароль": "Formal", "Твой пароль": "Informal",
           "на сайте": None},
    "tr": {"Emin misiniz?": "Formal", "Hesabınızda": "Formal", "senin adın": "Informal",
           "Üzgünüz.": None, "deniz": None},
    "hi": {"क्या आप तैयार हैं?": "Formal", "तुम कहाँ हो": "Informal", "आपूर्ति": None,
           "यह अपने आप होता है": None},
    "ja": {"保存しました。": "Formal", "入力してください": "Formal", "行くよ、楽しいじゃん": "Informal",
           "ますます": None, "保存": None},
    "ko": {"저장했습니다.": "Formal", "너는 누구야": "Informal", "너무 크다": None},
    "da": {"Tak, at De kom": "Formal", "din fil": None, "Det er De Gaulle": None},
    "zh_Hans": {"请输入您的密码": "Formal", "你的密码": None},
    "en": {"your password, thou fool": None},
    "xx": {"Sie": None},
}  # fmt: skip


def test_words_of_address_tell_it() -> None:
    pairs = [(text, lang) for lang, texts in SAID.items() for text in texts]
    said = formality([text for text, _ in pairs], [lang for _, lang in pairs])
    found = {(lang, text): one for (text, lang), one in zip(pairs, said, strict=True)}
    assert found == {
        (lang, text): one for lang, texts in SAID.items() for text, one in texts.items()
    }
    assert formality(["du", None, "Wie heißt du?"], [None, "de", "de_AT"]) == [
        None,
        None,
        "Informal",
    ]


def test_the_language_is_a_markers_a_columns_or_told_from_the_text(tmp_path: Path) -> None:
    tone: dict[str, Any] = {
        "kind": "values",
        "measure": "formality",
        "values": ["Formal", "Informal"],
    }
    texts = ["Wie kann ich dir helfen, wenn du nicht da bist?", "te ti tu", "Sie sagt", None]
    columns = {"prompt": ["p"] * 4, "completion": texts}
    only = Taxonomy.model_validate({"markers": {"tone": tone}})
    lang = {"kind": "text", "column": "tongue"}
    both = Taxonomy.model_validate({"markers": {"tone": tone, "lang": lang}})
    cases: tuple[tuple[Taxonomy, dict[str, Any], list[str | None]], ...] = (
        (only, {}, ["Informal", None, None, None]),
        (only, {"lang": ["fr", "it", "de", "de"]}, [None, "Informal", None, None]),
        (both, {"lang": ["de"] * 4, "tongue": ["de", "es", None, "de"]},
         ["Informal", "Informal", None, None]),
    )  # fmt: skip
    for taxonomy, more, told in cases:
        out = tmp_path / "t.parquet"
        tag(Records.of(TableSource(pa.table({**columns, **more}))), out, taxonomy=taxonomy)
        rows = read(out).to_table().to_pylist()
        assert [row["marker_tone"] for row in rows] == told
        for row in rows:
            assert (row["marker_tone_sure"] is None) == (row["marker_tone"] is None)


def test_long_texts_are_read_in_time_and_values_must_fit() -> None:
    start = time.process_time()
    said = formality(["sagt ihr Sie " * 5_000, "ez-" * 20_000, "t'" * 30_000], ["de", "fr", "fr"])
    assert said == ["Formal", None, "Informal"]
    assert time.process_time() - start < 2
    markers = {"tone": {"kind": "values", "measure": "formality", "values": ["polite", "rude"]}}
    with pytest.raises((PomonaError, ValueError), match="have both among the values"):
        Taxonomy.model_validate({"markers": markers})
