from __future__ import annotations

import pytest

from pomona.errors import PomonaError
from pomona.sample.selection.choosing import extractor


@pytest.mark.parametrize(
    ("how", "text", "answer"),
    [
        ("number", "so 3 apples and 4 pears: 7", "7"),
        ("number", "The total is $1,234.50.", "1234.5"),
        ("number", "from 5-3", "3"),
        ("number", "it is -3.0 degrees", "-3"),
        ("number", "it is −3 degrees", "-3"),
        ("number", "1, 2", "2"),
        ("number", "007", "7"),
        ("number", "1,5", "5"),
        ("number", "-0.0", "0"),
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
