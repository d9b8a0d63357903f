"""`pomona synth`: what teachers write, and what a student inherits from it."""

from __future__ import annotations

from cyclopts import App

app = App(name="synth")
