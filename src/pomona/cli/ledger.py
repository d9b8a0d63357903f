"""`pomona ledger` and `pomona report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pomona.cli.command import Flag
from pomona.cli.output import Out, console
from pomona.errors import PomonaError, nearest

if TYPE_CHECKING:
    from pomona.ledger import Ledger


def ledger(
    run: Path,
    /,
    *,
    group: list[str] | None = None,
    format: Literal["human", "json", "csv"] = "human",
) -> None:
    """Print the ledger of a run.

    Parameters
    ----------
    run
        Folder of the run.
    group
        Only this group; may be repeated. The table shows overall and tail if not given, JSON and
        CSV all.
    format
        human, json or csv.
    """
    from pomona.ledger import print_table, to_csv, to_json

    book = _read(run)
    if format == "human":
        print_table(book, group, console())
        return
    if group:
        book = replace(
            book, entries=[entry for name in group for entry in _known(book, name).of(name)]
        )
    Out("human").write(to_json(book) if format == "json" else to_csv(book))


def report(run: Path, /, *, open: Flag = False) -> None:
    """Write report.html and picture.svg of a run again from its ledger.json, and print their paths.

    Parameters
    ----------
    run
        Folder of the run.
    open
        Open the report in the browser.
    """
    from pomona.ledger.report import publish

    written = publish(_read(run), run if run.is_dir() else run.parent)
    show = Out("human")
    for path in written:
        show.line(path)
    if open:
        import webbrowser

        webbrowser.open(written[0].resolve().as_uri())


def _read(run: Path) -> Ledger:
    from pomona.ledger import Ledger

    path = run / "ledger.json" if run.is_dir() else run
    if run.is_dir() and not path.exists():
        raise PomonaError(
            "this folder has no ledger.json",
            where=run,
            remedy="finish the run: `pomona run RECIPE` continues it",
        )
    if not run.exists():
        beside = [str(found.parent) for found in run.parent.glob("*/ledger.json")]
        raise PomonaError(
            "there is no such run",
            where=run,
            remedy=nearest(str(run), beside) if beside else "`pomona run RECIPE` makes one",
        )
    return Ledger.read(path)


def _known(book: Ledger, group: str) -> Ledger:
    if not book.of(group):
        raise PomonaError(
            "no entry has this group",
            where=group,
            remedy=nearest(group, {entry.group for entry in book.entries}),
        )
    return book
