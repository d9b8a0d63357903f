"""`pomona synth`: what teachers write, and what a student inherits from it."""

from __future__ import annotations

from cyclopts import App

from pomona.cli.synth_annotate import ANNOTATE
from pomona.cli.synth_profile import PROFILE
from pomona.cli.synth_route import ROUTE
from pomona.cli.synth_run import RUN
from pomona.cli.synth_targets import TARGETS

app = App(name="synth")
app.command(PROFILE)
app.command(RUN, name="run")
app.command(ANNOTATE)
app.command(ROUTE)
app.command(TARGETS, name="targets")
