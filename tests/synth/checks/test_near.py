"""The index of near copies: what brute force says, text by text, in little memory."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.synth.checks import HeldOut, NearDuplicates


def shingles(text: str, size: int = 4) -> set[str]:
    plain = " ".join(unicodedata.normalize("NFC", text).lower().split())
    return {plain[at : at + size] for at in range(len(plain) - size + 1)} or {f"short {plain}"}


def jaccard(one: str, two: str, size: int = 4) -> float:
    left, right = shingles(one, size), shingles(two, size)
    return len(left & right) / len(left | right)


TEXTS = st.text("aábcB 中\n", max_size=14)


@given(st.lists(TEXTS, max_size=12), st.lists(TEXTS, min_size=1, max_size=4))
def test_it_says_what_brute_force_says(taken: list[str], asked: list[str]) -> None:
    """At 0.5 a pair is missed once in a hundred million."""
    index = NearDuplicates(0.5, size=2)
    for text in taken:
        index.add(text)
    told = index.nearest_of(asked)
    for text, near in zip(asked, told, strict=True):
        best = max((jaccard(text, other, 2) for other in taken), default=0.0)
        assert (near is None) == (best < 0.5)
        if near is not None:
            assert near.similarity == pytest.approx(best)
            first = next(t for t in taken if jaccard(text, t, 2) == pytest.approx(best))
            assert near.text == first
        assert index.nearest(text) == near


def changed(text: str, draw: random.Random) -> str:
    letters = list(text)
    for _ in range(draw.randint(0, 6)):
        letters[draw.randrange(len(letters))] = draw.choice("abcdefgh ")
    return "".join(letters)


def test_many_texts_in_many_pieces_are_found_and_take_little_memory() -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefghijklm ", k=60)) for _ in range(5000)]
    index = NearDuplicates()
    index.add_all(texts[:3000], "a test item")
    for at in range(3000, 5000, 250):
        index.add_all(texts[at : at + 250])
    asked = [changed(text, draw) for text in texts[::5]]
    truths = np.array([jaccard(*pair) for pair in zip(asked, texts[::5], strict=True)])
    found = [near is not None for near in index.nearest_of(asked)]
    # Nothing that is none is taken for a near copy, and none is missed.
    assert found == list(truths >= 0.8) and 200 < sum(found) < 900
    assert len(index) == 5000 and index.nbytes / len(index) < 60 + 300


def test_a_reason_names_the_near_copy_and_what_it_is() -> None:
    index = NearDuplicates(0.8)
    index.add("Please enter a valid e-mail address.", named="a test item")
    said = index.reason("please enter a valid  E-mail address!")
    assert said == "is a near copy (0.94) of a test item: 'Please enter a valid e-mail address.'"
    assert index.reason("Please enter a valid date.") is None
    index.add("Please enter a valid date.")
    assert index.reason("Please enter a valid date") is not None
    words = NearDuplicates(0.5, shingle="auto", size=2)
    words.add("one two three four five")
    assert words.reason("one two three four six") is not None
    assert words.reason("one three two five four") is None
    half = NearDuplicates()
    half.add("half \ud800 of a character")
    assert half.reason("Half \ud800 of a character") is not None


@pytest.mark.parametrize("wrong", [0.0, 1.5, float("nan")])
def test_a_threshold_is_a_share(wrong: float) -> None:
    with pytest.raises(PomonaError, match="give a share above 0"):
        NearDuplicates(wrong)


def test_signs_and_placeholders_make_no_other_text_of_a_test_item() -> None:
    held = HeldOut(0.8)
    held.add_all(["Save", "Delete %(name)s from it?", "%s"])
    near = ["Save…", "_Save", "&SAVE!", "save %s", "Delete {0} from it", "<b>Delete</b> %s from it"]
    assert all(held.alike(near))
    assert not any(held.alike(["Saves", "Delete 2 from it?", "%d", "…", "ค่า"]))
