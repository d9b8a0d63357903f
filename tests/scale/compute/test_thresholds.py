"""Thresholds in laws, on the days around each change."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.scale import thresholds


def rule(name: str, date: str, flop: float | None = None, **more: Any) -> Any:
    """One rule on a day."""
    return next(one for one in thresholds(flop, date=date, **more).rules if one.key == name)


@pytest.mark.parametrize(
    ("name", "before", "on"),
    [
        ("us-eo-14110", "2023-10-29", "2023-10-30"),
        ("us-eo-14110-biology", "2023-10-29", "2023-10-30"),
        ("ca-sb-53", "2025-12-31", "2026-01-01"),
        ("ny-raise", "2026-12-31", "2027-01-01"),
        ("eu-ai-act", "2025-08-01", "2025-08-02"),
        ("eu-general-purpose", "2025-08-01", "2025-08-02"),
        ("eu-modifier", "2025-08-01", "2025-08-02"),
    ],
)
def test_a_rule_begins_on_its_day(name: str, before: str, on: str) -> None:
    after = (dt.date.fromisoformat(on) + dt.timedelta(days=1)).isoformat()
    assert [rule(name, day).in_force for day in (before, on, after)] == [False, True, True]
    assert rule(name, on).status.startswith(f"in force since {on}")
    assert "in force since" not in rule(name, before).status


@pytest.mark.parametrize("name", ["us-eo-14110", "us-eo-14110-biology"])
def test_a_revoked_rule_is_in_force_until_the_day_before(name: str) -> None:
    found = [rule(name, day) for day in ("2025-01-19", "2025-01-20", "2025-01-21", "2030-01-01")]
    assert [one.in_force for one in found] == [True, False, False, False]
    assert {one.status for one in found[1:]} == {"revoked by Executive Order 14148 on 2025-01-20"}


def test_between_its_signing_and_its_first_day_a_rule_is_not_in_force() -> None:
    assert rule("ca-sb-53", "2025-09-28").status == "not adopted yet"
    assert rule("ca-sb-53", "2025-09-29").status == "adopted, in force from 2026-01-01"
    assert rule("ny-raise", "2025-12-18").status == "not adopted yet"
    assert rule("ny-raise", "2025-12-19").status == "adopted, in force from 2027-01-01"


@given(st.dates(dt.date(2020, 1, 1), dt.date(2040, 1, 1)))
@settings(max_examples=40, deadline=None)
def test_no_rule_is_in_force_outside_its_days(day: dt.date) -> None:
    for one in thresholds(date=day.isoformat()).rules:
        held = one.start is not None and one.start <= day.isoformat()
        assert one.in_force is (held and (one.to is None or day.isoformat() < one.to))
        assert one.status.startswith("in force since") is one.in_force


def test_after_its_last_check_the_table_says_what_it_does_not_know() -> None:
    told = "The table was last checked on 2026-11-28: later changes are not known to it."
    assert told not in thresholds(date="2026-11-28").notes
    assert thresholds(date="2026-11-29").notes[0] == told
    assert rule("eu-ai-act", "2026-11-28").status == "in force since 2025-08-02"
    later = rule("eu-ai-act", "2026-11-29").status
    assert later == "in force since 2025-08-02, as known on 2026-11-28"
    assert "Hooker 2024" in " ".join(thresholds(date="2024-01-01").notes)


def test_a_training_is_above_what_it_exceeds_and_not_what_it_equals() -> None:
    assert rule("eu-ai-act", "2026-06-01", 1e25).above is False
    assert rule("eu-ai-act", "2026-06-01", 1.01e25).above is True
    assert rule("eu-ai-act", "2026-06-01", 5e25).ratio == pytest.approx(5)
    assert rule("eu-ai-act", "2026-06-01").above is None
    assert rule("ca-sb-53", "2026-06-01", 2e26).above is True


def test_a_modification_is_measured_by_the_training_of_the_original() -> None:
    assert rule("eu-modifier", "2026-06-01", 1e24).above is None
    assert rule("eu-modifier", "2026-06-01", 1e24, original=2.9e24).above is True
    assert rule("eu-modifier", "2026-06-01", 1e24, original=3.1e24).above is False
    assert rule("eu-modifier", "2026-06-01", 1e24, original=3e24).flop == pytest.approx(1e24)
    # Exactly a third is not more than a third, whatever of it a float can say.
    for third in (1e22, 1e23, 1e24, 1e25, 7e23):
        assert rule("eu-modifier", "2026-06-01", third, original=3 * third).above is False
        assert rule("eu-modifier", "2026-06-01", 1.0001 * third, original=3 * third).above is True


def test_a_signature_tells_trainings_apart() -> None:
    given = ((1e25, None), (1.0000001e25, None), (1e25, 3e25), (1e25, 2e25))
    told = [thresholds(one, original=two, date="2026-06-01").signature for one, two in given]
    assert len(set(told)) == 4


def test_the_last_day_of_all_has_a_page(tmp_path: Path) -> None:
    thresholds(1e25, date="9999-12-31", page=tmp_path)
    assert "in force on 9999-12-31" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flop": -1.0}, "flop is -1.0 — give floating-point operations, 0 to 1e+60"),
        ({"flop": 1e300}, "flop is 1e+300"),
        ({"original": 1e-300}, "original is 1e-300 — give floating-point operations, 1 to 1e+60"),
        ({"flop": float("nan")}, "flop is nan"),
        ({"original": float("inf")}, "original is inf"),
        ({"date": "2026-02-30"}, 'date: "2026-02-30" is no day — write it as 2026-01-01'),
        ({"date": "soon"}, '"soon" is no day'),
    ],
)
def test_what_is_no_number_or_day_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PomonaError) as raised:
        thresholds(**given)
    assert message in str(raised.value)


def test_the_page_shows_every_rule(tmp_path: Path) -> None:
    told = thresholds(2e25, date="2026-06-01", page=tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "4 of 7 thresholds are in force on 2026-06-01" in page
    assert all(one.status in page and one.source in page for one in told.rules)
    assert page.count("data:image/svg") == 4 and "<script" not in page
