"""`pomona models` and `pomona doctor`: what is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pomona.cli.command import Command, Options
from pomona.cli.output import Out
from pomona.pages import size

if TYPE_CHECKING:
    from pomona.doctor import Fact
    from pomona.models import CatalogueEntry

app = App(name="models")


def _show(show: Out, entries: Sequence[CatalogueEntry], _: Mapping[str, Any]) -> None:
    rows = [asdict(entry) for entry in entries]
    shown = [
        {
            "name": row["name"],
            "parameters": row["parameters"],
            "size": size(row["size"]) if row["size"] else None,
            "present": row["present"],
            "licence": row["licence"],
            "about": row["about"],
        }
        for row in rows
    ]
    show.table(rows, shown)


app.command(
    Command("pomona.models:catalogue", options=Options(positional=0), show=_show),
    name="list",
)
app.command(
    Command("pomona.models:pull", "fetching {name}", Options(hidden="format")),
)


def _show_facts(show: Out, facts: Sequence[Fact], _: Mapping[str, Any]) -> int:
    marks = {"ok": "", "absent": "absent", "broken": "BROKEN"}
    shown = [{"what": fact.what, "state": marks[fact.state], "value": fact.value} for fact in facts]
    show.table([asdict(fact) for fact in facts], shown)
    return int(any(fact.state == "broken" for fact in facts))


doctor = Command("pomona.doctor:examine", None, Options(positional=0), _show_facts)
