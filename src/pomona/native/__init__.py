"""Compiled loops: numba makes their machine code once, the user's cache keeps it, and llvmlite
alone loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.native.family import Family as Family, jit as jit, part as part

__getattr__, __dir__ = lazily(__name__, {"family": "Family jit part"})
