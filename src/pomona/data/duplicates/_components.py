"""Components: a union-find over rows, and the way from every row to the one that is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pomona.data.duplicates._loops import loop

Ints, Floats = NDArray[np.int64], NDArray[np.float64]


def unite(parent: Ints, firsts: Ints, seconds: Ints) -> None:
    """Join the components of every pair of rows, in `parent`."""
    loop("unite")(parent, firsts, seconds)


def roots(parent: Ints) -> Ints:
    """The first row of the component of every row."""
    found = np.empty(len(parent), np.int64)
    loop("roots")(parent, found)
    return found


def towards(
    rows: int, bounds: Ints, neighbours: Ints, similarities: Floats, anchors: Ints
) -> tuple[Ints, Floats]:
    """Walk the confirmed pairs from the anchors. Returns for every row its neighbour on the way to
    one (or -1) and their similarity.

    The pairs of row r are `neighbours[bounds[r]:bounds[r + 1]]`.
    """
    parents, similarity = np.full(rows, -1, np.int64), np.zeros(rows)
    loop("towards")(
        parents,
        bounds,
        neighbours,
        similarities,
        anchors,
        similarity,
        np.empty(rows, np.int64),
        np.zeros(rows, np.bool_),
    )
    return parents, similarity
