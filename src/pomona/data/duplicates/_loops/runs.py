"""Who collides: keys that occur twice, runs of equal ones with something to compare, and the rows
of ragged arrays they ask for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.data.duplicates._loops.components import root


def maybe_repeated(keys: Any, tables: Any, found: Any) -> int:
    """Places, ascending, of all keys that occur twice and a few others: those that share a bit of a
    small table with another key.

    Writes them to `found`, `[n]`, and returns how many. tables: zeros `[2, a power of two]`.
    """
    once, twice = tables[0], tables[1]
    slots = 8 * len(once)
    for key in keys:
        slot = np.int64(key) & (slots - 1)
        byte, bit = slot >> 3, np.uint8(1) << np.uint8(slot & 7)
        twice[byte] |= once[byte] & bit
        once[byte] |= bit
    used = 0
    for at in range(len(keys)):
        slot = np.int64(keys[at]) & (slots - 1)
        found[used] = at
        used += (twice[slot >> 3] >> np.uint8(slot & 7)) & 1
    return used


def runs_of(
    keys: Any, order: Any, ids: Any, parent: Any, old: int, members: Any, bounds: Any
) -> int:
    """Runs of equal keys with something to compare: a row from `old` on, and not all of one
    component.

    `order` sorts `keys` stably; `ids` are the rows of `keys`. Writes rows run by run to `members`,
    `[n]`, and the bounds of the runs to `bounds`, `[n + 1]` that begins with 0. Returns how many
    runs.
    """
    used, runs, start = 0, 0, 0
    while start < len(order):
        stop, joined = start + 1, True
        while stop < len(order) and keys[order[stop]] == keys[order[start]]:
            stop += 1
        if stop - start > 1 and ids[order[stop - 1]] >= old:
            first = root(parent, ids[order[start]])
            for at in range(start + 1, stop):
                joined = joined and root(parent, ids[order[at]]) == first
        if not joined:
            for at in range(start, stop):
                members[used] = ids[order[at]]
                used += 1
            runs += 1
            bounds[runs] = used
        start = stop
    return runs


def copy_ragged(values: Any, offsets: Any, rows: Any, out: Any, at: int) -> int:
    """Copy `rows` of a ragged array to `out` from `at` on. Returns where the copy ends."""
    for row in rows:
        for place in range(offsets[row], offsets[row + 1]):
            out[at] = values[place]
            at += 1
    return at
