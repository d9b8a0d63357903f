"""`pomona run`, `pomona ledger` and `pomona report`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from pomona.cli.command import Count, Flag
from pomona.cli.output import Format, Out, clock, console, size
from pomona.errors import PomonaError, nearest

if TYPE_CHECKING:
    from pomona.ledger import Ledger
    from pomona.recipe import DryRun


def run(
    recipe: Path | None = None,
    /,
    *,
    out: Path | None = None,
    seed: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    threads: Count = None,
    dry_run: Flag = False,
    schema: Flag = False,
    format: Format = "human",
) -> None:
    """Run a recipe: its steps, then its ledger and report.

    Parameters
    ----------
    recipe
        The recipe, a YAML file.
    out
        Folder of the run; runs/NAME if not given. A folder with finished steps is continued.
    seed
        Seed in place of the recipe's.
    threads
        CPU threads in place of the recipe's.
    dry_run
        Only list the steps, with what they would cost.
    schema
        Only print the JSON Schema of recipes.
    """
    from pomona import recipe as recipes

    show = Out(format)
    if schema:
        show.json(recipes.json_schema())
        return
    if recipe is None:
        raise PomonaError(
            "no recipe is given", remedy="pomona run RECIPE, for example examples/quickstart.yaml"
        )
    if dry_run:
        _forecast(show, recipes.dry_run(recipe, out, seed=seed, threads=threads))
        return
    from pomona.cli.progress import progress

    with progress() as report:
        folder = recipes.run(recipe, out, seed=seed, threads=threads, report=report)
    _results(show, folder)


def _forecast(show: Out, plan: DryRun) -> None:
    from pomona.pages import flops

    rows, total = plan.rows(), plan.totals()
    shown = [
        {
            **row,
            "flops": flops(row["flops"]),
            "seconds": clock(row["seconds"]),
            "disk": size(row["disk"]),
        }
        for row in rows
    ]
    caption = (
        f"to do: {flops(total['flops'])} FLOPs, about {clock(total['seconds'])} on one "
        f"core, {size(total['disk'])} of disk"
    )
    if show.format == "json":
        show.json({"steps": rows, "to_do": total})
    else:
        show.table(rows, shown, caption)


def _results(show: Out, folder: Path) -> None:
    from pomona.ledger import Ledger, print_table

    ledger, page = Ledger.read(folder / "ledger.json"), folder / "report.html"
    if show.format == "json":
        show.json({"run": folder, "report": page, "entries": ledger.documents()})
        return
    print_table(ledger, console=console())
    show.line(page)


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
