"""Keep the part of the data that teaches most: bands of a score, beside a random control of the same size.

Marion et al. 2023 (arXiv 2309.04564), §3: `bottom` and `top` are the ends of the score, `middle` the percentiles around the median.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError

Band = Literal["bottom", "middle", "top", "random"]


def select_band(
    scores: NDArray[np.float64], keep: float, band: Band, *, sizes: NDArray[np.int64] | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Rows, ascending, of the band that holds the share `keep` of the total size. `scores` and `sizes` are `[n]`.

    `sizes` (tokens or bytes of each row; default 1) makes every band, the random one too, as large as the others in that unit.
    Raises PomonaError for a share outside (0, 1] and for a score that is not finite, naming the row.
    """
    if not 0 < keep <= 1:
        raise PomonaError(f"{keep} is not a share between 0 and 1", where="keep", remedy="use 0.3 to keep 30 %")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise PomonaError(f"the score {scores[bad[0]]} is not finite", where=f"row {bad[0]}", remedy="drop the row or score it again")
    sizes = np.ones(len(scores), np.int64) if sizes is None else sizes
    order = np.random.default_rng(seed).permutation(len(scores)) if band == "random" else np.argsort(scores, kind="stable")
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2) / max(1, sizes.sum())
    low = {"bottom": 0.0, "random": 0.0, "middle": (1 - keep) / 2, "top": 1 - keep}[band]
    return np.sort(order[(middle >= low) & (middle <= low + keep)])
