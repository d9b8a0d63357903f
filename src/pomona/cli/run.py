"""`pomona run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from pomona.cli.command import Flag
from pomona.cli.output import Format, Out, clock, console, size
from pomona.errors import PomonaError

if TYPE_CHECKING:
    from pomona.recipe import DryRun


def run(
    recipe: Path | None = None,
    /,
    *,
    out: Path | None = None,
    seed: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    threads: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
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
