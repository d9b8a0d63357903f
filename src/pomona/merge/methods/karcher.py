"""The kernel of karcher: the point of the sphere that is least far from several tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pomona.merge._plan import Job
from pomona.merge.methods.spheres import Products, Sphere

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

    def __init__(self, job: Job) -> None:
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
