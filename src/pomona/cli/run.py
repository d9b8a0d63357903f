"""`pomona run`, `pomona ledger` and `pomona report`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from pomona.cli.command import Command, Options
from pomona.cli.errors import tell
from pomona.cli.output import Out, console, show_result
from pomona.cli.progress import progress
from pomona.errors import PomonaError
from pomona.pages import amount, clock, flops, size

if TYPE_CHECKING:
    from pomona.ledger import Ledger
    from pomona.recipe import DryRun


def _show_run(show: Out, result: Path | DryRun | dict[str, Any], _: Mapping[str, Any]) -> None:
    if isinstance(result, dict):
        show.json(result)
    elif isinstance(result, Path):
        _show_results(show, result)
    else:
        _show_forecast(show, result)


def _show_forecast(show: Out, plan: DryRun) -> None:
    rows, total = plan.rows(), plan.totals()
    paid = any(row["money"] != 0 for row in rows)  # or nobody knows
    shown = [
        {
            **row,
            "flops": flops(row["flops"]),
            "seconds": clock(row["seconds"]),
            "disk": size(row["disk"]),
            "money": amount(row["money"]),
        }
        for row in rows
    ]
    for row in shown:
        del row["prompt_tokens"], row["completion_tokens"]
    if not paid:
        for row in shown:
            del row["money"]
    caption = (
        f"to do: {flops(total['flops'])} FLOPs, about {clock(total['seconds'])} on one "
        f"core, {size(total['disk'])} of disk"
    )
    read, said = (amount(total[f"{name}_tokens"]) for name in ("prompt", "completion"))
    caption += f"; models read about {read} tokens and answer at most {said}"
    if paid:
        caption += f"; servers are paid about {amount(total['money'])} for answers of full length"
    if show.format == "json":
        show.json({"steps": rows, "to_do": total})
    else:
        show.table(rows, shown, caption)


def _show_results(show: Out, folder: Path) -> None:
    from pomona.ledger import ledger_of, print_table

    ledger, page = ledger_of(folder), folder / "report.html"
    if show.format == "json":
        show.json({"run": folder, "report": page, "entries": ledger.documents()})
        return
    print_table(ledger, console=console())
    show.line(page)


def _show_report(show: Out, result: Any, given: Mapping[str, Any]) -> None:
    if not isinstance(result, Iterator):
        show_result(show, result, given)
        return
    for line in result:
        show.line(line)
        sys.stdout.flush()


def _show_ledger(show: Out, ledger: Ledger, given: Mapping[str, Any]) -> None:
    from pomona.ledger import print_table, to_csv, to_json

    if ledger.meta.pending and show.format != "human":
        tell("warning: the run is not finished, so that entries are missing")
    if show.format == "human":
        print_table(ledger, given.get("group"), console())
    else:
        show.write(to_json(ledger) if show.format == "json" else to_csv(ledger))


run = Command(
    "pomona.recipe:run",
    progress,
    Options(
        instead={
            "dry_run": (
                "pomona.recipe:dry_run",
                "Only list the steps, with what they would cost.",
            ),
            "schema": ("pomona.recipe:json_schema", "Only print the JSON Schema of recipes."),
        },
        missing={
            "recipe": PomonaError(
                "no recipe is given",
                remedy="pomona run RECIPE, for example examples/quickstart.yaml",
            )
        },
    ),
    _show_run,
)
ledger = Command(
    "pomona.ledger:ledger_of",
    None,
    Options(
        kinds={
            "run": Path,
            "format": Annotated[
                Literal["human", "json", "csv"], Parameter(help="human, json or csv.")
            ],
        }
    ),
    _show_ledger,
)
report = Command(
    "pomona.ledger.report:republish",
    None,
    Options(
        hidden="format",
        names={"browse": "open"},
        kinds={"run": Path},
        instead={
            "watch": (
                "pomona.ledger.report:watch",
                "Print what a run that works measures, until it is complete; its page reads itself "
                "again.",
            )
        },
    ),
    _show_report,
)
