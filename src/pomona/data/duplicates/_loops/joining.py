"""Joining: the rows of a run are compared as far as they are not in one component yet, and
confirmed pairs are joined.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pomona.data.duplicates._loops.comparing import Asked, Documents, Memory, similarity_of, sketch
from pomona.data.duplicates._loops.components import root
from pomona.native import part


class Lists(NamedTuple):
    """The rows of a run linked by component: of each list the first and the last place and whether
    it has a new row; of each place the next one and how often it was compared; which lists are
    left; and memory to sort in.
    """

    heads: Any
    tails: Any
    recent: Any
    after: Any
    done: Any
    active: Any
    keys: Any
    order: Any
    spare: Any


@part
def _sort(keys: Any, count: int, order: Any, spare: Any) -> None:
    """Write the places of `keys` to `order`, by key and then by place."""
    for at in range(count):
        order[at] = at
    width = 1
    while width < count:
        for start in range(0, count, 2 * width):
            middle, stop = min(start + width, count), min(start + 2 * width, count)
            one, two = start, middle
            for at in range(start, stop):
                if one < middle and (two >= stop or keys[order[one]] <= keys[order[two]]):
                    spare[at] = order[one]
                    one += 1
                else:
                    spare[at] = order[two]
                    two += 1
        for at in range(count):
            order[at] = spare[at]
        width *= 2


@part
def _link(run: Any, parent: Any, old: int, cross: int, lists: Any) -> int:
    """Link the rows of a run by component (with `cross` each alone), those with no row from `old`
    on first. Returns how many lists.
    """
    keys, order, count = lists.keys, lists.order, len(run)
    for at in range(count):
        keys[at] = run[at] if cross else root(parent, run[at])
        lists.done[at] = 0
    _sort(keys, count, order, lists.spare)
    found = 0
    for wanted in (False, True):
        start = 0
        while start < count:
            stop = start + 1
            while stop < count and keys[order[stop]] == keys[order[start]]:
                stop += 1
            if (run[order[stop - 1]] >= old) == wanted:
                for at in range(start, stop):
                    lists.after[order[at]] = order[at + 1] if at + 1 < stop else -1
                lists.heads[found], lists.tails[found], lists.recent[found] = (
                    order[start],
                    order[stop - 1],
                    wanted,
                )
                found += 1
            start = stop
    return found


@part
def _meet(
    one: int,
    last: int,
    start: int,
    run: Any,
    here: Any,
    lists: Any,
    documents: Any,
    asked: Any,
    memory: Any,
) -> tuple[float, int, int]:
    """Compare the rows from `one` to `last` of a list with those of the list from `start`, until a
    pair is confirmed.

    Returns its similarity and its rows, or -1.
    """
    done, after = lists.done, lists.after
    while one >= 0:
        two = start
        while two >= 0 and done[one] < asked.most:
            if run[one] >= asked.old or run[two] >= asked.old:
                done[one] += 1
                memory.counts[1] += done[one] == asked.most
                similarity = similarity_of(
                    run[one], run[two], here[one], here[two], documents, asked, memory
                )
                if similarity >= 0:
                    return similarity, min(run[one], run[two]), max(run[one], run[two])
            two = after[two]
        one = after[one] if one != last else -1
    return -1.0, -1, -1


def confirm(
    members: Any,
    bounds: Any,
    places: Any,
    sets: Any,
    offsets: Any,
    tokens: Any,
    token_offsets: Any,
    parent: Any,
    old: int,
    cross: int,
    threshold: float,
    edit: float,
    most: int,
    failed: Any,
    sketches: Any,
    table: Any,
    loaded: Any,
    costs: Any,
    space: Any,
    firsts: Any,
    seconds: Any,
    similarities: Any,
    counts: Any,
) -> int:
    """Compare the rows of every run and join those at or above the threshold, as `_join.confirm`
    says. Returns how many pairs.

    Results: pairs and their similarities `[members]`, counts `[3]`. Memory: `sketches` zeros
        `[n, 8]`; `table` with `power_of_two` of
    twice the largest set; `loaded` -1 and -1; `costs` one more than the most tokens; `space` [9,
    the longest run].
    """
    sketch(sets, offsets, sketches)
    documents, asked = (
        Documents(sets, offsets, sketches, tokens, token_offsets),
        Asked(threshold, edit, old, most),
    )
    memory = Memory(failed, table, loaded, costs, counts)
    lists = Lists(
        space[0], space[1], space[2], space[3], space[4], space[5], space[6], space[7], space[8]
    )
    heads, tails, active, used = lists.heads, lists.tails, lists.active, 0
    for index in range(len(bounds) - 1):
        run, here = (
            members[bounds[index] : bounds[index + 1]],
            places[bounds[index] : bounds[index + 1]],
        )
        groups = 0
        for high in range(_link(run, parent, old, cross, lists)):
            first, last, recent = heads[high], tails[high], lists.recent[high] != 0
            at = groups - 1 if recent and not (cross and parent[run[first]] != run[first]) else -1
            while at >= 0 and not (first == last and lists.done[first] >= most):
                low = active[at]
                similarity, one, two = _meet(
                    first, last, heads[low], run, here, lists, documents, asked, memory
                )
                if similarity >= 0:
                    firsts[used], seconds[used], similarities[used] = one, two, similarity
                    used += 1
                    if cross:
                        parent[two] = one
                        break
                    one, two = root(parent, one), root(parent, two)
                    parent[max(one, two)] = min(one, two)
                    lists.after[tails[high]], tails[high] = heads[low], tails[low]
                    groups -= 1
                    active[at] = active[groups]
                at -= 1
            if not (cross and recent):
                active[groups] = high
                groups += 1
    return used
