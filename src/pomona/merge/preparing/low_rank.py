"""Matrices of low rank: the nearest to a change (Eckart and Young 1936), what is added to a weight,
and the parts that PiSSA and OLoRA take out of it before they train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pomona.models.tensors import Stored, TensorRows, encode_finite, row_blocks

_NOISE = 1e-6  # singular values below this part of the largest are rounding


def truncated(
    change: NDArray[np.float32] | NDArray[np.float64],
    choose: Callable[[NDArray[np.float64]], int],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """A (rank × inputs), B (outputs × rank) and the relative error of B·A for `change` (outputs ×
    inputs).

    choose: the rank, given the singular values, largest first. They come from the Gram matrix of
        the shorter side in float64.
    """
    tall = change.shape[0] > change.shape[1]
    matrix = (change.T if tall else change).astype(np.float64)
    squares, vectors = np.linalg.eigh(matrix @ matrix.T)
    values = np.sqrt(np.maximum(squares[::-1], 0))
    kept = min(choose(values), int((values > _NOISE * values[0]).sum()))
    left = vectors[:, ::-1][:, :kept]
    roots = np.sqrt(values[:kept])
    outer, inner = left * roots, (left / roots).T @ matrix
    whole = np.square(values).sum()
    error = float(np.sqrt(max(0.0, 1 - np.square(values[:kept]).sum() / whole))) if whole else 0.0
    return (outer.T, inner.T, error) if tall else (inner, outer, error)


def principal(
    weight: NDArray[np.float32], rank: int, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """B and A of the `rank` largest singular values, which PiSSA takes out of a weight (outputs ×
    inputs) and trains (Meng et al. 2024, arXiv 2404.02948), whatever the scale.
    """
    a, b, _ = truncated(weight, lambda values: min(rank, len(values)))
    return b, a


def projected(
    weight: NDArray[np.float32], rank: int, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """B and A of the first `rank` columns of a QR decomposition, which OLoRA takes out of a weight
    times the scale (Büyükakyüz 2024, arXiv 2406.01775).
    """
    matrix = weight.astype(np.float64)
    q, _ = np.linalg.qr(matrix[:, :rank])
    return q * scale, q.T @ matrix


@dataclass(frozen=True)
class LowRankUpdate:
    """W + left·right, the scale in `left`; with `magnitude`, rows (axis 1) or columns (axis 0) are
    then brought to these lengths (DoRA).
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    magnitude: NDArray[np.float32] | None
    axis: int
    where: str

    def without(self, left: NDArray[np.float64], right: NDArray[np.float64]) -> LowRankUpdate:
        """The same with left·right taken out of W."""
        return replace(
            self,
            left=np.concatenate([self.left, -left], 1, dtype=np.float32, casting="same_kind"),
            right=np.concatenate([self.right, right], 0, dtype=np.float32, casting="same_kind"),
        )

    def block(self, start: TensorRows, rows: slice) -> NDArray[np.float32]:
        """Some rows with the adapter's part added."""
        # What is too large becomes infinite without a word, and is refused where it is rounded.
        with np.errstate(over="ignore", invalid="ignore"):
            values: NDArray[np.float32] = self.left[rows] @ self.right
            values += start.float32(rows)
        return values

    def blocks(self, stored: Stored, dtype: str) -> Iterator[bytes]:
        """The whole tensor, in blocks of rows."""
        start = TensorRows(stored)
        columns = np.zeros(start.shape[1])
        if self.magnitude is not None and self.axis == 0:
            for rows in row_blocks(*start.shape):
                columns += np.square(self.block(start, rows), dtype=np.float64).sum(0)
        for rows in row_blocks(*start.shape):
            values = self.block(start, rows)
            if self.magnitude is not None and self.axis == 0:
                values *= self.magnitude / np.sqrt(columns).astype(np.float32)
            elif self.magnitude is not None:
                norms = np.sqrt(np.square(values, dtype=np.float64).sum(1)).astype(np.float32)
                values *= (self.magnitude[rows] / norms)[:, None]
            yield encode_finite(values, dtype, stored.name, self.where)
