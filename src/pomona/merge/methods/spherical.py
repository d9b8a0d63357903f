"""Kernels whose coefficients come from norms and angles: slerp, nuslerp, multislerp, model_stock,
karcher. One pass measures, then one writes.

Scalar products are summed in float64 over parts of 4096 elements, in the order of the parts,
whatever the blocks and threads.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge.methods.common import PART, Loops, no_weight, weights_of
from pomona.merge.plan import TensorJob

Products = NDArray[np.float64]  # the scalar products of all pairs of inputs: (rows, count, count)


class Sphere(ABC):
    """Factors for whole tensors, or for their rows: `row` elements that have their own. `offsets`:
    on θ − θ_0 instead of θ.
    """

    passes = 1
    shared: str | None = None
    exact = 0  # 1 where large products may cancel out

    def __init__(self, job: TensorJob, *, row: int | None = None, offsets: bool) -> None:
        if not offsets and job.base is not None:
            job = replace(job, inputs=(job.base, *job.inputs), base=None)
        self._loops, self._row = Loops(job), row
        self.unit = row or PART
        self._factors = np.empty((0, 0), np.float32)

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> Products:
        """Scalar products of a block: for each row, or each part."""
        count, size = self._loops.count, blocks[0].size
        pairs = np.zeros((-(-size // self.unit), count * (count + 1) // 2))
        self._loops.call("gram", blocks, self._loops.based, self.unit, self.exact, pairs, 0)
        upper = np.triu_indices(count)
        products = np.zeros((len(pairs), count, count))
        products[:, *upper] = products[:, *upper[::-1]] = pairs
        return products

    def settle(self, number: int, partials: Sequence[Products]) -> None:
        """Find the factors."""
        count = self._loops.count
        products = np.concatenate(partials) if partials else np.zeros((0, count, count))
        if self._row is None:
            products = products.sum(axis=0, keepdims=True)
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                self._factors = np.ascontiguousarray(self.factors(products), np.float32)
        except ValueError as error:
            message, _, remedy = str(error).partition("; ")
            raise PomonaError(
                message, where=f'tensor "{self._loops.job.name}"', remedy=remedy
            ) from None

    @abstractmethod
    def factors(self, products: Products) -> NDArray[np.float64]:
        """Factors (rows, count) from the products of each row. Raises ValueError with message and
        remedy, "; " between them.
        """

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge a block."""
        factors, row = self._factors, max(1, len(out))
        if self._row is not None:
            row = self._row
            factors = factors[start // row : -(-(start + len(out)) // row)]
        self._loops.call(
            "combine", blocks, self._loops.based, row, factors, out, self._loops.stored
        )


class Slerp(Sphere):
    """sin((1−t)Ω)/sin Ω · θ_0 + sin(tΩ)/sin Ω · θ_1, Ω between the flattened tensors (Shoemake
    1985); t = 0 gives the base.

    Linear where |cos Ω| > 0.9995. A norm up to 1e-8 counts as 1, so that a zero tensor is at a
    right angle to the other.
    """

    def __init__(self, job: TensorJob) -> None:
        super().__init__(job, offsets=False)
        self._t = float(job.options["t"])

    def factors(self, products: Products) -> NDArray[np.float64]:
        """As the class says."""
        norms = np.sqrt(products[:, (0, 1), (0, 1)])
        norms[norms <= 1e-8] = 1
        cos = np.clip(products[:, 0, 1] / norms[:, 0] / norms[:, 1], -1, 1)
        return between(cos, np.full(len(cos), self._t), np.abs(cos) > 0.9995)


class NuSlerp(Sphere):
    """SLERP by weights, t = w_1 / (w_0 + w_1), ½ where the sum is 0 (below 1e-6); with a base on
    task vectors, which are added to it.

    Of the flattened tensors, or with nuslerp_flatten false of every row. Linear where 1 − cos² ≤
    1e-16; norms are at least 1e-7.
    """

    def __init__(self, job: TensorJob) -> None:
        row = None if job.options.get("nuslerp_flatten", True) else row_of(job)
        super().__init__(job, row=row, offsets=True)
        self._t = share_of(job)

    def factors(self, products: Products) -> NDArray[np.float64]:
        """As the class says."""
        norms = np.maximum(np.sqrt(products[:, (0, 1), (0, 1)]), 1e-7)
        cos = np.clip(products[:, 0, 1] / norms[:, 0] / norms[:, 1], -1, 1)
        return between(cos, np.full(len(cos), self._t), 1 - cos**2 <= 1e-16)


class MultiSlerp(Sphere):
    """The mean on the sphere of several tensors, or task vectors if there is a base, at their
    weighted mean length.

    Goddard's construction, as in mergekit: unit vectors are averaged, moved along the tangent at
    the normed average, and lengthened by Σ w·|θ|. All of it follows from scalar products. One model
    alone is passed on; two whose average vanishes are interpolated linearly, and so are any number
    of tensors no longer than `eps`.
    """

    exact = 1

    def __init__(self, job: TensorJob) -> None:
        super().__init__(job, offsets=True)
        self._weights = weights_of(job)
        if job.options.get("normalize_weights", True):
            total = self._weights.sum()
            if total == 0:
                raise no_weight(job, "normalize_weights")
            self._weights = self._weights / total
        self._eps = float(job.options.get("eps", 1e-8))

    def factors(self, products: Products) -> NDArray[np.float64]:
        """As the class says."""
        weights, eps = self._weights, self._eps
        if len(weights) == 1:
            return np.ones((1, 1))
        norms = np.sqrt(np.diagonal(products[0]))
        units = weights / (norms + eps)  # of each tensor in the average of unit vectors
        length = math.sqrt(max(0.0, units @ products[0] @ units))
        if length < eps:
            if len(weights) == 2 or norms.max() <= eps:
                return weights[None, :]
            raise ValueError(
                "the weighted directions of the models cancel out; use other weights, or linear"
            )
        mean = units / length
        along = float(weights @ ((products[0] @ mean) / (norms + eps)))
        tangent = units - along * mean
        step = math.sqrt(max(0.0, tangent @ products[0] @ tangent)) + eps
        return (
            (mean * math.cos(step) + tangent * (math.sin(step) / step)) * float(norms @ weights)
        )[None, :]


class ModelStock(Sphere):
    """t · mean + (1 − t) · θ_0 with t = N cos θ / (1 + (N − 1) cos θ), cos θ the mean over pairs of
    task vectors (arXiv 2403.19522, §4.2).

    Of the flattened tensors, or with filter_wise of every row; the base where the denominator
    vanishes (below 1e-6).
    """

    def __init__(self, job: TensorJob) -> None:
        row = row_of(job) if job.options.get("filter_wise", False) else None
        super().__init__(job, row=row, offsets=True)

    def factors(self, products: Products) -> NDArray[np.float64]:
        """As the class says."""
        count = products.shape[1]
        norms = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
        one, other = np.triu_indices(count, 1)
        cos = np.clip(
            products[:, one, other] / np.maximum(norms[:, one] * norms[:, other], 1e-6), -1, 1
        ).mean(axis=1)
        denominator = 1 + (count - 1) * cos
        t = np.where(np.abs(denominator) < 1e-6, 0.0, count * cos / denominator)
        return np.repeat(t[:, None] / count, count, axis=1)


def row_of(job: TensorJob) -> int:
    """Elements of a row: the length of the last dimension."""
    return max(1, job.shape[-1] if job.shape else 1)


def share_of(job: TensorJob) -> float:
    """The second weight's share of both, ½ where they cancel out (below 1e-6, as in mergekit)."""
    weights = weights_of(job)
    total = float(weights.sum())
    return 0.5 if abs(total) < 1e-6 else float(weights[1]) / total


def between(
    cos: NDArray[np.float64], t: NDArray[np.float64], linear: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Factors (n, 2) of spherical interpolation at `t` for each angle; of linear interpolation
    where `linear` says so.
    """
    angle = np.arccos(np.where(linear, 0.0, cos))
    sine = np.sin(angle)
    first = np.where(linear, 1 - t, np.sin((1 - t) * angle) / sine)
    second = np.where(linear, t, np.sin(t * angle) / sine)
    return np.stack([first, second], axis=1)


ROWS = 64


class ColumnSlerp:
    """SLERP of every column of the matrix (first dimension × the rest), t from the weights, with a
    base on task vectors. See NuSlerp.
    """

    passes = 1
    shared: str | None = None

    def __init__(self, job: TensorJob) -> None:
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
            values = [
                self._loops.decoded(block[part], place).reshape(-1, self._columns)
                for place, block in enumerate(blocks)
            ]
            base = values.pop(0) if self._loops.based else np.zeros(1)
            yield part, [value - base for value in values], base

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
            self._loops.store(merged.reshape(-1), out[part])


Numbers = NDArray[np.float64]


class Karcher(Sphere):
    """The Karcher mean of the flattened tensors' directions, all of one weight, at their mean
    length (Karcher 1977, DOI 10.1002/cpa.3160300502; for models arXiv 2603.04972, as mergekit 0.1.5
    has it).

    From the normed mean of the unit vectors, steps along the mean of the tangents towards each of
    them, until a tangent is shorter than `tol`, or `max_iter` steps. All follows from scalar
    products. Tensors no longer than `tol` have a length and no direction; zeros where all are so
    short. One model alone is passed on.
    """

    exact = 1

    def __init__(self, job: TensorJob) -> None:
        super().__init__(job, offsets=False)
        self._most, self._tolerance = int(job.options["max_iter"]), float(job.options["tol"])

    def factors(self, products: Products) -> Numbers:
        """As the class says."""
        norms = np.sqrt(np.diagonal(products[0]))
        if len(norms) == 1:
            return np.ones((1, 1))
        pointing = norms > self._tolerance
        factors = np.zeros(len(norms))
        if pointing.any():
            lengths = norms[pointing]
            angles = products[0][np.ix_(pointing, pointing)] / np.outer(lengths, lengths)
            np.fill_diagonal(angles, 1)
            factors[pointing] = norms.mean() * self._mean(angles) / lengths
        return factors[None, :]

    def _mean(self, angles: Numbers) -> Numbers:
        """The mean as a sum of unit vectors: their coefficients, from their cosines (count,
        count).
        """
        count = len(angles)
        mean = np.full(count, 1 / count)
        length = _length(mean, angles)
        mean = np.eye(count)[0] if length < self._tolerance else mean / length
        for _ in range(self._most):
            tangent = self._tangent(mean, angles)
            length = _length(tangent, angles)
            if length < self._tolerance:
                break
            moved = np.cos(length) * mean + np.sin(length) / length * tangent
            moved /= _length(moved, angles)
            if np.array_equal(moved, mean):
                break
            mean = moved
        return mean

    def _tangent(self, mean: Numbers, angles: Numbers) -> Numbers:
        """The mean of the tangents at `mean` towards the unit vectors, as a sum of unit vectors."""
        cosines = np.clip(angles @ mean, -1, 1)
        apart = np.arccos(cosines)
        if (apart > np.pi - 1e-7).any():
            raise ValueError(
                "two models point in opposite directions, between which there is no mean; "
                "leave one out, or use linear"
            )
        far = apart >= self._tolerance
        shares = np.where(far, apart / np.sin(np.where(far, apart, 1)), 0) / len(angles)
        return shares - (shares @ cosines) * mean


def _length(vector: Numbers, angles: Numbers) -> float:
    return float(np.sqrt(max(0.0, vector @ angles @ vector)))
