"""Scripts, and what the rules make of texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from pomona.data.audit.prelabel import entropy, identified_languages, prelabel
from pomona.errors import PomonaError
from pomona.text import count_words, expected_scripts, languages, letters_by_script


@pytest.mark.parametrize(
    ("lang", "scripts"),
    [
        ("de", {"LATIN"}), ("pt_BR", {"LATIN"}), ("ru", {"CYRILLIC"}), ("sr", {"CYRILLIC", "LATIN"}), ("sr_Latn", {"LATIN"}),
        ("sr@latin", {"LATIN"}), ("zh-Hant-TW", {"CJK"}), ("ja", {"CJK", "HIRAGANA", "KATAKANA"}), ("uz_Cyrl", {"CYRILLIC"}),
        ("fa", {"ARABIC"}), ("as", {"BENGALI"}), ("xx", None),
    ],
)  # fmt: skip
def test_languages_have_their_scripts(lang: str, scripts: set[str] | None) -> None:
    assert expected_scripts(lang) == scripts


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Übersicht", "LATIN"), ("обзор", "CYRILLIC"), ("επισκόπηση", "GREEK"), ("סקירה", "HEBREW"), ("نمای کلی", "ARABIC"),
        ("सिंहावलोकन", "DEVANAGARI"), ("অৱলোকন", "BENGALI"), ("ਸੰਖੇਪ", "GURMUKHI"), ("ઝાંખી", "GUJARATI"), ("மேலோட்டம்", "TAMIL"),
        ("అవలోకనం", "TELUGU"), ("ಅವಲೋಕನ", "KANNADA"), ("അവലോകനം", "MALAYALAM"), ("ภาพรวม", "THAI"), ("ພາບລວມ", "LAO"), ("개요", "HANGUL"),
        ("概要々", "CJK"), ("がいよう", "HIRAGANA"), ("ウィンドウー", "KATAKANA"), ("ﾊﾝｶｸ", "KATAKANA"), ("ＡＢＣ", "LATIN"),
        ("მიმოხილვა", "GEORGIAN"),
        ("ակնարկ", "ARMENIAN"), ("አጠቃላይ", "ETHIOPIC"), ("ទិដ្ឋភាព", "KHMER"), ("ခြုံငုံ", "MYANMAR"), ("ᐃᓄᒃᑎᑐᑦ", "CANADIAN"), ("ߒߞߏ", "NKO"),
    ],
)  # fmt: skip
def test_letters_have_their_script(text: str, script: str) -> None:
    letters = letters_by_script(text)
    assert set(letters) == {script}


def test_marks_digits_and_symbols_have_no_script() -> None:
    assert not letters_by_script("12 % — $5.00 µ 𝑥 ª e\u0301"[:-2])
    assert dict(letters_by_script("e\u0301")) == {"LATIN": 1}


def test_words_where_there_are_no_spaces() -> None:
    assert count_words("the system menu") == 3
    assert count_words("概要を開いて左の一覧から") == 6
    assert count_words("設定 を クリック") == 4
    assert count_words("") == 0


@pytest.mark.parametrize(
    ("text", "lang", "english", "code", "reason"),
    [
        ("", "de", None, "NL", "no text"),
        (" \n\t", "de", None, "NL", "no text"),
        ("1 2 3 4 5 — 17:30", "de", None, "NL", "0% letters"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa bbb", "de", None, "NL", "0.5 bits per character"),
        ("org.gnome.desktop.background/picture", "de", None, "NL", "one token of 36 characters"),
        ("概要を開いて左の一覧からウィンドウを選択してください", "ja", None, "CC", ""),
        ("Open the  overview", "tr", "Open the overview", "WL", "equals the English source"),
        ("Open the overview", "ru", None, "WL", "written in Latin script"),
        ("Откройте обзор GNOME", "ru", "Open the overview", "CS", "3 words"),
        ("Откройте обзор", "de", None, "WL", "written in Cyrillic script"),
        ("使用 PostgreSQL 数据库 进行 备份", "zh_Hans", None, "CC", ""),
        (
            "打开 the overview and choose",
            "zh",
            None,
            "WL",
            "written mostly in Latin script: 80% of its words",
        ),
        ("Open the overview 中 here now", "en", None, "CC", ""),
        (
            "Open the overview 中 here now",
            "zh",
            None,
            "WL",
            "written mostly in Latin script: 91% of its words",
        ),
        ("打开概览并选择一个窗口", "en", None, "WL", "written in Han script"),
        ("Django Administration", "bg", None, "CS", "2 words"),
        ("Página '%(page_title)s' y '%(subpages_count)s' copiadas por usted", "es", None, "CC", ""),
        ("%(greeting)s %(name)s", "ru", "%(greeting)s %(name)s", "CS", "2 words"),
        ("Open the overview and choose", "xx", None, "CC", ""),
        ("Setup", "en_GB", "Setup", "CS", "1 words"),
        ("Öffnen Sie die Übersicht und wählen Sie", "de", "Open it", "CC", ""),
    ],
)
def test_rules(text: str, lang: str, english: str | None, code: str, reason: str) -> None:
    assert prelabel(text, lang, english, 0.0, None) == (code, reason)


def test_boilerplate_and_language_id() -> None:
    text = "Öffnen Sie die Übersicht und wählen Sie"
    assert prelabel(text, "de", None, 0.5, None)[0] == "CB"
    assert prelabel(text, "de", None, 0.4, None)[0] == "CC"
    assert prelabel(text, "fr", None, 0.0, "de") == ("WL", "language ID says de")
    assert prelabel(text, "nn", None, 0.0, "nb")[0] == "CC"
    assert prelabel(text, "de_AT", None, 0.0, "de")[0] == "CC"


def test_language_id_is_asked_only_for_texts_long_enough() -> None:
    asked: list[str] = []

    def always_german(texts: Sequence[str]) -> list[str]:
        asked.extend(texts)
        return ["de"] * len(texts)

    assert identified_languages(
        ["short", "a text that is long enough"], ["tr", "tr"], always_german
    ) == [None, "de"]
    assert asked == ["a text that is long enough"]
    with pytest.raises(
        PomonaError,
        match=(
            r"language_id: language ID gave 0 answers for 1 text — return one language, or "
            r"None, for each"
        ),
    ):
        identified_languages(["a text that is long enough"], ["tr"], lambda _: [])


def test_the_identifier_is_not_asked_about_languages_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {
        "ein Text, der lang genug ist": ("de", 0.9),
        "...................... nothing at all": ("zxx", 0.5),
    }
    identifier = SimpleNamespace(labels=["de", "zxx"], classify=lambda text: said[text])
    monkeypatch.setattr(languages, "_identifier", lambda: identifier)
    german, nothing = said
    assert identified_languages(
        [german, german, nothing * 2], ["de_AT", "gl", "gl"], "py3langid"
    ) == ["de", None, None]
    said[nothing * 2] = ("zxx", 0.5)
    assert identified_languages([nothing * 2], ["de"], "py3langid") == [None]


def test_a_missing_identifier_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    languages._identifier.cache_clear()
    with pytest.raises(
        PomonaError,
        match=r"language identification needs py3langid — pip install 'pomona\[language\]'",
    ):
        identified_languages(["x"], ["de"], "py3langid")
    with pytest.raises(
        PomonaError,
        match='language_id: "fasttext" is not known — use "script", "py3langid" or a function',
    ):
        identified_languages(["x"], ["de"], "fasttext")  # type: ignore[arg-type]


def test_real_texts_in_the_wrong_language() -> None:
    pytest.importorskip("py3langid")
    texts = ["Die Datei wurde erfolgreich gespeichert.", "Le fichier a été enregistré avec succès."]
    assert identified_languages(texts, ["tr", "fr"], "py3langid") == ["de", "fr"]


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("Página '%(page_title)s' y '%(subpages_count)s' subpáginas copiadas.", "es"),
        ("Pedido %(number)s: confirmación", "es"),
        ('Lo sentimos, ningún fragmento coincide con "<em>%(search_query)s</em>"', "es"),
        ("Criado entre {start_date} e {end_date}", "pt_BR"),
        ("Tipo de produto actualizado", "pt"),
        ("Partnerreferenznummer", "de"),
        ("Warenkorb #%(basket_id)d, Produkt #%(product_id)d, Menge %(quantity)d", "de"),
    ],
)
def test_look_alikes_and_placeholders_are_not_another_language(text: str, lang: str) -> None:
    pytest.importorskip("py3langid")
    (said,) = identified_languages([text], [lang], "py3langid")
    assert prelabel(text, lang, None, 0.0, said)[0] != "WL"


def test_a_look_alike_is_called_wrong_where_the_margin_is_clear() -> None:
    pytest.importorskip("py3langid")
    text = (
        "Si usted no ha cambiado la contraseña, puede ignorar este mensaje de correo electrónico."
    )
    assert identified_languages([text], ["pt"], "py3langid") == ["es"]
    assert identified_languages(["Percentage discount cannot be greater"], ["es"], "py3langid") == [
        "en"
    ]


def test_entropy() -> None:
    assert entropy("") == 0
    assert entropy("aaaa") == 0
    assert entropy("abab") == 1
    assert entropy("abcd") == 2
