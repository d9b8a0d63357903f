"""Whether two documents are near-duplicates: by sizes, by sketches, by exact Jaccard similarity of
their sets, by edit similarity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pomona.data.duplicates._loops import SKETCH
from pomona.data.duplicates._loops.editing import edit_close
from pomona.data.duplicates._loops.text import ZERO, mix, power_of_two
from pomona.native import part

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


class Asked(NamedTuple):
    """The least Jaccard and edit similarity (0 for any), the first row that is not old, and how
    often a row is compared in a run.
    """

    threshold: Any
    edit: Any
    old: Any
    most: Any


class Memory(NamedTuple):
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
    found = 0
    for at in range(start, stop):
        slot = np.int64(sets[at]) & mask
        while table[slot] != ZERO and table[slot] != sets[at]:
            slot = (slot + 1) & mask
        found += table[slot] == sets[at]
    return found


@part
def _edits(documents: Any, one: int, two: int, edit: float, memory: Any) -> bool:
    """Whether the edit similarity is reached, or the documents are too long to compute it."""
    tokens, offsets = documents.tokens, documents.token_offsets
    first, second = tokens[offsets[one] : offsets[one + 1]], tokens[offsets[two] : offsets[two + 1]]
    if max(len(first), len(second)) > MAX_TOKENS:
        memory.counts[2] += 1
        return True
    return edit_close(first, second, edit, memory.costs)


@part
def similarity_of(
    row: int, other: int, place: int, there: int, documents: Any, asked: Any, memory: Any
) -> float:
    """The Jaccard similarity of two rows, whose documents are at `place` and `there`, or -1 when
    the pair is not confirmed.
    """
    sets, offsets, failed, loaded = documents.sets, documents.offsets, memory.failed, memory.loaded
    size, size_there = offsets[place + 1] - offsets[place], offsets[there + 1] - offsets[there]
    if _hopeless(documents.sketches, place, there, size, size_there, asked.threshold):
        return -1.0
    name = mix((np.uint64(max(row, other)) << np.uint64(32)) ^ np.uint64(min(row, other)))
    slot = np.int64(name >> np.uint64(20)) & np.int64(len(failed) - 1)
    if failed[slot] == name:
        return -1.0
    if loaded[0] != place:
        loaded[0], loaded[1] = place, power_of_two(2 * size) - 1
        _fill(memory.table, loaded[1], sets, offsets[place], offsets[place + 1])
    memory.counts[0] += 1
    shared = _shared(memory.table, loaded[1], sets, offsets[there], offsets[there + 1])
    similarity = shared / (size + size_there - shared)
    if similarity < asked.threshold or (
        asked.edit > 0 and not _edits(documents, place, there, asked.edit, memory)
    ):
        failed[slot] = name
        return -1.0
    return similarity
