"""What methods in NumPy share: a few thousand elements at a time in float64, so that memory stays
bounded and results are rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.merge._plan import Job
from pomona.merge.methods.common import PART, Loops, decode, encode

STEP = 1 << 14  # elements held in float64 at a time, unless a row has more
Numbers = NDArray[np.float64]


class Pieces:
    """A job's blocks in pieces of whole units: the base's numbers (n), and the other models'
    (count, n).
    """

    unit = PART
    shared: str | None = None

    def __init__(self, job: Job) -> None:
        self.job, self._loops = job, Loops(job)

    def pieces(self, blocks: Sequence[NDArray[Any]]) -> Iterator[tuple[slice, Numbers, Numbers]]:
        """The place in the block, the base, and the other models. Raises PomonaError for NaN and
        infinity.
        """
        step = max(1, STEP // self.unit) * self.unit
        for start in range(0, blocks[0].size, step):
            part = slice(start, start + step)
            base, *models = (self._wide(block[part], place) for place, block in enumerate(blocks))
            yield part, base, np.stack(models)

    def _wide(self, block: NDArray[Any], place: int) -> Numbers:
        values = decode(block, self._loops.inputs[place].dtype)
        if not np.isfinite(values).all():
            self._loops.fail(2 * place + 1)
        return values

    def store(self, values: Numbers, out: NDArray[Any]) -> None:
        """Write a piece of the result. Raises PomonaError when it is too large for its type."""
        if not encode(values, self.job.dtype, out):
            self._loops.fail(-1)
