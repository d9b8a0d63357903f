"""NuSLERP by columns (nuslerp_flatten: false, nuslerp_row_wise: true, as mergekit names it): rare,
so in NumPy, a few rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.merge._plan import Job
from pomona.merge.methods.common import Loops, decode, encode
from pomona.merge.methods.spheres import Products, between, share_of

ROWS = 64


class ColumnSlerp:
    """SLERP of every column of the matrix (first dimension × the rest), t from the weights, with a
    base on task vectors. See NuSlerp.
    """

    passes = 1
    shared: str | None = None

    def __init__(self, job: Job) -> None:
        self._loops, self._t = Loops(job), share_of(job)
        rows = job.shape[0] if len(job.shape) > 1 else math.prod(job.shape)
        self._columns = max(1, math.prod(job.shape) // max(1, rows))
        self.unit = ROWS * self._columns
        self._factors = np.empty((0, 2))

    def _parts(
        self, blocks: Sequence[NDArray[Any]]
    ) -> Iterator[tuple[slice, list[NDArray[np.float64]], NDArray[np.float64]]]:
        for start in range(0, blocks[0].size, self.unit):
            part = slice(start, start + self.unit)
            values = [self._wide(block[part], place) for place, block in enumerate(blocks)]
            base = values.pop(0) if self._loops.based else np.zeros(1)
            yield part, [value - base for value in values], base

    def _wide(self, block: NDArray[Any], place: int) -> NDArray[np.float64]:
        values = decode(block, self._loops.inputs[place].dtype)
        if not np.isfinite(values).all():
            self._loops.fail(2 * place + 1)
        return values.reshape(-1, self._columns)

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> Products:
        """For every 64 rows the products of each column: |a|², a·b, |b|²."""
        return np.array(
            [
                [(a * a).sum(0), (a * b).sum(0), (b * b).sum(0)]
                for _, (a, b), _ in self._parts(blocks)
            ]
        )

    def settle(self, number: int, partials: Sequence[Products]) -> None:
        """Find the factors of each column."""
        first, both, second = np.concatenate(partials).sum(axis=0)
        cos = np.clip(
            both / np.maximum(np.sqrt(first), 1e-7) / np.maximum(np.sqrt(second), 1e-7), -1, 1
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            self._factors = between(cos, np.full(len(cos), self._t), 1 - cos**2 <= 1e-16)

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        for part, (a, b), base in self._parts(blocks):
            merged = base + self._factors[:, 0] * a + self._factors[:, 1] * b
            if not encode(merged.reshape(-1), self._loops.job.dtype, out[part]):
                self._loops.fail(-1)
