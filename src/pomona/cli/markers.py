"""`pomona markers`: what is known of texts, in words that a model is trained with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pomona.cli.command import Command, Options
from pomona.cli.output import Out
from pomona.errors import quantity

if TYPE_CHECKING:
    from pomona.markers import Report


def _show_report(show: Out, told: Report, given: Mapping[str, Any]) -> None:
    if show.format == "json":
        show.json(told.to_json())
        return
    caption = (
        f"{quantity(told.rows_in, 'row')}"
        f"; a value of less than {told.tail_share:.0%} is in the tail"
    )
    show.table(told.rows(), caption=caption)
    show.rest(*told.cost_lines(), told.signature, page=given.get("page"))


app = App(name="markers")
app.command(
    Command(
        "pomona.markers:tag",
        "tagging",
        options=Options(
            kinds={
                "taxonomy": Path,
                "model": str,
                "embed": str,
                "columns": list[str] | None,
                "learn": list[str] | None,
            }
        ),
    )
)
app.command(Command("pomona.markers:apply", options=Options(kinds={"taxonomy": Path})))
app.command(Command("pomona.markers:strip"))
app.command(Command("pomona.markers:report", show=_show_report))
