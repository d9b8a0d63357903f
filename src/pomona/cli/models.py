"""`pomona models`."""

from __future__ import annotations

from dataclasses import asdict

from cyclopts import App

from pomona.cli.command import Command, Options
from pomona.cli.output import Format, Out, size

app = App(
    name="models",
    help="List the models known by name, and fetch one.",
    help_format="plaintext",
    result_action="return_value",
)


@app.command(name="list")
def list_(*, format: Format = "human") -> None:
    """List the models known by name.

    Parameters
    ----------
    """
    from pomona.models import catalogue

    rows = [asdict(entry) for entry in catalogue()]
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
    Out(format).table(rows, shown)


app.command(
    Command("pomona.models:pull", "fetching {name}", Options(hidden="format")),
    help="Fetch a model into the cache and print its path.",
)
