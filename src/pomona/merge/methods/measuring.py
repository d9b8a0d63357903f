"""What the report of a merge needs, measured on blocks while they are in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.merge._plan import Input, Job
from pomona.merge.methods.common import Loops


def measure(
    blocks: Sequence[NDArray[Any]], kinds: Sequence[str], based: bool
) -> tuple[float, list[float], int]:
    """Sizes, angles and conflicts of task vectors τ = θ − θ_0, or of θ itself without a base, over
    one block.

    blocks: flat and contiguous, as stored, the base's first if `based`; kinds: their types ("BF16",
        …).
    Returns the base's squared norm (0 without a base); the scalar products of all pairs i ≤ k in
    the order (0, 0), (0, 1), …; and the number of elements of which one τ is positive and another
    negative. Sums of several blocks are sums of these. Raises PomonaError when a block holds NaN or
    infinity; `where` is its place.
    """
    inputs = tuple(Input(place, "", kind) for place, kind in enumerate(kinds))
    loops = Loops(
        Job("", (blocks[0].size,), "F32", "linear", inputs[based:], inputs[0] if based else None)
    )
    products, signs = np.zeros(loops.count * (loops.count + 1) // 2), np.zeros(2)
    loops.call("gram", blocks, loops.based, max(1, blocks[0].size), 0, products, signs)
    return float(signs[1]), products.tolist(), int(signs[0])
