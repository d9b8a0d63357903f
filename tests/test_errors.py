from __future__ import annotations

from pomona.errors import are, quantity


def test_one_thing_is_counted_as_one() -> None:
    assert [quantity(count, "row") for count in (0, 1, 2, 1200)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,200 rows",
    ]
    assert [quantity(count, "copy is", "copies are") for count in (1, 2)] == [
        "1 copy is",
        "2 copies are",
    ]
    assert [are(count) for count in (0, 1, 2)] == ["are", "is", "are"]
