"""Joining: documents that collide in a band are compared by exact Jaccard, and confirmed pairs are
joined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pomona.data.duplicates._loops import SKETCH, loop, power_of_two

_LISTS = 9  # rows of memory for the lists of a run
Words, Ints = NDArray[np.uint64], NDArray[np.int64]


def maybe_repeated(keys: Words) -> Ints:
    """Places, ascending, of all keys that occur twice and a few others: those that share a bit of a
    small table with another key.
    """
    found = np.empty(len(keys), np.int64)
    return found[
        : loop("maybe_repeated")(keys, np.zeros((2, power_of_two(len(keys))), np.uint8), found)
    ]


def runs_of(keys: Words, order: Ints, ids: Ints, parent: Ints, old: int) -> tuple[Ints, Ints]:
    """Runs of equal keys with something to compare: a row from `old` on, and not all of one
    component.

    `order` sorts `keys` stably; `ids` are the rows of `keys`. Returns rows run by run and the
    bounds of the runs.
    """
    members, bounds = np.empty(len(order), np.int64), np.zeros(len(order) + 1, np.int64)
    runs = loop("runs_of")(keys, order, ids, parent, old, members, bounds)
    return members[: bounds[runs]], bounds[: runs + 1]


def copy_ragged(values: Words, offsets: Ints, rows: Ints, out: Words, at: int) -> int:
    """Copy `rows` of a ragged array to `out` from `at` on. Returns where the copy ends."""
    return loop("copy_ragged")(values, offsets, rows, out, at)


def confirm(
    members: Ints,
    bounds: Ints,
    places: Ints,
    sets: Words,
    offsets: Ints,
    tokens: Words,
    token_offsets: Ints,
    parent: Ints,
    old: int,
    cross: bool,
    threshold: float,
    edit: float,
    most: int,
    failed: Words,
) -> tuple[Ints, Ints, NDArray[np.float64], Ints]:
    """Compare the rows of every run, as far as they are not in one component yet, and join those at
    or above the threshold.

    Row `members[k]` has its set at `places[k]` of `sets`. Rows below `old` are not compared with
    one another. With `cross` a row from `old` on is compared with rows below it only, until the
    first match. `most` bounds the comparisons of one row in one run; `failed` remembers pairs that
    were below. Returns the pairs `[m]`, `[m]` with their similarity, and counts: compared, rows cut
    short by `most`, pairs confirmed without edit similarity because too long.
    """
    sketches, loaded = np.zeros((len(offsets) - 1, SKETCH), np.uint64), np.full(2, -1, np.int64)
    table = np.empty(power_of_two(2 * _longest(offsets)), np.uint64)
    costs = np.empty(_longest(token_offsets) + 1, np.int64)
    lists = np.empty((_LISTS, _longest(bounds)), np.int64)
    firsts, seconds = np.empty(len(members), np.int64), np.empty(len(members), np.int64)
    similarities, counts = np.empty(len(members)), np.zeros(3, np.int64)
    pairs = loop("confirm")(
        members,
        bounds,
        places,
        sets,
        offsets,
        tokens,
        token_offsets,
        parent,
        old,
        cross,
        threshold,
        edit,
        most,
        failed,
        sketches,
        table,
        loaded,
        costs,
        lists,
        firsts,
        seconds,
        similarities,
        counts,
    )
    return firsts[:pairs], seconds[:pairs], similarities[:pairs], counts


def _longest(offsets: Ints) -> int:
    return int(np.diff(offsets).max(initial=0))
