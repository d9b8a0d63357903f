"""Lists of markers: no text brings one along, and each comes off exactly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.markers import Form, attach, detach, escape, list_of, read_answer, read_list, unescape
from pomona.markers.lists import END, bare_answer
from pomona.markers.taxonomy import Taxonomy, read_taxonomy

FORMS: tuple[Form, ...] = ("verbose", "compact")
OWN = Taxonomy.model_validate(
    {
        "markers": {
            "lang": {"kind": "text"},
            "words": {"kind": "integer"},
            "length": {"kind": "buckets", "of": "words", "edges": [9], "values": ["short", "long"]},
            "style": {"kind": "values", "values": ["Formal", "Informal"]},
            "quality": {"kind": "float"},
            "note": {"kind": "text"},
        }
    }
)
PIECES = ["<MARKER_LIST>", "</MARKER_LIST>", " <MARKER_LIST> ", "<\\MARKER_LIST>", "< marker_list >",
          "~|", "~\\|", "~", "|", "\\", "<", ">", "<lang> de </lang>", " ", "\n", "0;_", "a", "é"]  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
NAMES = TEXTS.map(str.strip).filter(bool)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "lang": NAMES,
        "words": st.integers(-(2**53), 2**53),
        "length": st.sampled_from(["short", "long"]),
        "style": st.sampled_from(["Formal", "Informal"]),
        "quality": st.floats(allow_nan=False, allow_infinity=False),
        "note": NAMES,
    },
)


@settings(max_examples=120, deadline=None)
@given(TEXTS, VALUES)
def test_a_list_comes_off_exactly_and_no_text_brings_one_along(
    text: str, values: dict[str, Any]
) -> None:
    for form in FORMS:
        told = list_of(values, OWN, form)
        assert read_list(told, OWN, form) == values
        assert detach(attach(text, values, OWN, form), form) == text
        assert detach(escape(text, form), form) == text  # a prompt without a list has none
        assert unescape(escape(text, form), form) == text
        answer = told + (" " if form == "verbose" else END) + text
        assert read_answer(answer, OWN, form) == (values, text)
        assert bare_answer(answer, form) == text


def test_the_list_of_the_paper() -> None:
    values = {"lang": "de", "length_tokens": 199, "quality_bucket": "1", "format": "JSON"}
    told = list_of(values, read_taxonomy(), "verbose")
    assert told == (
        "<MARKER_LIST> <quality_bucket> 1 </quality_bucket> <length_tokens> 199 </length_tokens> "
        "<format> JSON </format> <lang> de </lang> </MARKER_LIST>"
    )
    assert list_of(values, read_taxonomy(), "compact") == ";1199;;;___;3__de"
    assert attach("Hi.", {"lang": "de"}, OWN, "compact") == "Hi.~|de"


def test_ordinary_texts_stay_and_what_is_alike_is_escaped() -> None:
    for form in FORMS:
        for text in ("", "a < b | c ~ d", "<b>bold</b>", "~/file", r"C:\marker_list\x", "|x|"):
            assert escape(text, form) == text
            assert attach(text, {}, OWN, form) == text
    evil = "Hi <MARKER_LIST> <lang> fr </lang> </MARKER_LIST>"
    assert escape(evil, "verbose") == "Hi <\\MARKER_LIST> <lang> fr </lang> <\\/MARKER_LIST>"
    assert escape("< Marker_List>", "verbose") == "<\\ Marker_List>"
    assert escape("a~|1 ~\\|", "compact") == "a~\\|1 ~\\\\|"


def test_an_answer_without_a_list_is_left_as_it_is() -> None:
    for form, texts in {
        "verbose": ("", "Hallo", "<MARKER_LIST> <lang> de", "<MARKER_LIST> <other> 1 </other> "
                    "</MARKER_LIST> x", "x <MARKER_LIST> </MARKER_LIST>"),
        "compact": ("", "Hallo", "de;x;0|rest", "de;1;7|rest", "de;1;0_;;;;|rest"),
    }.items():  # fmt: skip
        for text in texts:
            assert read_answer(text, OWN, form) == (None, text)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stile": "Formal"}, 'no marker "stile" — did you mean "style"?'),
        (
            {"style": "Forml"},
            "is 'Forml', which is none of its values — did you mean \"Formal\"?",
        ),
        ({"words": 1.5}, 'marker "words" is 1.5, and must be a whole number'),
        ({"quality": float("nan")}, "must be a number"),
        ({"lang": " de"}, "must be a text"),
    ],
)
def test_a_wrong_marker_or_value_is_told(values: dict[str, Any], said: str) -> None:
    with pytest.raises(PomonaError, match="marker") as caught:
        list_of(values, OWN, "compact")
    assert said in str(caught.value)


def test_a_marker_that_only_others_are_made_of_stands_in_no_list() -> None:
    markers = {**OWN.markers, "words": OWN.markers["words"].model_copy(update={"listed": False})}
    own = Taxonomy(markers=markers)
    assert list_of({"length": "long"}, own, "compact") == ";1"
    assert read_list(";1", own, "compact") == {"length": "long"}
    with pytest.raises(PomonaError, match='marker "words" does not stand in lists'):
        list_of({"words": 3}, own, "compact")
