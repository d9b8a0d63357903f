"""What the pages say of what they are given, without a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pomona.arena.annotating.pages import forest, script, show, stylesheet

PERSON = {"id": "p1", "name": "Ana <b>", "role": "annotator", "languages": ["en"]}
ROWS: list[dict[str, Any]] = [
    {"model": "pear<i>", "rating": 1020.4, "low": 1000.0, "high": 1100.0, "rank": 1, "votes": 1234},
    {"model": "apple", "rating": 950.0, "low": None, "high": None, "rank": 2, "votes": 7},
]


def board(**content: Any) -> str:
    given: dict[str, Any] = {
        "rows": [],
        "votes": 0,
        "own": 3,
        "needed": 0,
        "signature": None,
        "note": None,
    }
    return show("board.html.j2", "en", person=PERSON, path="/board", **given | content).text


def test_a_board_has_a_rating_with_its_interval_and_a_drawing_of_it() -> None:
    page = board(rows=ROWS, votes=1241, signature="bt|n:1241")
    text = re.sub(r"<[^>]*>|\s+", " ", page)
    assert "pear&lt;i&gt; 1020 1000 – 1100 1,234" in re.sub(" +", " ", text)
    assert "apple 950 Unknown 7" in re.sub(" +", " ", text)  # no interval is no 0
    assert page.count("<circle") == 2 and page.count("<line") == 1
    assert "bt|n:1241" in page and "data-live" in page


def test_a_board_is_shown_after_votes_of_ones_own() -> None:
    page = board(needed=7)
    assert "<b>3 / 10</b>" in page and 'max="10"' in page and "data-live" not in page
    assert "There is no ranking yet." in board()


def test_ratings_lie_between_the_lowest_and_the_highest_bound() -> None:
    drawn = forest(ROWS)
    assert (drawn["low"], drawn["high"]) == (950.0, 1100.0)
    assert drawn["marks"] == [[34.33, 47.12, 97.0], [3.0, 3.0, 3.0]]
    assert forest(ROWS[1:])["marks"] == [[3.0, 3.0, 3.0]]


@pytest.mark.parametrize(
    ("status", "heading"),
    [(403, "Verboten"), (404, "Seite nicht gefunden"), (500, "Serverfehler"), (429, "Fehler")],
)
def test_a_failure_says_what_to_do(status: int, heading: str) -> None:
    page = show("error.html.j2", "de", status=status, message="<too many>", remedy="wait").text
    assert f">{heading}</h1>" in page and "&lt;too many&gt; — wait" in page


def test_nothing_runs_within_a_page_and_nothing_comes_from_elsewhere() -> None:
    page = show("login.html.j2", "fa", path="/login/abc")
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in page.policy
    assert "unsafe" not in page.policy and "form-action 'self'" in page.policy
    assert '<html lang="fa" dir="rtl">' in page.text
    assert not re.search(r"<style|style=|<script>|\son\w+=|https?://", page.text)
    assert "innerHTML" not in script() and "://" not in script() + stylesheet()
