"""The pages of a run in its folder: written when it is complete, while it works and again later;
and what a run that works measures, told as soon as it is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pomona.errors import PomonaError
from pomona.files import remove_from, write_into, write_text
from pomona.ledger.entry import Axis
from pomona.ledger.examples import NAME as EXAMPLES, Examples
from pomona.ledger.report.page import examples_text, report_text
from pomona.ledger.report.picture import picture_text
from pomona.ledger.store import PARTIAL, Ledger, ledger_of
from pomona.ledger.systems import View
from pomona.ledger.table import format_entry
from pomona.workspace import Lock

_EVERY = 1.0  # seconds between two looks at a run that works


def publish(ledger: Ledger, folder: Path) -> list[Path]:
    """Write the pages of a run into its folder: `report.html`, `picture.svg` where some variant
    has a known cost, and `examples.html` where there is an `examples.json`; the paths written.

    Of a run that still has something to measure (`Meta.pending`) they are `ledger.partial.json` and
    a page that says so and reads itself again; they go when the run is complete. Raises PomonaError
    where a file of one of these names is not ours, or where examples.json cannot be read.
    """
    files = _pages(View(ledger), folder)
    if ledger.meta.pending:
        files = {PARTIAL: ledger.text(folder / PARTIAL), **files}
    written = _write(files, folder)
    if not ledger.meta.pending:
        remove_from(folder, PARTIAL)
    return written


def republish(
    run: str | Path, *, browse: bool = False, bounds: bool = False, axis: Axis | None = None
) -> tuple[Path, ...]:
    """Write report.html, picture.svg and examples.html of a run again from its ledger.json and
    examples.json; the paths written.

    Args:
        run: Folder of the run.
        browse: Open the report in the browser.
        bounds: Show from the start what only references and what chance could choose.
        axis: What costs are counted in: flops, money, tokens or seconds (of a processor). The first
            one that is known for all systems, unless given.

    Raises:
        PomonaError: there is no such run, it is not finished, another process works in it, or its
            ledger.json cannot be read.
    """
    run = Path(run)
    folder, ledger = run if run.is_dir() else run.parent, ledger_of(run)
    if works(folder):
        message, remedy = "another process is working in this run", "wait for it, or give --watch"
        raise PomonaError(message, where=run, remedy=remedy)
    written = _write(_pages(View(ledger, axis), folder, asked=bounds), folder)
    if browse:
        show(written[0])
    return tuple(written)


def works(run: Path) -> bool:
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


def show(page: Path) -> None:
    """Open a page in the browser."""
    import webbrowser

    webbrowser.open(page.resolve().as_uri())


def _pages(ledger: View, folder: Path, *, asked: bool = False) -> dict[str, str]:
    """The pages of a run by their names; of one that is not finished only the report."""
    finished, there = not ledger.meta.pending, (folder / EXAMPLES).is_file()
    has_examples = finished and there
    files = {"report.html": report_text(ledger, asked=asked, has_examples=has_examples)}
    if finished and (drawing := picture_text(ledger, asked=asked)) is not None:
        files["picture.svg"] = drawing
    if has_examples:
        shown = Examples.read(folder / EXAMPLES)
        files["examples.html"] = examples_text(shown, ledger.meta.name)
    return files


def _write(files: dict[str, str], folder: Path) -> list[Path]:
    for name in ("picture.svg", "examples.html"):
        if name not in files:
            remove_from(folder, name)
    write_into(folder, files)
    return [folder / name for name in files]


def write_report(
    ledger: Ledger, path: str | Path, *, bounds: bool = False, axis: Axis | None = None
) -> None:
    """Write the report as one HTML file of about 1 MB that loads nothing; `bounds` and `axis` as in
    `republish`. Raises PomonaError if a baseline has no entry.
    """
    write_text(path, report_text(View(ledger, axis), asked=bounds))


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
        busy = works(run)
        changed = partial.stat().st_mtime_ns if partial.exists() else seen
        if changed != seen:
            seen = changed
            yield from _news(partial, said)
            browse = browse and _opened(page)
        if not busy:
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
            name = (
                f"{entry.variant} (bound)" if entry.variant in ledger.meta.bounds else entry.variant
            )
            # The corrected p-value is one of what has been measured so far, and may change.
            told = replace(entry, variant=name, p_holm=None)
            yield format_entry(told, higher_is_better=ledger.meta.higher_is_better)
