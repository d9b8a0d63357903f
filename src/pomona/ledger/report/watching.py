"""A run that works, followed from outside: what it measures, as soon as it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pomona.errors import PomonaError
from pomona.ledger.report.page import show
from pomona.ledger.store import PARTIAL, Ledger, ledger_of
from pomona.ledger.table import format_entry
from pomona.workspace import Lock

_EVERY = 1.0  # seconds between two looks


def watch(
    run: str | Path, *, browse: bool = False, pause: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """A line for everything that a run measures, while it works, and its page when it is complete.

    The pages are written by the run itself: two writers in one folder would take each other's files
    for somebody else's. `pause` waits for some seconds.

    Args:
        run: Folder of the run.
        browse: Open the report in the browser, as soon as there is one.
        pause: What waits.

    Raises:
        PomonaError: there is no such run, or nobody works on it before it is complete.
    """
    run, said, seen = Path(run), set[tuple[str, str]](), 0
    if not run.is_dir():
        ledger_of(run)  # which says what is wrong with the name
        raise PomonaError("is no folder of a run", where=run, remedy="name the folder")
    page, partial = run / "report.html", run / PARTIAL
    while True:
        works = _works(run)
        changed = partial.stat().st_mtime_ns if partial.exists() else seen
        if changed != seen:
            seen = changed
            yield from _news(partial, said)
            browse = browse and _opened(page)
        if not works:
            break
        pause(_EVERY)
    if partial.exists() or not (run / "ledger.json").exists():
        message = "the run is not complete, and nobody works on it"
        raise PomonaError(message, where=run, remedy="`pomona run RECIPE` continues it")
    yield from _news(run / "ledger.json", said)
    if browse:
        _opened(page)
    yield str(page)


def _opened(page: Path) -> bool:
    """Open a page that is there; whether it still has to be opened."""
    if page.exists():
        show(page)
        return False
    return True


def _news(path: Path, said: set[tuple[str, str]]) -> Iterator[str]:
    """A line for every comparison of all items that has not been told."""
    try:
        ledger = Ledger.read(path)
    except PomonaError:
        if path.exists():
            raise
        return  # the run has become complete since we looked
    for entry in ledger.of(ledger.parts()["all"]):
        key = (entry.variant, entry.baseline)
        if key not in said:
            said.add(key)
            # The corrected p-value is one of what has been measured so far, and may change.
            told = replace(entry, p_holm=None)
            yield format_entry(told, higher_is_better=ledger.meta.higher_is_better)


def _works(run: Path) -> bool:
    """Whether a process works in the folder of a run."""
    place = run.resolve()
    lock = place.with_name(f".{place.name}.lock")
    if not lock.exists():
        return False
    try:
        Lock(lock, doing="working in this run", where=run, other="folder").close()
    except PomonaError:
        return True
    return False
