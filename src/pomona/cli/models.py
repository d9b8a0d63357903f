"""`pomona models`."""

from __future__ import annotations

import sys
from dataclasses import asdict

from cyclopts import App

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


@app.command
def pull(name: str, /) -> None:
    """Fetch a model into the cache and print its path.

    Parameters
    ----------
    name
        Name of the model, as `pomona models list` shows it.
    """
    from pomona.models import pull as fetch

    if not sys.stderr.isatty():
        Out("human").line(fetch(name))
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task(f"fetching {name}", total=None)
        path = fetch(
            name, progress=lambda done, total: display.update(task, completed=done, total=total)
        )
    Out("human").line(path)
