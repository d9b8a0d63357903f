"""What is taken for the answer in a text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.tasks import extractor


@pytest.mark.parametrize(
    ("how", "text", "answer"),
    [
        ("number", "so 3 apples and 4 pears: 7", "7"),
        ("number", "The total is $1,234.50.", "1234.5"),
        ("number", "18 + 6 = 24\n#### 1,234,000", "1234000"),
        ("number", "from 5-3", "3"),
        ("number", "it is -3.0 degrees", "-3"),
        ("number", "it is −3 degrees", "-3"),
        ("number", "a change of +5%", "5"),
        ("number", "$-5", "-5"),
        ("number", "1, 2", "2"),
        ("number", "007", "7"),
        ("number", "1,5", "5"),
        ("number", "-0.0", "0"),
        ("number", "a share of .5", "0.5"),
        ("number", "it is -.25", "-0.25"),
        ("number", "6.02e23", "602" + "0" * 21),
        ("number", "1.5e-3", "0.0015"),
        ("number", "version 1.2.3", "3"),
        ("number", "no idea", None),
        ("boxed", r"thus \boxed{\frac{1}{2}} and not \boxed{3", r"\frac{1}{2}"),
        ("boxed", r"\boxed{1} then \boxed{ 2 }", "2"),
        ("boxed", r"\boxed{a \boxed{b} c}", "b"),
        ("boxed", r"} { \boxed{x} {", "x"),
        ("boxed", "42", None),
        ("text", "  Yes,\n it IS. ", "yes, it is"),
        ("text", " ", None),
        ("answer", r"2 or \boxed{3}; 4", "3"),
        ("answer", "Paris.", "paris"),
        ("regex:Answer: (\\w+)", "Answer: A … Answer: B", "B"),
        ("regex:[A-D]", "A or C", "C"),
        ("regex:[A-D]", "none", None),
        ("builtins:len", "four", "4"),
    ],
)
def test_answers_are_found(how: str, text: str, answer: str | None) -> None:
    assert extractor(how)(text) == answer


@pytest.mark.parametrize(
    ("how", "text", "answer"),
    [
        ("number", "3 and 4", "3"),
        ("boxed", r"\boxed{a {b}} and \boxed{c}", "a {b}"),
        ("boxed", r"\boxed{a \boxed{b} c}", r"a \boxed{b} c"),
        ("regex:([A-D])\\b", "(B) or (C)", "B"),
        ("answer", r"\boxed{1} \boxed{2}", "1"),
    ],
)
def test_the_first_is_taken_where_that_is_asked(how: str, text: str, answer: str) -> None:
    assert extractor(how, "first")(text) == answer


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9)))
def test_every_number_is_read_back_however_it_is_written(value: Decimal) -> None:
    for text in (f"{value:f}", f"{value:,}", f"so it is {value:+f} of"):
        found = extractor("number")(text)
        assert found is not None and Decimal(found) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no.such:thing", "cannot be imported: No module"),
        ("math:pi", "is no function"),
        ("math:nope", "cannot be"),
    ],
)
def test_functions_that_are_none(name: str, text: str) -> None:
    with pytest.raises(PomonaError, match=f"{name}: {text}"):
        extractor(name)


def test_a_function_that_fails_is_named() -> None:
    with pytest.raises(PomonaError, match=r"^builtins:int: failed on 'a': invalid literal"):
        extractor("builtins:int")("a")


def test_an_extractor_that_is_none_is_told_with_the_nearest() -> None:
    with pytest.raises(PomonaError, match=r'no extractor "numbr" — did you mean "number"\?'):
        extractor("numbr")
    with pytest.raises(
        PomonaError, match=r"^the pattern cannot be read: .* — give a Python regular"
    ):
        extractor("regex:(")


def test_a_pattern_that_would_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pomona.tasks.extraction.SECONDS", 0.05)
    with pytest.raises(PomonaError, match=r"^text 'aaa.*the pattern '.*' took more than 0.05 s"):
        extractor("regex:^(a|aa|a?)+$")("a" * 60 + "b")
