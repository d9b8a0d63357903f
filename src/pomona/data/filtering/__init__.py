"""Rows kept by conditions on their columns, and how many fall by which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.data.filtering.run import filter as filter

__getattr__, __dir__ = lazily(__name__, {"run": "filter"})
