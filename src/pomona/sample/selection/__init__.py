"""Choosing one answer of a pool: `choose`."""

from __future__ import annotations

from pomona.sample.selection.choice import Choice, Desk
from pomona.sample.selection.choose import choose

__all__ = ["Choice", "Desk", "choose"]
