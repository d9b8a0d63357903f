"""Orthogonal matching pursuit for many vectors at once (Pati, Rezaiifar and Krishnaprasad 1993):
each is written as a sum of a few atoms, chosen one by one, by least squares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.tensors import Stored, TensorRows

Floats = NDArray[np.float32]
_DEPENDENT = 1e-5  # of an atom's length: what is left of it counts as nothing
_BLOCK = 1 << 24  # bytes of atoms that are read at once where they do not fit


def check_finite(values: Floats, stored: Stored) -> None:
    """Raise PomonaError, naming the tensor that values are from, for NaN and infinity."""
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise PomonaError(
            f'tensor "{stored.name}" holds NaN or infinity',
            where=stored.folder,
            remedy="copy or download it again",
        )


class Atoms:
    """Rows of a stored matrix, in float32: kept where `memory` bytes hold them, else read again in
    blocks each time.
    """

    def __init__(self, stored: Stored, rows: Sequence[int], memory: int) -> None:
        self._rows = TensorRows(stored)
        self._ids = np.asarray(rows, np.int64)
        self.width = self._rows.shape[1]
        whole = 4 * len(self._ids) * self.width <= memory
        self._kept = self._rows.float32(self._ids) if whole else None
        for _, block in self.blocks():
            check_finite(block, stored)

    def __len__(self) -> int:
        return len(self._ids)

    def take(self, places: NDArray[np.int64]) -> Floats:
        """Some atoms, in any shape of places."""
        if self._kept is not None:
            return self._kept[places]
        return self._rows.float32(self._ids[places.ravel()]).reshape(*places.shape, self.width)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """All atoms, from which place on."""
        if self._kept is not None:
            yield 0, self._kept
            return
        step = max(1, _BLOCK // (4 * self.width))
        for start in range(0, len(self._ids), step):
            yield start, self._rows.float32(self._ids[start : start + step])


def batch_size(atoms: Atoms, k: int, memory: int) -> int:
    """Vectors that fit into `memory` together."""
    each = 4 * (len(atoms) + (k + 6) * atoms.width + k * k)
    return max(1, memory // each)


def pursue(targets: Floats, atoms: Atoms, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Places of atoms and their coefficients, [n, k] each, for `targets` [n, width].

    Each step takes the atom whose product with what is left of the target is the largest in
    absolute value, the first of equals, and leaves what the atoms so far cannot express. An atom
    that depends on those before it has coefficient 0. Raises no error for k up to the number of
    atoms.
    """
    count, width = targets.shape
    basis = np.zeros((count, k, width), np.float32)
    upper = np.zeros((count, k, k), np.float32)
    along = np.zeros((count, k), np.float32)
    chosen = np.zeros((count, k), np.int64)
    left = targets.astype(np.float32)
    for step in range(k):
        chosen[:, step] = _best(left, atoms, chosen[:, :step])
        atom = atoms.take(chosen[:, step])
        length = np.linalg.norm(atom, axis=1)
        for _ in range(2):  # once is not enough where atoms are nearly alike
            part = np.matmul(basis[:, :step], atom[:, :, None])
            upper[:, :step, step] += part[:, :, 0]
            atom -= np.matmul(part.transpose(0, 2, 1), basis[:, :step])[:, 0]
        rest = np.linalg.norm(atom, axis=1)
        new = rest > _DEPENDENT * length
        basis[:, step] = np.where(new, 1 / np.where(new, rest, 1), 0)[:, None] * atom
        upper[:, step, step] = np.where(new, rest, 1)
        along[:, step] = np.einsum("nd,nd->n", basis[:, step], left)
        left -= along[:, step, None] * basis[:, step]
    return chosen, _solved(upper, along)


def _best(left: Floats, atoms: Atoms, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = np.arange(len(left))
    best, value = np.zeros(len(left), np.int64), np.full(len(left), -1, np.float32)
    for start, block in atoms.blocks():
        product = np.abs(left @ block.T)
        row, column = np.nonzero((chosen >= start) & (chosen < start + len(block)))
        product[row, chosen[row, column] - start] = -1
        at = product.argmax(1)
        larger = product[rows, at] > value
        best[larger], value[larger] = at[larger] + start, product[rows, at][larger]
    return best


def _solved(upper: Floats, along: Floats) -> Floats:
    """x with upper · x = along, for triangles."""
    found = np.zeros_like(along)
    for at in range(along.shape[1] - 1, -1, -1):
        known = np.einsum("nk,nk->n", upper[:, at, at + 1 :], found[:, at + 1 :])
        found[:, at] = (along[:, at] - known) / upper[:, at, at]
    return found
