"""Spherical k-means over unit vectors, seeded; and pairs above a cosine within each cluster, in
blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.native import jit

_ROUNDS, _SAMPLE_A_CENTRE, _FEWEST_SAMPLE = 12, 64, 16384
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def centres_of(vectors: Floats, count: int, seed: int, block: int) -> Floats:
    """`count` unit centres, float32 `[count, d]`; a single one is the direction of the mean.

    k-means++ (Arthur & Vassilvitskii 2007) and rounds of Lloyd on a random sample of 64 vectors a
    centre (16,384 at least).
    """
    if count == 1:
        total = sum(
            (part.sum(axis=0, dtype=np.float64) for part in _blocks(vectors, block)),
            np.zeros(vectors.shape[1]),
        )
        return _unit(total[None].astype(np.float32))
    draw = np.random.default_rng(seed)
    size = min(len(vectors), max(_FEWEST_SAMPLE, _SAMPLE_A_CENTRE * count))
    sample = vectors[np.sort(draw.choice(len(vectors), size, replace=False))]
    centres = _spread(sample, count, draw)
    for _ in range(_ROUNDS):
        nearest = assign(sample, centres, block)[0]
        sums = np.zeros((count, vectors.shape[1]), np.float64)
        np.add.at(sums, nearest, sample)
        filled = np.bincount(nearest, minlength=count) > 0
        centres[filled] = _unit(sums[filled].astype(np.float32))
    return centres


def assign(vectors: Floats, centres: Floats, block: int) -> tuple[Ints, Floats]:
    """The nearest centre of each vector and the cosine to it, `[n]` each."""
    nearest, cosine = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    start = 0
    for part in _blocks(vectors, block):
        cosines = part @ centres.T
        chosen = cosines.argmax(axis=1)
        nearest[start : start + len(part)] = chosen
        cosine[start : start + len(part)] = cosines[np.arange(len(part)), chosen]
        start += len(part)
    return nearest, cosine


@dataclass(frozen=True)
class Likeness:
    """For each vector: `component` int64 (the first member), the most similar vector of its cluster
    if any, and that cosine; `[n]`.
    """

    component: Ints
    neighbour: Ints
    cosine: Floats


def alike(vectors: Floats, clusters: Ints, threshold: float, block: int) -> Likeness:
    """Components of the pairs within a cluster whose cosine is at least `threshold`."""
    count = len(vectors)
    component, neighbour, cosine = (
        np.arange(count),
        np.full(count, -1, np.int64),
        np.full(count, -2, np.float32),
    )
    order = np.argsort(clusters, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1):
        for first in range(0, len(members), block):
            left = members[first : first + block]
            here = vectors[left]
            for second in range(first, len(members), block):
                right = members[second : second + block]
                cosines = here @ (here if second == first else vectors[right]).T
                if second == first:
                    np.fill_diagonal(cosines, -2)
                _improve(neighbour, cosine, left, right, cosines)
                _improve(neighbour, cosine, right, left, cosines.T)
                one, two = np.nonzero(cosines >= threshold)
                _join(component, left[one], right[two])
    _flatten(component)
    return Likeness(component, neighbour, cosine)


def _improve(neighbour: Ints, cosine: Floats, rows: Ints, others: Ints, cosines: Floats) -> None:
    best = cosines.argmax(axis=1)
    values = cosines[np.arange(len(rows)), best]
    better = values > cosine[rows]
    neighbour[rows[better]], cosine[rows[better]] = others[best[better]], values[better]


@jit("semantic duplicates")
def _root(parent: Any, at: int) -> int:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


@jit("semantic duplicates")
def _join(parent: Any, left: Any, right: Any) -> None:
    for pair in range(left.size):
        one, two = _root(parent, left[pair]), _root(parent, right[pair])
        parent[max(one, two)] = min(one, two)


@jit("semantic duplicates")
def _flatten(parent: Any) -> None:
    for at in range(parent.size):
        parent[at] = _root(parent, at)


def _spread(sample: Floats, count: int, draw: np.random.Generator) -> Floats:
    """k-means++ seeds: each is drawn with probability proportional to 1 − cosine to the nearest one
    so far.
    """
    chosen = [int(draw.integers(len(sample)))]
    distance = np.full(len(sample), np.inf, np.float32)
    for _ in range(count - 1):
        distance = np.minimum(distance, np.maximum(0, 1 - sample @ sample[chosen[-1]]))
        mass = np.cumsum(distance, dtype=np.float64)
        chosen.append(
            int(np.searchsorted(mass, draw.random() * mass[-1], side="right")) % len(sample)
        )
    return sample[chosen].copy()


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def _blocks(vectors: Floats, block: int) -> Iterator[Floats]:
    for start in range(0, len(vectors), block):
        yield vectors[start : start + block]
