"""A run that works: its page, and what is told of it as it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.ledger import Ledger, format_entry, ledger_of
from pomona.ledger.report import publish, watch
from pomona.workspace import Lock

Make = Callable[..., Ledger]


def measured(ledger: Ledger, *variants: str) -> Ledger:
    """What is there when these are measured, and the others are still to come."""
    names = dict.fromkeys(entry.variant for entry in ledger.entries)
    pending = [name for name in names if name not in variants]
    entries = [entry for entry in ledger.entries if entry.variant in variants]
    return Ledger(replace(ledger.meta, pending=pending), entries)


def working(run: Path) -> Lock:
    lock = run.with_name(f".{run.name}.lock")
    return Lock(lock, doing="working in this run", where=run, other="folder")


def test_a_run_is_followed_until_it_is_complete(make_ledger: Make, tmp_path: Path) -> None:
    ledger, run = make_ledger(groups=False), tmp_path / "run"
    run.mkdir()
    lock = working(run)

    def complete() -> None:
        ledger.write(run / "ledger.json")
        publish(ledger, run)
        lock.release()

    acts = [
        lambda: publish(measured(ledger, "ui-s", "ui-xs"), run),
        lambda: publish(measured(ledger, "ui-s", "ui-xs", "ui-m"), run),
        complete,
    ]
    lines = list(watch(run, pause=lambda _: acts.pop(0)()))
    assert lines[:3] == [
        "ui-xs: chrf 29.67 overall, −4.03 [−4.52, −3.51] over ui-s",
        "ui-s: chrf 33.70 overall",
        "ui-m: chrf 37.91 overall, +4.21 [+3.73, +4.73] over ui-s",
    ]
    assert lines[-1] == str(run / "report.html")
    assert len(lines) == len(ledger.entries) + 1
    assert not (run / "ledger.partial.json").exists()


def test_the_page_of_a_run_that_works_says_so(
    make_ledger: Make, tmp_path: Path, browser: Any
) -> None:
    ledger = make_ledger(groups=False)
    written = publish(measured(ledger, "ui-s", "ui-m", "experts"), tmp_path)
    assert [path.name for path in written] == ["ledger.partial.json", "report.html"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<meta http-equiv="refresh" content="15">' in page
    assert "This run is not finished: 13 of its systems are still to be measured (ui-xs," in page
    browser.open(tmp_path / "report.html", 1280)
    assert browser.complaints == []
    assert ledger_of(tmp_path).meta.pending[0] == "ui-xs"
    publish(ledger, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "refresh" not in page and "not finished" not in page
    assert not (tmp_path / "ledger.partial.json").exists()


def test_a_run_that_has_stopped_is_not_waited_for(make_ledger: Make, tmp_path: Path) -> None:
    ledger = make_ledger(groups=False)
    with pytest.raises(PomonaError, match="there is no such run"):
        next(watch(tmp_path / "none"))
    stopped = "the run is not complete, and nobody works on it — `pomona run RECIPE` continues it"
    with pytest.raises(PomonaError, match=stopped):
        next(watch(tmp_path))
    publish(measured(ledger, "ui-s"), tmp_path)
    lines = watch(tmp_path)
    assert next(lines) == "ui-s: chrf 33.70 overall"
    with pytest.raises(PomonaError, match=stopped):
        next(lines)
    (tmp_path / "ledger.partial.json").write_text("{")
    with pytest.raises(PomonaError, match=r"ledger\.partial\.json: is not a whole JSON file"):
        next(watch(tmp_path))


def test_an_entry_is_one_line(make_ledger: Make) -> None:
    ledger = make_ledger()
    entry = next(e for e in ledger.of("tail") if e.variant == "experts")
    line = "experts: chrf 27.50 tail, +2.80 [+1.63, +4.03] over ui-s"
    assert format_entry(entry) == line
    assert format_entry(replace(entry, p_holm=0.0004)) == f"{line}, p (Holm) <0.001"
    lower = "experts: chrf 27.50 tail, −2.80 [−4.03, −1.63] over ui-s"
    assert format_entry(entry, higher_is_better=False) == lower
    assert "\x1b" not in format_entry(replace(entry, variant="\x1b[2J\n"))
