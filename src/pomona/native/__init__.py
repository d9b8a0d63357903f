"""Compiled loops: numba makes their machine code once, the user's cache keeps it, and llvmlite
alone loads it.
"""

from __future__ import annotations

from pomona.native.family import Family, part

__all__ = ["Family", "part"]
