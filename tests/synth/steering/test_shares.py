"""Groups get as many rows as they should have, and the tail is oversampled."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from pomona.documents import model_of
from pomona.errors import PomonaError
from pomona.synth import Assignment, Tempered, places, quotas
from pomona.synth.steering import SteeringSpec

ROWS = {"de": 900, "sv": 90, "af": 10}


def test_shares_are_natural_or_tempered_or_as_they_are_named() -> None:
    assert quotas(ROWS, Tempered(100)) == {"de": 90, "sv": 9, "af": 1}
    assert quotas(ROWS, Tempered(100, 1e12)) == {"de": 33, "sv": 33, "af": 34}  # the tail's first
    # Shares ∝ √n: 30, 9.487 and 3.162 of 42.649 are 703.4, 222.4 and 74.1
    assert quotas(ROWS, Tempered(1000, 2)) == {"de": 703, "sv": 223, "af": 74}
    assert quotas(ROWS, 50) == {"de": 50, "sv": 50, "af": 50}
    assert quotas(ROWS, {"af": 40}) == {"de": 900, "sv": 90, "af": 40}
    assert quotas({}, Tempered(10)) == {}


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 500)),
    st.integers(0, 1000),
    st.floats(1, 20),
)
def test_tempered_shares_make_the_total_and_differ_from_exact_by_less_than_one(
    rows: dict[str, int], total: int, temperature: float
) -> None:
    told = quotas(rows, Tempered(total, temperature))
    there = {name: n for name, n in rows.items() if n}
    assert set(told) == set(there) and sum(told.values()) == (total if there else 0)
    whole = sum(n ** (1 / temperature) for n in there.values())
    for name, n in there.items():
        assert abs(told[name] - total * n ** (1 / temperature) / whole) < 1 + 1e-6


def rows_of(**counts: int) -> list[Assignment]:
    return [
        Assignment(f"{lang}{at}", "text", "en", lang)
        for lang, n in counts.items()
        for at in range(n)
    ]


def test_small_groups_get_several_answers_a_row_and_large_ones_are_drawn_from() -> None:
    rows = rows_of(de=90, af=4)
    told = places(rows, 10)
    assert Counter(told[f"de{at}"] for at in range(90)) == {0: 80, 1: 10}
    assert Counter(told[f"af{at}"] for at in range(4)) == {2: 2, 3: 2}
    fewer = places(rows, {"de": 5, "af": 2})
    assert all(told[name] >= n for name, n in fewer.items())  # some of those of the larger quota
    assert places(rows[::-1], 10) == told != places(rows, 10, seed=1)
    by_half = places(rows, {"b": 3, "a": 0}, ["a"] * 47 + ["b"] * 47)
    assert sum(by_half.values()) == 3


def test_mistakes_are_told() -> None:
    with pytest.raises(PomonaError, match='no group "pt_BR" — did you mean "pt_br"'):
        quotas({"pt_br": 1, "de": 1}, {"pt_BR": 1})
    with pytest.raises(PomonaError, match='"de": -1 are too few — give 0 or more'):
        quotas({"de": 1}, {"de": -1})
    with pytest.raises(PomonaError, match=r"temperature 0\.5 — give a total of 0 or more"):
        quotas({"de": 1}, Tempered(10, 0.5))
    with pytest.raises(PomonaError, match="1 groups of 2 rows — give each row its group"):
        places(rows_of(de=2), 1, ["de"])


def test_a_recipe_says_the_quota_once() -> None:
    def quota(**told: object) -> object:
        return model_of(told, SteeringSpec, kind="steer").quota

    assert quota() is None and quota(per_group=5) == 5 and quota(per_group={"af": 1}) == {"af": 1}
    assert quota(total=9, temperature=3.0) == Tempered(9, 3)
    with pytest.raises(PomonaError, match='give "per_group" or "total", one of them'):
        quota(per_group=5, total=9)
    with pytest.raises(PomonaError, match='"temperature" needs a "total"'):
        quota(temperature=3)
