"""Compiled counting of shared character n-grams. An n-gram is a dense id made from (id of its first
n−1 characters, last character).

Strings come as `codes` int64 `[characters]`, code points end to end, and `starts` int64
`[strings + 1]`: string s is `codes[starts[s]:starts[s + 1]]`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pomona.native import jit

Ints = NDArray[np.int64]

_CODE_BITS = 21  # every Unicode code point is below 2**21
# 2**64 / golden ratio as int64 (Knuth, The Art of Computer Programming 3, §6.4): keys of n-grams
# that follow each other in a text would otherwise fill neighbouring slots.
_MIX = -7046029254386353131


@jit("chrF")
def _slot(keys: Ints, key: int) -> int:
    """The place of `key` in an open-addressing table of a power-of-two size, or the free place (-1)
    where it belongs.
    """
    mask = keys.size - 1
    mixed = key * _MIX
    slot = (mixed ^ (mixed >> 32)) & mask
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & mask
    return slot


@jit("chrF")
def _table_size(entries: int) -> int:
    size = 8
    while size < 2 * entries:
        size *= 2
    return size


@jit("chrF")
def _match(
    hyp: Ints,
    hyp_ids: Ints,
    ref: Ints,
    ref_ids: Ints,
    n: int,
    keys: Ints,
    slot_ids: Ints,
    left_over: Ints,
) -> int:
    """Size of the multiset intersection of the n-grams of two strings; the ids of (n−1)-grams
    become those of n-grams, -1 if not in ref.
    """
    keys[:] = -1
    distinct = 0
    for at in range(ref.size - n + 1):
        key = (ref_ids[at] << _CODE_BITS) | ref[at + n - 1]
        slot = _slot(keys, key)
        if keys[slot] == -1:
            keys[slot], slot_ids[slot], left_over[distinct] = key, distinct, 0
            distinct += 1
        ref_ids[at] = slot_ids[slot]
        left_over[ref_ids[at]] += 1
    match = 0
    for at in range(hyp.size - n + 1):
        if hyp_ids[at] < 0:
            continue
        slot = _slot(keys, (hyp_ids[at] << _CODE_BITS) | hyp[at + n - 1])
        hyp_ids[at] = slot_ids[slot] if keys[slot] != -1 else -1
        if hyp_ids[at] >= 0 and left_over[hyp_ids[at]] > 0:
            left_over[hyp_ids[at]] -= 1
            match += 1
    return match


@jit("chrF")
def pair_statistics(codes: Ints, starts: Ints, left: Ints, right: Ints, order: int) -> Ints:
    """(hyp, ref, match) n-gram counts of the pairs of strings (left[p], right[p]), int64
    `[pairs, 3 * order]`.

    As in sacreBLEU a hypothesis' n-grams count only where the reference has n-grams of that order.
    """
    longest = 0
    for s in range(starts.size - 1):
        longest = max(longest, starts[s + 1] - starts[s])
    statistics = np.zeros((left.size, 3 * order), dtype=np.int64)
    keys = np.empty(_table_size(longest), dtype=np.int64)
    slot_ids, left_over = np.empty_like(keys), np.empty(longest, dtype=np.int64)
    ids = np.empty((2, longest), dtype=np.int64)
    for pair in range(left.size):
        hyp = codes[starts[left[pair]] : starts[left[pair] + 1]]
        ref = codes[starts[right[pair]] : starts[right[pair] + 1]]
        table = keys[: _table_size(ref.size)]
        ids[:] = 0
        for n in range(1, min(order, ref.size) + 1):
            statistics[pair, 3 * n - 3] = max(hyp.size - n + 1, 0)
            statistics[pair, 3 * n - 2] = ref.size - n + 1
            statistics[pair, 3 * n - 1] = _match(
                hyp, ids[0], ref, ids[1], n, table, slot_ids, left_over
            )
    return statistics


@jit("chrF")
def postings(codes: Ints, starts: Ints, ids: Ints, n: int) -> tuple[Ints, Ints, Ints]:
    """For every n-gram of at least two strings, which strings have it and how often: (first
    `[grams + 1]`, string, count).

    `ids` of (n−1)-grams become those of n-grams; an n-gram of one string only gets -1, and so do
    all its extensions.
    """
    live = 0
    for at in range(ids.size):
        live += ids[at] >= 0
    keys = np.full(_table_size(live), -1, dtype=np.int64)
    slot_ids = np.empty_like(keys)
    newest = np.empty(live, dtype=np.int64)  # of each gram, the last entry written
    gram, string, count = np.empty_like(newest), np.empty_like(newest), np.empty_like(newest)
    spread = np.zeros(live + 1, dtype=np.int64)  # number of strings that have the gram
    grams = entries = 0
    for s in range(starts.size - 1):
        for at in range(starts[s], starts[s + 1]):
            if at + n > starts[s + 1]:
                ids[at] = -1
            if ids[at] < 0:
                continue
            key = (ids[at] << _CODE_BITS) | codes[at + n - 1]
            slot = _slot(keys, key)
            if keys[slot] == -1:
                keys[slot], slot_ids[slot], newest[grams] = key, grams, -1
                grams += 1
            ids[at] = slot_ids[slot]
            entry = newest[ids[at]]
            # Strings come in order, so an entry of this string can only be the gram's newest.
            if entry < 0 or string[entry] != s:
                gram[entries], string[entries], count[entries] = ids[at], s, 0
                newest[ids[at]] = entry = entries
                spread[ids[at]] += 1
                entries += 1
            count[entry] += 1
    return _by_gram(gram[:entries], string, count, spread[:grams], ids)


@jit("chrF")
def _by_gram(
    gram: Ints, string: Ints, count: Ints, spread: Ints, ids: Ints
) -> tuple[Ints, Ints, Ints]:
    """Counting sort of the postings by n-gram, those of one string left out and their `ids` set to
    -1.
    """
    first = np.zeros(spread.size + 1, dtype=np.int64)
    for g in range(spread.size):
        first[g + 1] = first[g] + (spread[g] if spread[g] > 1 else 0)
    place = first[:-1].copy()
    sorted_string = np.empty(first[-1], dtype=np.int64)
    sorted_count = np.empty_like(sorted_string)
    for entry in range(gram.size):
        if spread[gram[entry]] > 1:
            at = place[gram[entry]]
            sorted_string[at], sorted_count[at] = string[entry], count[entry]
            place[gram[entry]] += 1
    for at in range(ids.size):
        if ids[at] >= 0 and spread[ids[at]] == 1:
            ids[at] = -1
    return first, sorted_string, sorted_count


@jit("chrF")
def intersections(
    first: Ints, string: Ints, count: Ints, matches: Ints, candidates: int, references: int
) -> None:
    """Add up min(counts) for every pair of strings a < b with a < candidates and b >= references,
    into `matches[a, b - references]`.
    """
    matches[:] = 0
    for g in range(first.size - 1):
        for one in range(first[g], first[g + 1]):
            if string[one] >= candidates:  # sorted: the rest are references only
                break
            row, most = matches[string[one]], count[one]
            for other in range(one + 1, first[g + 1]):
                if string[other] >= references:
                    row[string[other] - references] += min(most, count[other])


@jit("chrF")
def pool_scores(
    codes: Ints, starts: Ints, candidates: int, references: int, order: int, beta: float
) -> NDArray[np.float64]:
    """Sentence chrF of each of the first `candidates` strings against each string from number
    `references` on, float64, in [0, 100].

    Strings must be distinct; those in both ranges are counted once. Time grows with the n-grams
    that pairs share, memory with the pairs.
    """
    sizes = starts[1:] - starts[:-1]
    shape = (candidates, sizes.size - references)
    matches = np.empty(shape, dtype=np.int64)
    precision, recall = np.zeros(shape), np.zeros(shape)
    ids = np.zeros(codes.size, dtype=np.int64)
    for n in range(1, order + 1):
        first, string, count = postings(codes, starts, ids, n)
        intersections(first, string, count, matches, candidates, references)
        for a in range(candidates):
            for b in range(references, sizes.size):
                grams_a, grams_b = sizes[a] - n + 1, sizes[b] - n + 1
                if grams_a > 0 and grams_b > 0:
                    match = grams_a if a == b else matches[min(a, b), max(a, b) - references]
                    precision[a, b - references] += match / grams_a
                    recall[a, b - references] += match / grams_b
    scores = np.zeros(shape)
    for a in range(candidates):
        for b in range(references, sizes.size):
            orders = min(order, sizes[a], sizes[b])
            if orders > 0 and precision[a, b - references] + recall[a, b - references] > 0:
                p, r = precision[a, b - references] / orders, recall[a, b - references] / orders
                scores[a, b - references] = 100 * ((1 + beta**2) * p * r / (beta**2 * p + r))
    return scores
