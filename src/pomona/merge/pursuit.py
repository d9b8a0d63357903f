"""Orthogonal matching pursuit for many vectors at once (Pati, Rezaiifar and Krishnaprasad 1993):
each is written as a sum of a few atoms, chosen one by one, by least squares.

Products of all atoms with what is left of the vectors are nearly all of the work. They are taken in
float32, of the atoms, or where it fits and pays of their Gram matrix (Batch-OMP, Rubinstein,
Zibulevsky and Elad 2008). All else is float64, and so is the choice: atoms whose products are too
near to the largest for float32 to tell are compared again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.tensors import Stored, TensorRows

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Places = NDArray[np.int64]
_DEPENDENT = 1e-5  # of an atom's length: what is left of it counts as nothing
_EXPRESSED = 1e-10  # of a target's length, likewise
_AGAIN = 1e-3  # of an atom's length: what rounding has left in it of the others no longer is small
_EQUAL = 1e-12  # of the largest product: no difference that float64 could tell
# What rounding changes in products of float32, in units of √width · lengths: a bound that holds
# all but surely (Higham and Mary 2019, "A new approach to probabilistic rounding error
# analysis", theorem 2.4).
_ROUNDING = 6 * 2.0**-24
_BLOCK = 1 << 24  # bytes of atoms that are read at once where they do not fit
_TILE = 1 << 23  # bytes of products that are looked at together
_LONGEST = 1e15  # atoms whose products float32 holds
_MOST = 1024  # targets at a time: more make nothing faster, and a kill would lose them
_SLOWER = 8.5  # a multiplication with rows of a matrix, beside one of two matrices (measured)


def check_finite(values: Floats, stored: Stored) -> None:
    """Raise PomonaError, naming the tensor that values are from, for NaN and infinity."""
    with np.errstate(invalid="ignore"):
        whole = bool(np.isfinite(values.sum(dtype=np.float64)))
    if not whole:
        raise PomonaError(
            f'tensor "{stored.name}" holds NaN or infinity',
            where=stored.folder,
            remedy="copy or download it again",
        )


class Atoms:
    """Rows of a stored matrix, in float32: kept where `memory` bytes hold them, else read again in
    blocks each time. `length` is the largest of their lengths.
    """

    def __init__(self, stored: Stored, rows: Sequence[int], memory: int) -> None:
        self._rows = TensorRows(stored)
        self._ids = np.asarray(rows, np.int64)
        self.width = self._rows.shape[1]
        whole = 4 * len(self._ids) * self.width <= memory
        self._kept = self._rows.float32(self._ids) if whole else None
        self.gram: Floats | None = None
        self.length = 0.0
        for _, block in self.blocks():
            check_finite(block, stored)
            squares = np.einsum("nd,nd->n", block, block, dtype=np.float64)
            self.length = max(self.length, sqrt(squares.max(initial=0)))

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(each.nbytes for each in (self._kept, self.gram) if each is not None)

    def take(self, places: Places) -> Floats:
        """Some atoms, in any shape of places."""
        if self._kept is not None:
            return self._kept[places]
        return self._rows.float32(self._ids[places.ravel()]).reshape(*places.shape, self.width)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """All atoms, from which place on."""
        step = max(1, _BLOCK // (4 * max(1, self.width)))
        for start in range(0, len(self._ids), step):
            if self._kept is not None:
                yield start, self._kept[start : start + step]
            else:
                yield start, self._rows.float32(self._ids[start : start + step])

    def prepare(self, count: int, k: int, memory: int) -> None:
        """Multiply all atoms with each other, where `memory` bytes hold that and `count` targets
        are done sooner by it.
        """
        saved = count * k * (self.width - _SLOWER * k)
        fits = 4 * len(self) ** 2 <= memory and 1 / _LONGEST < self.length < _LONGEST
        if self.gram is None and fits and saved > len(self) * self.width:
            self.gram = np.empty((len(self), len(self)), np.float32)
            for start, block in self.blocks():
                for other, right in self.blocks():
                    rows = slice(start, start + len(block))
                    self.gram[rows, other : other + len(right)] = block @ right.T


def batch_size(atoms: Atoms, k: int, memory: int) -> int:
    """Targets that fit into `memory` together, beside the atoms."""
    each = 8 * ((k + 6) * atoms.width + k * (k + 4))
    each += 4 * len(atoms) if atoms.gram is not None else 0
    room = max(memory // 4, memory - atoms.size - 2 * _TILE)
    return min(_MOST, max(1, room // each))


def pursue(
    targets: Floats, atoms: Atoms, k: int, advance: Callable[[int], None] = lambda _: None
) -> tuple[Places, Doubles]:
    """Places of atoms and their coefficients, [n, k] each, for `targets` [n, width].

    Each step takes the atom whose product with what is left of the target is the largest in
    absolute value, the first of equals, and leaves what the atoms so far cannot express. An atom
    that depends on those before it has coefficient 0, and so have all when nothing is left. Raises
    no error for k up to the number of atoms.

    advance: told how many of the n · k steps are done.
    """
    search = _Search(atoms, targets, k)
    count, width = targets.shape
    basis = np.zeros((count, k, width))
    left = targets.astype(np.float64)
    enough = _EXPRESSED * np.linalg.norm(left, axis=1)
    for step in range(k):
        left[np.linalg.norm(left, axis=1) <= enough] = 0
        place = search.best(left, step)
        atom = atoms.take(place).astype(np.float64)
        length = np.linalg.norm(atom, axis=1)
        _project(atom, basis[:, :step], search.upper[:, :step, step], slice(None))
        rest = np.linalg.norm(atom, axis=1)
        if len(again := np.flatnonzero(rest < _AGAIN * length)):
            _project(atom, basis[:, :step], search.upper[:, :step, step], again)
            rest = np.linalg.norm(atom, axis=1)
        new = rest > _DEPENDENT * length
        basis[:, step] = np.where(new, 1 / np.where(new, rest, 1), 0)[:, None] * atom
        along = np.einsum("nd,nd->n", basis[:, step], left)
        search.add(step, place, np.where(new, rest, 1), along)
        left -= along[:, None] * basis[:, step]
        advance(count * (step + 1))
    return search.chosen, search.solved(k)


def _project(atom: Doubles, basis: Doubles, upper: Doubles, rows: slice | Places) -> None:
    """Take out of each atom what the vectors of its basis have of it."""
    some = basis[rows]
    part = np.matmul(some, atom[rows][:, :, None])
    upper[rows] += part[:, :, 0]
    atom[rows] -= np.matmul(part.transpose(0, 2, 1), some)[:, 0]


class _Search:
    """The atoms chosen so far for some targets, and the next one."""

    def __init__(self, atoms: Atoms, targets: Floats, k: int) -> None:
        self.atoms = atoms
        self._steps = 0
        self.chosen = np.zeros((len(targets), k), np.int64)
        self.upper = np.zeros((len(targets), k, k))
        self._along = np.zeros((len(targets), k))
        self._norms = np.linalg.norm(targets.astype(np.float64), axis=1)
        self._first: Floats | None = None  # products with the targets, where the rest is Gram's
        if atoms.gram is not None:
            self._first = np.empty((len(targets), len(atoms)), np.float32)
            for own, start, product in self._multiplied(targets):
                self._first[own, start : start + product.shape[1]] = product

    def add(self, step: int, place: Places, diagonal: Doubles, along: Doubles) -> None:
        """Atoms that were chosen, what is new in them, and how much of that is in the targets."""
        self.chosen[:, step] = place
        self.upper[:, step, step] = diagonal
        self._along[:, step] = along
        self._steps = step + 1

    def solved(self, steps: int) -> Doubles:
        """The coefficients of the first atoms: x with upper · x = along, for triangles."""
        found = self._along[:, :steps].copy()
        for at in range(steps - 1, -1, -1):
            found[:, at] /= self.upper[:, at, at]
            found[:, :at] -= self.upper[:, :at, at] * found[:, at, None]
        return found

    def best(self, left: Doubles, step: int) -> Places:
        """The atom whose product with what is left is the largest; where nothing is left, one that
        was not chosen.
        """
        used = self.chosen[:, :step, None] == np.arange(step + 1)
        place = used.any(1).argmin(1).astype(np.int64)
        top, margin, rows, columns = self._near(left)
        live = left.any(1)
        lost = live & (top <= 2 * margin)  # smaller than what float32 tells apart
        single = np.bincount(rows, minlength=len(left)) == 1
        place[rows] = columns
        some = (live & ~single & ~lost)[rows]
        self._compare(left, rows[some], columns[some], place)
        self._compare_all(left, np.flatnonzero(lost), place)
        return place

    def _near(self, left: Doubles) -> tuple[Doubles, Doubles, Places, Places]:
        """The largest product of each target, how far below it another may be as large in truth,
        and rows and columns of all between, rows and columns in order.
        """
        coefficients = self.solved(self._steps) if self.atoms.gram is not None else None
        error = _ROUNDING * sqrt(self.atoms.width) * self.atoms.length
        size = np.linalg.norm(left, axis=1)
        if coefficients is None:  # of length 1, so that no product is too large for float32
            left, size = left / np.where(size > 0, size, 1)[:, None], (size > 0).astype(np.float64)
        else:
            size = self._norms + np.abs(coefficients).sum(1) * self.atoms.length
        margin = 2 * error * size
        top = np.zeros(len(left))
        found: list[tuple[Places, Places, Floats]] = []
        for own, start, product in self._products(left, coefficients):
            chosen = self.chosen[own, : self._steps]
            row, column = np.nonzero((chosen >= start) & (chosen < start + product.shape[1]))
            product[row, chosen[row, column] - start] = 0
            np.abs(product, out=product)
            top[own] = np.maximum(top[own], product.max(1))
            bound = np.where(top[own] > margin[own], top[own] - margin[own], np.inf)
            # flat, which NumPy does several times as fast as by row and column
            near = np.flatnonzero(product >= bound.astype(np.float32)[:, None])
            row, column = np.divmod(near, product.shape[1])
            found.append((row + own.start, column + start, product[row, column]))
        rows, columns, values = (np.concatenate(part) for part in zip(*found, strict=True))
        kept = values >= (top - margin)[rows]
        order = np.lexsort((columns[kept], rows[kept]))
        return top, margin, rows[kept][order], columns[kept][order]

    def _products(
        self, left: Doubles, coefficients: Doubles | None
    ) -> Iterator[tuple[slice, int, Floats]]:
        """Products of all atoms with what is left: for which targets, and from which atom on."""
        if coefficients is None:
            yield from self._multiplied(left.astype(np.float32))
            return
        from scipy import sparse

        assert self.atoms.gram is not None and self._first is not None
        count, atoms = self._first.shape
        step = max(1, _TILE // (4 * atoms))
        for start in range(0, count, step):
            own = slice(start, min(start + step, count))
            values = coefficients[own].astype(np.float32)
            ends = np.arange(len(values) + 1) * values.shape[1]
            places = self.chosen[own, : self._steps].ravel()
            made = sparse.csr_array((values.ravel(), places, ends), (len(values), atoms))
            yield own, 0, self._first[own] - made @ self.atoms.gram

    def _multiplied(self, vectors: Floats) -> Iterator[tuple[slice, int, Floats]]:
        step = max(1, _TILE // (4 * len(vectors)))
        for start, block in self.atoms.blocks():
            for at in range(0, len(block), step):
                yield slice(0, len(vectors)), start + at, vectors @ block[at : at + step].T

    def _compare(self, left: Doubles, rows: Places, columns: Places, place: Places) -> None:
        """Of some atoms for some targets, rows in order, those with the largest product."""
        if not len(rows):
            return
        value = np.empty(len(rows))
        step = max(1, _TILE // (16 * self.atoms.width))
        for at in range(0, len(rows), step):
            some = slice(at, at + step)
            atom = self.atoms.take(columns[some]).astype(np.float64)
            value[some] = np.abs(np.einsum("pd,pd->p", atom, left[rows[some]]))
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        largest = np.maximum.reduceat(value, starts)
        counts = np.diff(starts, append=len(rows))
        first = np.flatnonzero(value >= np.repeat(largest, counts) * (1 - _EQUAL))[::-1]
        place[rows[first]] = columns[first]

    def _compare_all(self, left: Doubles, rows: Places, place: Places) -> None:
        """The same over all atoms."""
        largest = np.full(len(rows), -1.0)
        for start, block in self.atoms.blocks() if len(rows) else ():
            product = np.abs(left[rows] @ block.astype(np.float64).T)
            row, column = np.nonzero(
                (self.chosen[rows, : self._steps] >= start)
                & (self.chosen[rows, : self._steps] < start + len(block))
            )
            product[row, self.chosen[rows[row], column] - start] = -1
            top = product.max(1)
            first = (product >= top[:, None] * (1 - _EQUAL)).argmax(1)
            larger = top * (1 - _EQUAL) > largest
            place[rows[larger]] = first[larger] + start
            largest[larger] = top[larger]
