"""Compiled components: a union-find over rows, and the way from every row to the one that is kept."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def root(parent: Any, item: int) -> int:
    """The first row of the component of `item`."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@numba.njit(cache=True, nogil=True)
def unite(parent: Any, firsts: Any, seconds: Any) -> None:
    """Join the components of every pair of rows."""
    for at in range(len(firsts)):
        one, two = root(parent, firsts[at]), root(parent, seconds[at])
        parent[max(one, two)] = min(one, two)


@numba.njit(cache=True, nogil=True)
def roots(parent: Any) -> Any:
    """The first row of the component of every row."""
    found = np.empty(len(parent), np.int64)
    for item in range(len(parent)):
        found[item] = root(parent, item)
    return found


@numba.njit(cache=True, nogil=True)
def towards(parents: Any, bounds: Any, neighbours: Any, similarities: Any, anchors: Any) -> tuple[Any, Any]:
    """Walk the confirmed pairs from the anchors. Returns for every row its neighbour on the way to one (or -1) and their similarity.

    The pairs of row r are `neighbours[bounds[r]:bounds[r + 1]]`; `parents` is filled in: -1 where not yet reached.
    """
    similarity = np.zeros(len(parents), np.float64)
    queue = np.empty(len(parents), np.int64)
    tail = 0
    seen = np.zeros(len(parents), np.bool_)
    for anchor in anchors:
        seen[anchor] = True
        queue[tail] = anchor
        tail += 1
    head = 0
    while head < tail:
        row = queue[head]
        head += 1
        for at in range(bounds[row], bounds[row + 1]):
            near = neighbours[at]
            if not seen[near]:
                seen[near] = True
                parents[near], similarity[near] = row, similarities[at]
                queue[tail] = near
                tail += 1
    return parents, similarity
