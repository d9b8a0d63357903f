"""Loops that join: keys that occur twice, runs of equal keys, the comparison of two documents, and
components.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pomona.data.duplicates._loops import SKETCH
from pomona.native import part
from pomona.shingles import ZERO, mix, table_size


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


def roots(parent: Any, first_rows: Any) -> int:
    """The first row of the component of every row, to `first_rows`."""
    for item in range(len(parent)):
        first_rows[item] = root(parent, item)
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


def maybe_repeated(keys: Any, tables: Any, places: Any) -> int:
    """Places, ascending, of all keys that occur twice and a few others: those that share a bit of a
    small table with another key.

    Writes them to `places`, `[n]`, and returns how many. tables: zeros `[2, a power of two]`.
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
        places[used] = at
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


@part
def edit_close(one: Any, two: Any, least: float, costs: Any) -> bool:
    """Whether the edit similarity of two token sequences is at least `least`. `costs` is memory for
    one more than `two` has.
    """
    longer = max(len(one), len(two))
    budget = int(np.floor((1 - least) * longer + 1e-9))
    start, stop_one, stop_two = 0, len(one), len(two)
    while start < min(stop_one, stop_two) and one[start] == two[start]:
        start += 1
    while min(stop_one, stop_two) > start and one[stop_one - 1] == two[stop_two - 1]:
        stop_one -= 1
        stop_two -= 1
    rows, columns = stop_one - start, stop_two - start
    if abs(rows - columns) > budget:
        return False
    far = budget + 1
    for column in range(columns + 1):
        costs[column] = min(column, far)
    for row in range(1, rows + 1):
        first, last = max(1, row - budget), min(columns, row + budget)
        corner, best = costs[first - 1], far
        costs[first - 1] = min(row, far) if first == 1 else far
        for column in range(first, last + 1):
            above = costs[column] if column < row + budget else far
            cost = (
                corner
                if one[start + row - 1] == two[start + column - 1]
                else 1 + min(corner, above, costs[column - 1])
            )
            corner = costs[column]
            costs[column] = min(cost, far)
            best = min(best, cost)
        if min(best, costs[first - 1]) > budget:
            return False
    return costs[columns] <= budget


MAX_TOKENS = 50_000
_TOP, _SIX, _LOW = np.uint64(55), np.uint64(6), np.uint64(63)
_A, _B, _C, _D = (
    np.uint64(v)
    for v in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
)
_N1, _N2, _N4, _N56 = (np.uint64(v) for v in (1, 2, 4, 56))


class Documents(NamedTuple):
    """Sets and tokens of documents, end to end, with their offsets, and a sketch of each set."""

    sets: Any
    offsets: Any
    sketches: Any
    tokens: Any
    token_offsets: Any


class JoinLimits(NamedTuple):
    """The least Jaccard and edit similarity (0 for any), the first row that is not old, and how
    often a row is compared in a run.
    """

    threshold: Any
    edit: Any
    old: Any
    most: Any


class JoinBuffers(NamedTuple):
    """Pairs that failed; a set as a table, whose it is, and its mask; costs of edits; counts:
    compared, cut short, too long for edits.
    """

    failed: Any
    table: Any
    loaded: Any
    costs: Any
    counts: Any


@part
def sketch(sets: Any, offsets: Any, sketches: Any) -> None:
    """Parity sketches, to zeros `[n, SKETCH]`: a member toggles one bit, so two sets differ in at
    least as many members as sketch bits.
    """
    for row in range(len(sketches)):
        for at in range(offsets[row], offsets[row + 1]):
            bit = sets[at] >> _TOP
            sketches[row, np.int64(bit >> _SIX)] ^= _N1 << (bit & _LOW)


@part
def _bits(word: Any) -> Any:
    word = word - ((word >> _N1) & _A)
    word = (word & _B) + ((word >> _N2) & _B)
    return np.int64((((word + (word >> _N4)) & _C) * _D) >> _N56)


@part
def _hopeless(
    sketches: Any, one: int, two: int, size_one: int, size_two: int, threshold: float
) -> bool:
    """Whether sizes or sketches alone show that the Jaccard similarity is below the threshold."""
    # 1e-9: rounding must not refuse a pair that is exactly at the threshold.
    if min(size_one, size_two) < threshold * max(size_one, size_two) - 1e-9:
        return True
    apart = 0
    for word in range(SKETCH):
        apart += _bits(sketches[one, word] ^ sketches[two, word])
    return size_one + size_two - apart < threshold * (size_one + size_two + apart) - 1e-9


@part
def _fill(table: Any, mask: int, sets: Any, start: int, stop: int) -> None:
    for slot in range(mask + 1):
        table[slot] = ZERO
    for at in range(start, stop):
        slot = np.int64(sets[at]) & mask
        while table[slot] != ZERO:
            slot = (slot + 1) & mask
        table[slot] = sets[at]


@part
def _shared(table: Any, mask: int, sets: Any, start: int, stop: int) -> int:
    """How many members of a set are in the table."""
    linked = 0
    for at in range(start, stop):
        slot = np.int64(sets[at]) & mask
        while table[slot] != ZERO and table[slot] != sets[at]:
            slot = (slot + 1) & mask
        linked += table[slot] == sets[at]
    return linked


@part
def _edits(documents: Any, one: int, two: int, edit: float, buffers: Any) -> bool:
    """Whether the edit similarity is reached, or the documents are too long to compute it."""
    tokens, offsets = documents.tokens, documents.token_offsets
    first, second = tokens[offsets[one] : offsets[one + 1]], tokens[offsets[two] : offsets[two + 1]]
    if max(len(first), len(second)) > MAX_TOKENS:
        buffers.counts[2] += 1
        return True
    return edit_close(first, second, edit, buffers.costs)


@part
def similarity_of(
    row: int, other: int, place: int, there: int, documents: Any, limits: Any, buffers: Any
) -> float:
    """The Jaccard similarity of two rows, whose documents are at `place` and `there`, or -1 when
    the pair is not confirmed.
    """
    sets, offsets, failed, loaded = (
        documents.sets,
        documents.offsets,
        buffers.failed,
        buffers.loaded,
    )
    size, size_there = offsets[place + 1] - offsets[place], offsets[there + 1] - offsets[there]
    if _hopeless(documents.sketches, place, there, size, size_there, limits.threshold):
        return -1.0
    name = mix((np.uint64(max(row, other)) << np.uint64(32)) ^ np.uint64(min(row, other)))
    slot = np.int64(name >> np.uint64(20)) & np.int64(len(failed) - 1)
    # A pair that failed may lose its slot to another: it is compared again, never taken for one.
    if failed[slot] == name:
        return -1.0
    if loaded[0] != place:
        loaded[0], loaded[1] = place, table_size(2 * size) - 1
        _fill(buffers.table, loaded[1], sets, offsets[place], offsets[place + 1])
    buffers.counts[0] += 1
    shared = _shared(buffers.table, loaded[1], sets, offsets[there], offsets[there + 1])
    similarity = shared / (size + size_there - shared)
    if similarity < limits.threshold or (
        limits.edit > 0 and not _edits(documents, place, there, limits.edit, buffers)
    ):
        failed[slot] = name
        return -1.0
    return similarity


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
    linked = 0
    for wanted in (False, True):
        start = 0
        while start < count:
            stop = start + 1
            while stop < count and keys[order[stop]] == keys[order[start]]:
                stop += 1
            if (run[order[stop - 1]] >= old) == wanted:
                for at in range(start, stop):
                    lists.after[order[at]] = order[at + 1] if at + 1 < stop else -1
                lists.heads[linked], lists.tails[linked], lists.recent[linked] = (
                    order[start],
                    order[stop - 1],
                    wanted,
                )
                linked += 1
            start = stop
    return linked


@part
def _meet(
    one: int,
    last: int,
    start: int,
    run: Any,
    here: Any,
    lists: Any,
    documents: Any,
    limits: Any,
    buffers: Any,
) -> tuple[float, int, int]:
    """Compare the rows from `one` to `last` of a list with those of the list from `start`, until a
    pair is confirmed.

    Returns its similarity and its rows, or -1.
    """
    done, after = lists.done, lists.after
    while one >= 0:
        two = start
        while two >= 0 and done[one] < limits.most:
            if run[one] >= limits.old or run[two] >= limits.old:
                done[one] += 1
                buffers.counts[1] += done[one] == limits.most
                similarity = similarity_of(
                    run[one], run[two], here[one], here[two], documents, limits, buffers
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
        `[n, 8]`; `table` with `table_size` of
    twice the largest set; `loaded` -1 and -1; `costs` one more than the most tokens; `space` [9,
    the longest run].
    """
    sketch(sets, offsets, sketches)
    documents, limits = (
        Documents(sets, offsets, sketches, tokens, token_offsets),
        JoinLimits(threshold, edit, old, most),
    )
    buffers = JoinBuffers(failed, table, loaded, costs, counts)
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
                    first, last, heads[low], run, here, lists, documents, limits, buffers
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
