"""The page of a comparison: what it says, untrusted text, and how it behaves in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.forget import Comparison, compare, compare_models
from pomona.forget.divergence import comparing

from .test_divergence import ROWS, Bigrams

EVIL = "</script><script>document.title='stolen'</script><img src=x onerror=alert(1)>\u202e"


def sides() -> tuple[pa.Table, pa.Table]:
    """Three groups, one of them of one item; 60 items are lost, one gained, one otherwise wrong."""
    n = 100
    same = {
        "id": [f"item {i}" for i in range(n)],
        "group": ["cy"] * 40 + ["<b>fr</b>"] * 59 + ["one"],
        "input": [EVIL if i == 0 else f"question {i}" for i in range(n)],
        "reference": [f"right {i}" for i in range(n)],
    }
    a = [f"right {i}" if i < 80 else f"wrong {i}" for i in range(n)]
    b = [EVIL if i < 60 else a[i] for i in range(n)]
    b[98], b[99] = "right 98", "other"
    return pa.table({**same, "prediction": a}), pa.table({**same, "prediction": b})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "new"
    compare(*sides(), page=folder)
    return folder / "index.html"


def test_the_page_holds_no_markup_of_others(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script>document" not in text and "<img" not in text and "\u202e" not in text
    assert "<b>fr</b>" not in text and "&lt;b&gt;fr&lt;/b&gt;" in text
    assert "60 items lost, 1 gained of 100: −59.0 [" in text
    assert "one: one item: nothing is known of the error" in text
    assert 'aria-label="0.00 interval unknown"' in text


def test_only_our_own_page_is_replaced(page: Path, tmp_path: Path) -> None:
    before = page.read_text(encoding="utf-8")
    compare(*sides(), page=page.parent)
    assert page.read_text(encoding="utf-8") == before
    mine = tmp_path / "index.html"
    mine.write_text("mine")
    with pytest.raises(PomonaError, match="is not what Pomona wrote there, so it is not replaced"):
        compare(*sides(), page=tmp_path)
    assert mine.read_text() == "mine"


def test_without_changes_or_items_it_says_so() -> None:
    from pomona.forget.page import render_page

    a, _ = sides()
    same = compare(a, a)
    assert "No answer is another one." in render_page(same)
    told = same.to_json()
    assert told["overall"]["lost"] == 0 and isinstance(same, Comparison)


def test_filter_and_search_in_a_browser(page: Path, browser: Any) -> None:
    def cards() -> int:
        return browser.run("document.querySelectorAll('#cards > li').length")

    def choose(name: str, value: str, event: str = "change") -> None:
        one = f"document.getElementById('{name}')"
        browser.run(f"{one}.value = '{value}'; {one}.dispatchEvent(new Event('{event}'))")

    browser.open(page, 390)
    assert browser.complaints == [] and browser.requests == [page.as_uri()]
    assert browser.run("document.title").startswith("A → B")
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert (cards(), browser.run("said.textContent")) == (40, "62 items, 40 shown")
    browser.run("document.getElementById('more').click()")
    assert cards() == 62 and browser.run("document.getElementById('more').hidden")
    choose("kind", "1")
    assert cards() == 1 and "right 98" in browser.run("cards.textContent")
    choose("kind", "")
    choose("group", "1")
    assert cards() == 40  # those of cy, in the order of names
    choose("search", "QUESTION 3", "input")
    assert cards() == 11
    choose("search", "nowhere", "input")
    assert (cards(), browser.run("said.textContent")) == (0, "0 items, 0 shown")
    assert browser.run("document.querySelectorAll('#groups svg').length") == 4


def test_two_models_have_a_page(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "open_side", lambda uri, **_: Bigrams(uri))
    rows = [{**row, "group": f"<b>{row['group']}"} for row in ROWS]
    compare_models("1", "2", text=pa.Table.from_pylist(rows), resamples=1000, page=tmp_path / "p")
    page = tmp_path / "p" / "index.html"
    browser.open(page, 390)
    assert browser.complaints == []
    assert browser.requests == [page.as_uri()]
    assert browser.run("document.documentElement.scrollWidth") == 390
    said = browser.run("document.querySelector('main').textContent")
    assert "Of 3 groups" in said
    assert "<b>de" in said
    assert browser.run("document.querySelectorAll('#groups tbody tr').length") == 4
    assert browser.run("document.querySelectorAll('#groups svg circle').length") == 8
    assert "Alle Seiten löschen" in said
