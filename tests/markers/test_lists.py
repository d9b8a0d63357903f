"""Lists of markers: no text brings one along, and each comes off exactly."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer

from pomona.errors import PomonaError
from pomona.markers import Form, attach, detach, escape, list_of, read_answer, read_list, unescape
from pomona.markers.lists import END, bare_answer
from pomona.markers.taxonomy import Taxonomy, read_taxonomy

ASSETS = Path(__file__).parents[2] / "src/pomona/assets"
FORMS: tuple[Form, ...] = ("verbose", "compact", "compact1")
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
    assert list_of(values, read_taxonomy(), "compact1") == ";1199;;;___;3__de"
    assert list_of(values, read_taxonomy(), "compact") == " x a 199 x x x x x x K x x de"
    assert attach("Hi.", {"lang": "de"}, OWN, "compact") == "Hi.~| de x x x x x"
    odd = {"lang": "x", "length": "short", "style": "Formal", "quality": -1.5, "note": "a b%|x"}
    assert list_of(odd, OWN, "compact") == " %78 x a c -1.5 a%20b%25%7Cx"


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
        "compact": ("", "Hallo", "de x a c x|rest", "de 1 x x x x x|", "de 1 e x x x|", "de  a c x x|", "  de x a c x x|",
                    "de 1.5 a c x x|", "x x a a x x|", "|", " |"),
        "compact1": ("", "Hallo", "de;x;0|rest", "de;1;7|rest", "de;1;0_;;;;|rest"),
    }.items():  # fmt: skip
        for text in texts:
            assert read_answer(text, OWN, form) == (None, text)  # pyright: ignore[reportArgumentType]


@settings(max_examples=80, deadline=None)
@given(VALUES, st.integers(0, 5), st.integers(0, 5))
def test_a_compact_list_that_lost_a_place_or_has_one_twice_is_none(
    values: dict[str, Any], place: int, other: int
) -> None:
    words = list_of(values, OWN, "compact")[1:].split(" ")
    assert read_list(" ".join(words), OWN, "compact") == values  # without its first blank too
    assert len(words) == len(OWN.listed)
    for wrong in (words[:place] + words[place + 1 :], words[: place + 1] + words[place:]):
        assert read_list(" ".join(wrong), OWN, "compact") is None
    between = max(1, min(place, other))
    glued = [*words[: between - 1], words[between - 1] + words[between], *words[between + 1 :]]
    assert read_list(" ".join(glued), OWN, "compact") is None


@pytest.mark.parametrize("name", ["ui-s", "ui-tokenizer"])
def test_letters_are_tokens_of_their_own(name: str) -> None:
    count = Tokenizer.from_file(str(ASSETS / name / "tokenizer.json"))
    sizes = (5, 14, 2, 8, 3, 4, 10)
    kinds = {
        f"m{at}": {"kind": "values", "values": [f"v{n}" for n in range(size)]}
        for at, size in enumerate(sizes)
    }
    many = Taxonomy.model_validate({"markers": kinds})
    rng = random.Random(0)
    for _ in range(50):
        values = {f"m{at}": f"v{rng.randrange(size)}" for at, size in enumerate(sizes)}
        known = {name: value for name, value in values.items() if rng.random() < 0.7}
        told = list_of(known, many, "compact")
        assert read_list(told, many, "compact") == known
        tokens = count.encode(told + END, add_special_tokens=False).tokens
        assert tokens == [*told.replace(" ", " Ġ").split(" ")[1:], END]


def test_values_that_letters_do_not_suffice_for_are_written_out() -> None:
    names = [f"v{n}" for n in range(52)]
    kinds = {
        "many": {"kind": "values", "values": names},
        "few": {"kind": "values", "values": names[:51]},
    }
    own = Taxonomy.model_validate({"markers": kinds})
    assert list_of({"many": "v51", "few": "v50"}, own, "compact") == " v51 Y"
    assert read_list("v51 Y", own, "compact") == {"many": "v51", "few": "v50"}
    assert read_list("v52 Y", own, "compact") is None


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
    assert list_of({"length": "long"}, own, "compact") == " x b x x x"
    assert read_list("x b x x x", own, "compact") == {"length": "long"}
    with pytest.raises(PomonaError, match='marker "words" does not stand in lists'):
        list_of({"words": 3}, own, "compact")
