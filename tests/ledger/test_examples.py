"""Examples of a run: which are chosen, their file, and their page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.ledger import Answered, Examples, Ledger, choose_examples
from pomona.ledger.report import publish

Make = Callable[..., Ledger]
HOSTILE = "</div><script>document.title='taken'</script>\n\u202eللbadge"
PARTS = {"tail": range(10), "head": range(10, 100), "near": range(0, 100, 2)}
PARTS["far"] = range(1, 100, 2)


def chosen(**changes: Any) -> Examples:
    n = 100
    answers = {
        role: Answered(role, [f"{role} {i}" for i in range(n)], [float(i + k) for i in range(n)])
        for k, role in enumerate(("base", "best", "control"))
    }
    told: dict[str, Any] = {
        "metric": "chrf",
        "ids": [f"item-{i}" for i in range(n)],
        "groups": ["cy" if i < 10 else "de" for i in range(n)],
        "inputs": [f"input {i}" for i in range(n)],
        "references": [[f"reference {i}"] for i in range(n)],
        "parts": PARTS,
        "seed": 7,
    }
    return choose_examples(answers, **{**told, **changes})


def test_every_kind_of_item_is_there_and_the_same_ones_again() -> None:
    found = chosen(most=8)
    kinds = [tuple(sorted(example.parts)) for example in found.examples]
    assert sorted(kinds) == sorted(
        [("far", "head"), ("far", "tail"), ("head", "near"), ("near", "tail")] * 2
    )
    assert chosen(most=8) == found
    assert [e.id for e in chosen(most=8, seed=8).examples] != [e.id for e in found.examples]
    first = found.examples[0]
    number = first.id.removeprefix("item-")
    assert first.answers == [f"{role} {number}" for role in ("base", "best", "control")]
    assert first.scores == [float(number), float(number) + 1, float(number) + 2]
    assert len(chosen(most=1000).examples) == 100


def test_the_page_shows_texts_as_texts(make_ledger: Make, tmp_path: Path, browser: Any) -> None:
    inputs = [HOSTILE] * 100
    text = chosen(inputs=inputs, references=[[HOSTILE, "two"]] * 100, most=4).text()
    (tmp_path / "examples.json").write_text(text, encoding="utf-8")
    ledger = make_ledger(groups=False)
    written = publish(ledger, tmp_path)
    assert [path.name for path in written] == ["report.html", "picture.svg", "examples.html"]
    assert '<a href="examples.html">' in (tmp_path / "report.html").read_text(encoding="utf-8")
    page = (tmp_path / "examples.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "\u202e" not in page
    browser.call("Page.navigate", url=(tmp_path / "examples.html").as_uri())
    while browser.run("document.readyState") != "complete" or not browser.run("document.title"):
        pass
    assert browser.run("document.title") == "levers-on-ui: examples · Pomona ledger"
    assert browser.run("document.querySelectorAll('h2').length") == 4
    assert browser.run("document.querySelectorAll('td.better').length") == 4
    shown = browser.run("document.querySelector('.quote').innerText")
    assert shown == HOSTILE.replace("\u202e", "\ufffd")
    (tmp_path / "examples.json").unlink()
    publish(ledger, tmp_path)
    assert not (tmp_path / "examples.html").exists()
    assert "examples.html" not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pomona_examples": 2}, "has format 2; this Pomona reads format 1 — run `pomona run`"),
        ({"metric": 3}, "`metric`: Input should be a valid string — run `pomona run`"),
        ({"systems": {"base": "ui-s"}}, "`examples.0`: one answer and one score a system"),
    ],
)
def test_a_broken_file_says_what_is_wrong_and_leaves_the_page(
    make_ledger: Make, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    ledger = make_ledger(groups=False)
    publish(ledger, tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    (tmp_path / "examples.json").write_text(json.dumps(json.loads(chosen().text()) | change))
    changed = Ledger(replace(ledger.meta, name="other"), ledger.entries)
    with pytest.raises(PomonaError, match=r"examples\.json: ") as told:
        publish(changed, tmp_path)
    assert message in str(told.value)
    assert (tmp_path / "report.html").read_bytes() == before
