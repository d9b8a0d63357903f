"""`pomona arena`: votes on pairs of answers, and what they are worth."""

from __future__ import annotations

from cyclopts import App

app = App(name="arena")
