"""`pomona arena`: votes on pairs of answers, and what they are worth."""

from __future__ import annotations

from cyclopts import App

from pomona.cli.command import Command, Options

app = App(name="arena")
app.command(
    Command(
        "pomona.arena:pairs",
        options=Options(
            kinds={"inputs": list[str]}, tables="", opened={"inputs": "pomona.recipe:sizes_at"}
        ),
    )
)
