"""`pomona markers`: what is known of texts, in words that a model is trained with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pomona.cli.command import Command, Options
from pomona.cli.output import Out

if TYPE_CHECKING:
    from pomona.markers import Report


def _show_report(show: Out, told: Report, _: Mapping[str, Any]) -> None:
    if show.format == "json":
        show.json(told.to_json())
        return
    caption = f"{told.rows_in:,} rows; a value of less than {told.tail_share:.0%} is in the tail"
    show.table(told.rows(), caption=caption)
    if told.tokens is not None:
        cost = {name.replace("_", "'s "): f"{value:.1f}" for name, value in told.tokens.items()}
        times = f"{told.tokens['times']:.2f}"
        lines = ", ".join(f"{name} {value}" for name, value in cost.items() if name != "times")
        show.line(f"tokens: {lines}; in all {times} times those without lists")
    show.rest(told.signature)


app = App(name="markers")
app.command(
    Command(
        "pomona.markers:tag",
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
