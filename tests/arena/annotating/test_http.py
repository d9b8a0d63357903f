"""Annotators over HTTP."""

from __future__ import annotations

from .conftest import Running, pairs


def test_a_vote_comes_through(arena: Running) -> None:
    arena.add(pairs(2))
    ada = arena.browser("Ada")
    page = ada.get("/").text
    assert "answer 0" in page and "Question 0?" in page
    after = ada.submit("/answer", page, outcome="a", comment="better")
    assert after.status_code == 200 and "Question 1?" in after.text
    assert ada.submit("/answer", page, outcome="b").status_code == 200  # the same key: nothing new
    back = ada.submit("/undo")
    assert "Question 0?" in back.text and "better" in back.text
