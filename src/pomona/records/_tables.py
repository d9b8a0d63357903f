"""The tables that come with the package."""

from __future__ import annotations

from pathlib import Path

TABLES = {"ui": Path(__file__).parents[1] / "assets" / "ui" / "ui.parquet"}
