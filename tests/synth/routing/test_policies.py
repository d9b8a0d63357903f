"""Policies: who is asked, in an order that depends on the row alone, at what budget."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pomona.errors import PomonaError
from pomona.synth.routing import Every, Fixed, Random, Single, share
from pomona.synth.teachers import Assignment

ROWS = [Assignment(f"r{at}", f"text {at}", "en", ("af", "be")[at % 2]) for at in range(60)]
TEACHERS = ("m", "l", "tm")


def test_what_each_policy_asks_for() -> None:
    assert Single("m").ask(ROWS[:1]) == [("m",)]
    assert Single("m", samples=3).ask(ROWS[:1]) == [("m", "m", "m")]
    assert Every(TEACHERS).ask(ROWS[:2]) == [TEACHERS, TEACHERS]
    fixed = Fixed({"af": ("l", "m")}, others=("m",))
    assert fixed.ask(ROWS[:2]) == [("l", "m"), ("m",)]
    by_length = Fixed({"7": ("m",)}, others=("l",), by=lambda row: str(len(row.text)))
    assert by_length.ask([ROWS[5], ROWS[50]]) == [("l",), ("m",)]
    kept = [one.keep for one in (Single("m"), Single("m", 2), Every(TEACHERS), fixed)]
    assert kept == ["first", "best", "best", "first"]


def test_a_lot_depends_on_row_and_seed_alone() -> None:
    random = Random(TEACHERS)
    asked = random.ask(ROWS)
    assert [random.ask([row])[0] for row in reversed(ROWS)] == asked[::-1]
    assert all(sorted(names) == sorted(TEACHERS) for names in asked)
    firsts = [names[0] for names in asked]
    assert all(12 <= firsts.count(name) <= 28 for name in TEACHERS)
    assert Random(TEACHERS, seed=1).ask(ROWS) != asked


def test_budgets_are_nested_and_kept() -> None:
    def able(name: str, row: Assignment) -> bool:
        return name != "tm" or row.lang == "af"

    every = Every(TEACHERS)
    bought = [share(ROWS, every, budget, able=able) for budget in (0, 10, 40, 1000)]
    assert [len(rows) for rows in bought[::3]] == [0, len(ROWS)]
    for fewer, more in pairwise(bought):
        assert {row.id for row in fewer} <= {row.id for row in more}
    spent = sum(3 if row.lang == "af" else 2 for row in bought[2])
    assert 38 <= spent <= 40
    assert len(share(ROWS, Random(TEACHERS), 40)) == 40
    # Nobody answers: nothing is paid, and nothing is there.
    assert {row.lang for row in share(ROWS, Single("tm"), 1000, able=able)} == {"af"}
    assert share(ROWS, every, 40, seed=1) != share(ROWS, every, 40)


def test_mistakes_are_named() -> None:
    with pytest.raises(PomonaError, match="names no teacher"):
        Every(())
    with pytest.raises(PomonaError, match="names a teacher twice"):
        Random(("m", "m"))
    with pytest.raises(PomonaError, match='group "be": has no teacher') as caught:
        Fixed({"af": ("m",)}).ask(ROWS)
    assert "the table has af" in str(caught.value)
    with pytest.raises(PomonaError, match="samples"):
        Single("m", samples=0)
