"""Components: a union-find over rows, and the way from every row to the one that is kept."""

from __future__ import annotations

from typing import Any

from pomona.native import part


@part
def root(parent: Any, item: int) -> int:
    """The first row of the component of `item`."""
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


def unite(parent: Any, firsts: Any, seconds: Any) -> int:
    """Join the components of every pair of rows."""
    for at in range(len(firsts)):
        one, two = root(parent, firsts[at]), root(parent, seconds[at])
        parent[max(one, two)] = min(one, two)
    return 0


def roots(parent: Any, found: Any) -> int:
    """The first row of the component of every row, to `found`."""
    for item in range(len(parent)):
        found[item] = root(parent, item)
    return 0


def towards(
    parents: Any,
    bounds: Any,
    neighbours: Any,
    similarities: Any,
    anchors: Any,
    similarity: Any,
    queue: Any,
    seen: Any,
) -> int:
    """Walk the pairs from the anchors, into `parents` and `similarity`. `seen` is all false;
    `queue` is memory for every row.
    """
    tail = 0
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
    return 0
