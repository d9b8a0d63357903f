"""Compiled joining: documents that collide in a band are compared by exact Jaccard, and confirmed pairs are joined."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pomona.data.duplicates._components import root
from pomona.data.duplicates._edit import MAX_TOKENS, edit_close
from pomona.data.duplicates._text import ZERO, mix, power_of_two

WORDS = 8  # 64-bit words of a sketch
_SKETCH, _SIX, _LOW = np.uint64(55), np.uint64(6), np.uint64(63)
_A, _B, _C, _D = (np.uint64(v) for v in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101))
_N1, _N2, _N4, _N56 = (np.uint64(v) for v in (1, 2, 4, 56))


@numba.njit(cache=True, nogil=True)
def maybe_repeated(keys: Any) -> Any:
    """Places, ascending, of all keys that occur twice and a few others: those that share a bit of a small table with another key."""
    slots = 8 * power_of_two(len(keys))
    once, twice = np.zeros(slots // 8, np.uint8), np.zeros(slots // 8, np.uint8)
    for key in keys:
        slot = np.int64(key) & (slots - 1)
        byte, bit = slot >> 3, np.uint8(1) << np.uint8(slot & 7)
        twice[byte] |= once[byte] & bit
        once[byte] |= bit
    found, used = np.empty(len(keys), np.int64), 0
    for at in range(len(keys)):
        slot = np.int64(keys[at]) & (slots - 1)
        found[used] = at
        used += (twice[slot >> 3] >> np.uint8(slot & 7)) & 1
    return found[:used]


@numba.njit(cache=True, nogil=True)
def runs_of(keys: Any, order: Any, ids: Any, parent: Any, old: int) -> tuple[Any, Any]:
    """Runs of equal keys with something to compare: a row from `old` on, and not all of one component.

    `order` sorts `keys` stably; `ids` are the rows of `keys`. Returns rows run by run and the bounds of the runs.
    """
    members, bounds = np.empty(len(order), np.int64), np.zeros(len(order) + 1, np.int64)
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
    return members[:used], bounds[: runs + 1]


@numba.njit(cache=True, nogil=True)
def copy_ragged(values: Any, offsets: Any, rows: Any, out: Any, at: int) -> int:
    """Copy `rows` of a ragged array to `out` from `at` on. Returns where the copy ends."""
    for row in rows:
        for place in range(offsets[row], offsets[row + 1]):
            out[at] = values[place]
            at += 1
    return at


@numba.njit(cache=True, nogil=True)
def sketches_of(sets: Any, offsets: Any) -> Any:
    """Parity sketches `[n, WORDS]`: a member toggles one bit, so two sets differ in at least as many members as sketch bits."""
    sketches = np.zeros((len(offsets) - 1, WORDS), np.uint64)
    for row in range(len(sketches)):
        for at in range(offsets[row], offsets[row + 1]):
            bit = sets[at] >> _SKETCH
            sketches[row, np.int64(bit >> _SIX)] ^= _N1 << (bit & _LOW)
    return sketches


@numba.njit(cache=True, nogil=True)
def _bits(word: Any) -> Any:
    word = word - ((word >> _N1) & _A)
    word = (word & _B) + ((word >> _N2) & _B)
    return np.int64((((word + (word >> _N4)) & _C) * _D) >> _N56)


@numba.njit(cache=True, nogil=True)
def _hopeless(sketches: Any, one: int, two: int, size_one: int, size_two: int, threshold: float) -> bool:
    """Whether sizes or sketches alone show that the Jaccard similarity is below the threshold."""
    if min(size_one, size_two) < threshold * max(size_one, size_two) - 1e-9:
        return True
    apart = 0
    for word in range(WORDS):
        apart += _bits(sketches[one, word] ^ sketches[two, word])
    return size_one + size_two - apart < threshold * (size_one + size_two + apart) - 1e-9


@numba.njit(cache=True, nogil=True)
def _fill(table: Any, mask: int, sets: Any, start: int, stop: int) -> None:
    for slot in range(mask + 1):
        table[slot] = ZERO
    for at in range(start, stop):
        slot = np.int64(sets[at]) & mask
        while table[slot] != ZERO:
            slot = (slot + 1) & mask
        table[slot] = sets[at]


@numba.njit(cache=True, nogil=True)
def _shared(table: Any, mask: int, sets: Any, start: int, stop: int) -> int:
    """How many members of a set are in the table."""
    found = 0
    for at in range(start, stop):
        slot = np.int64(sets[at]) & mask
        while table[slot] != ZERO and table[slot] != sets[at]:
            slot = (slot + 1) & mask
        found += table[slot] == sets[at]
    return found


@numba.njit(cache=True, nogil=True)
def _edits(tokens: Any, offsets: Any, one: int, two: int, edit: float, counts: Any) -> bool:
    """Whether the edit similarity is reached, or the documents are too long to compute it."""
    first, second = tokens[offsets[one] : offsets[one + 1]], tokens[offsets[two] : offsets[two + 1]]
    if max(len(first), len(second)) > MAX_TOKENS:
        counts[2] += 1
        return True
    return edit_close(first, second, edit)


@numba.njit(cache=True, nogil=True)
def _similarity(
    row: int, other: int, place: int, there: int, sets: Any, offsets: Any, sketches: Any, tokens: Any, token_offsets: Any,
    threshold: float, edit: float, failed: Any, table: Any, loaded: Any, counts: Any,
) -> float:  # fmt: skip
    """The Jaccard similarity of two rows, or -1 when the pair is not confirmed. `loaded` says whose set the table holds, and its mask."""
    size, size_there = offsets[place + 1] - offsets[place], offsets[there + 1] - offsets[there]
    if _hopeless(sketches, place, there, size, size_there, threshold):
        return -1.0
    name = mix((np.uint64(max(row, other)) << np.uint64(32)) ^ np.uint64(min(row, other)))
    slot = np.int64(name >> np.uint64(20)) & np.int64(len(failed) - 1)
    if failed[slot] == name:
        return -1.0
    if loaded[0] != place:
        loaded[0], loaded[1] = place, power_of_two(2 * size) - 1
        _fill(table, loaded[1], sets, offsets[place], offsets[place + 1])
    counts[0] += 1
    shared = _shared(table, loaded[1], sets, offsets[there], offsets[there + 1])
    similarity = shared / (size + size_there - shared)
    if similarity < threshold or (edit > 0 and not _edits(tokens, token_offsets, place, there, edit, counts)):
        failed[slot] = name
        return -1.0
    return similarity


@numba.njit(cache=True, nogil=True)
def _lists(run: Any, parent: Any, old: int, cross: bool, heads: Any, tails: Any, after: Any, recent: Any) -> int:
    """Link the rows of a run by component (with `cross` each alone), those with no row from `old` on first. Returns how many lists."""
    roots_here = np.empty(len(run), np.int64)
    for at in range(len(run)):
        roots_here[at] = run[at] if cross else root(parent, run[at])
    order = np.argsort(roots_here, kind="mergesort")
    found = 0
    for wanted in (False, True):
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and roots_here[order[stop]] == roots_here[order[start]]:
                stop += 1
            if (run[order[stop - 1]] >= old) == wanted:
                for at in range(start, stop):
                    after[order[at]] = order[at + 1] if at + 1 < stop else -1
                heads[found], tails[found], recent[found] = order[start], order[stop - 1], wanted
                found += 1
            start = stop
    return found


@numba.njit(cache=True, nogil=True)
def _meet(
    one: int, last: int, start: Any, run: Any, here: Any, after: Any, done: Any, met: Any, old: int, most: int, sets: Any, offsets: Any,
    sketches: Any, tokens: Any, token_offsets: Any, threshold: float, edit: float, failed: Any, table: Any, loaded: Any, counts: Any,
) -> float:  # fmt: skip
    """Compare the rows from `one` to `last` of a list with those of the list from `start`, until a pair is confirmed, left in `met`."""
    while one >= 0:
        two = start
        while two >= 0 and done[one] < most:
            if run[one] >= old or run[two] >= old:
                done[one] += 1
                counts[1] += done[one] == most
                similarity = _similarity(
                    run[one], run[two], here[one], here[two], sets, offsets, sketches, tokens, token_offsets,
                    threshold, edit, failed, table, loaded, counts,
                )  # fmt: skip
                if similarity >= 0:
                    met[0], met[1] = min(run[one], run[two]), max(run[one], run[two])
                    return similarity
            two = after[two]
        one = after[one] if one != last else -1
    return -1.0


@numba.njit(cache=True, nogil=True)
def confirm(
    members: Any, bounds: Any, places: Any, sets: Any, offsets: Any, tokens: Any, token_offsets: Any, parent: Any, old: int,
    cross: bool, threshold: float, edit: float, most: int, failed: Any,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """Compare the rows of every run, as far as they are not in one component yet, and join those at or above the threshold.

    Row `members[k]` has its set at `places[k]` of `sets`. Rows below `old` are not compared with one another. With `cross` a row
    from `old` on is compared with rows below it only, until the first match. `most` bounds the comparisons of one row in one run;
    `failed` remembers pairs that were below. Returns the pairs `[m]`, `[m]` with their similarity, and counts: compared, rows cut
    short by `most`, pairs confirmed without edit similarity because too long.
    """
    sketches = sketches_of(sets, offsets)
    largest = 0
    for row in range(len(offsets) - 1):
        largest = max(largest, offsets[row + 1] - offsets[row])
    table, loaded = np.empty(power_of_two(2 * largest), np.uint64), np.full(2, -1, np.int64)
    firsts, seconds = np.empty(len(members), np.int64), np.empty(len(members), np.int64)
    similarities, counts, met = np.empty(len(members), np.float64), np.zeros(3, np.int64), np.zeros(2, np.int64)
    heads, tails, after = np.empty(len(members), np.int64), np.empty(len(members), np.int64), np.empty(len(members), np.int64)
    recent, done, active = np.empty(len(members), np.bool_), np.zeros(len(members), np.int64), np.empty(len(members), np.int64)
    used = 0
    for index in range(len(bounds) - 1):
        run, here = members[bounds[index] : bounds[index + 1]], places[bounds[index] : bounds[index + 1]]
        done[: len(run)] = 0
        groups = 0
        for high in range(_lists(run, parent, old, cross, heads, tails, after, recent)):
            first, last = heads[high], tails[high]
            at = groups - 1 if recent[high] and not (cross and parent[run[first]] != run[first]) else -1
            while at >= 0 and not (first == last and done[first] >= most):
                low = active[at]
                similarity = _meet(
                    first, last, heads[low], run, here, after, done, met, old, most, sets, offsets,
                    sketches, tokens, token_offsets, threshold, edit, failed, table, loaded, counts,
                )  # fmt: skip
                if similarity >= 0:
                    firsts[used], seconds[used], similarities[used] = met[0], met[1], similarity
                    used += 1
                    if cross:
                        parent[met[1]] = met[0]
                        break
                    one, two = root(parent, met[0]), root(parent, met[1])
                    parent[max(one, two)] = min(one, two)
                    after[tails[high]], tails[high] = heads[low], tails[low]
                    groups -= 1
                    active[at] = active[groups]
                at -= 1
            if not (cross and recent[high]):
                active[groups] = high
                groups += 1
    return firsts[:used], seconds[:used], similarities[:used], counts
