"""The program and its commands, each imported when it is needed."""

from __future__ import annotations

from cyclopts import App, Parameter

from pomona._version import __version__

app = App(
    name="pomona",
    help=(
        "Before you pay for a bigger model: what do the other levers buy, for whom, and at "
        "what cost?"
    ),
    version=f"pomona {__version__}",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.command(
    "pomona.cli.run:run", name="run", help="Run a recipe: its steps, then its ledger and report."
)
app.command("pomona.cli.ledger:ledger", name="ledger", help="Print the ledger of a run.")
app.command(
    "pomona.cli.ledger:report",
    name="report",
    help="Write the report and the picture of a run again from its ledger.",
)
app.command(
    "pomona.cli.data:app", name="data", help="Find duplicates, score, prune, mix and audit data."
)
app.command(
    "pomona.cli.merge:app", name="merge", help="Merge checkpoints, or search for the best merge."
)
app.command(
    "pomona.cli.sample:app",
    name="sample",
    help="Answer every row of a table: several answers each, and a choice among them.",
)
app.command(
    "pomona.cli.models:app", name="models", help="List the models known by name, and fetch one."
)
app.command(
    "pomona.cli.serve:serve",
    name="serve",
    help="Serve models and sampling strategies behind the OpenAI API.",
)
app.command(
    "pomona.cli.doctor:doctor",
    name="doctor",
    help="Show what this installation has and whether something is broken.",
)
