"""`pomona scale`: what scale buys."""

from __future__ import annotations

from cyclopts import App

app = App(name="scale")
