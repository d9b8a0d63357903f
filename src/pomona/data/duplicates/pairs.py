"""Which documents are near-duplicates: identical ones by fingerprint, the others band by band.
Documents that collide in a band are compared by exact Jaccard; each done band is kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomona.data.duplicates._loops import SKETCH, loop
from pomona.data.duplicates.signed import DedupOptions, Ints, Signed
from pomona.files import atomic_file
from pomona.shingles import power_of_two
from pomona.workspace import disk_guard

_LISTS = 9  # rows of memory for the lists of a run
Words = NDArray[np.uint64]


def maybe_repeated(keys: Words) -> Ints:
    """Places, ascending, of all keys that occur twice and a few others: those that share a bit of a
    small table with another key.
    """
    repeated = np.empty(len(keys), np.int64)
    return repeated[
        : loop("maybe_repeated")(keys, np.zeros((2, power_of_two(len(keys))), np.uint8), repeated)
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


BUDGET = 16 << 20  # values of shingle sets in memory at once
MOST = 50_000  # comparisons of one document within one run
_REMEMBERED = 1 << 20
COUNTS = ("compared", "cut_short", "too_long_for_edit_similarity")


@dataclass(frozen=True)
class Pairs:
    """Confirmed pairs `[m]` of rows (`first` < `second`), enough to join every component, with
    their Jaccard similarity, and counts.
    """

    first: Ints
    second: Ints
    jaccard: NDArray[np.float64]
    counts: Ints


def nothing() -> Pairs:
    """No pairs."""
    return Pairs(
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(len(COUNTS), np.int64)
    )


def joined(*many: Pairs) -> Pairs:
    """All of these pairs."""
    first, second, jaccard = (
        np.concatenate([getattr(pairs, name) for pairs in many])
        for name in ("first", "second", "jaccard")
    )
    return Pairs(first, second, jaccard, np.sum([pairs.counts for pairs in many], axis=0))


def identical(prints: NDArray[np.uint64]) -> Ints:
    """For every row the first row with the same 128-bit fingerprint, `[n]`."""
    order = np.argsort(prints[:, 0], kind="stable")
    ordered = prints[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return first


def unite(parent: Ints, firsts: Ints, seconds: Ints) -> None:
    """Join the components of every pair of rows, in `parent`."""
    loop("unite")(parent, firsts, seconds)


def near(
    signed: Signed,
    options: DedupOptions,
    alive: NDArray[np.bool_],
    state: Path,
    *,
    old: int = 0,
    known: Ints | None = None,
    cross: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Pairs:
    """Confirmed pairs among the rows that are `alive`; each done band is kept in `state`, and not
    done again.

    Rows below `old` are not compared with one another: `known` are their components (the first row
    of each). With `cross`, every row from `old` on is only compared with rows below it, until the
    first match.
    """
    parent = np.arange(len(signed))
    if known is not None:
        parent[: len(known)] = known
    rows = np.flatnonzero(alive)
    first = rows[identical(signed.column("prints")[rows])]
    twins = _twins(rows, first, old, cross)
    unite(parent, twins.first, twins.second)
    parts, alone = [twins], rows[first == rows]
    failed = np.zeros(_REMEMBERED, np.uint64)
    for band in range(options.n_bands or 0):
        place = state / f"{'cross' if cross else 'within'}-{band:04d}.npz"
        pairs = _load(place) if place.exists() else None
        if pairs is None:
            pairs = _band(signed, options, band, alone, parent.copy(), old, cross, failed)
            _save(pairs, place)
        unite(parent, pairs.first, pairs.second)
        parts.append(pairs)
        if progress:
            progress(band + 1)
    return joined(*parts)


def _twins(rows: Ints, first: Ints, old: int, cross: bool) -> Pairs:
    copies = (first != rows) & (rows >= old) & ((first < old) | (not cross))
    return Pairs(
        first[copies], rows[copies], np.ones(int(copies.sum())), np.zeros(len(COUNTS), np.int64)
    )


def _band(
    signed: Signed,
    options: DedupOptions,
    band: int,
    rows: Ints,
    parent: Ints,
    old: int,
    cross: bool,
    failed: NDArray[np.uint64],
) -> Pairs:

    keys = signed.keys(band)[rows]
    some = maybe_repeated(keys)
    keys, rows = keys[some], rows[some]
    members, bounds = runs_of(keys, np.argsort(keys, kind="stable"), rows, parent, old)
    parts = [nothing()]
    edit = options.edit_similarity or 0.0
    for some, cuts in _groups(signed, members, bounds):
        unique = np.unique(some)
        tokens, token_offsets = (
            signed.gather("tokens", unique)
            if edit
            else (np.zeros(0, np.uint64), np.zeros(1, np.int64))
        )
        places = np.searchsorted(unique, some)
        sets, offsets = signed.gather("sets", unique)
        threshold = float(options.threshold or 1.0)
        first, second, jaccard, counts = confirm(
            some,
            cuts,
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
            MOST,
            failed,
        )
        parts.append(Pairs(first, second, jaccard, counts))
    return joined(*parts)


def _groups(signed: Signed, members: Ints, bounds: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Whole runs together up to the budget of shingles in memory; a longer run in blocks, two by
    two.
    """
    if not len(members):
        return
    unique, back = np.unique(members, return_inverse=True)
    ends = np.cumsum(signed.sizes("sets", unique)[back])
    start = 0
    while start < len(bounds) - 1:
        before = ends[bounds[start] - 1] if start else 0
        stop = max(
            start + 1, int(np.searchsorted(ends[bounds[1:] - 1], before + BUDGET, side="right"))
        )
        some = members[bounds[start] : bounds[stop]]
        if stop == start + 1 and ends[bounds[stop] - 1] - before > BUDGET:
            yield from _cut(some, ends[bounds[start] : bounds[stop]] - before)
        else:
            yield some, bounds[start : stop + 1] - bounds[start]
        start = stop


def _cut(run: Ints, ends: Ints) -> Iterator[tuple[Ints, Ints]]:
    """A run beyond the budget in blocks of half of it, every block with itself and with every block
    before it.
    """
    blocks: list[Ints] = []
    start = 0
    while start < len(run):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BUDGET // 2, side="right")))
        blocks.append(run[start:stop])
        start = stop
        for block in blocks[:-1] or blocks:
            some = blocks[-1] if block is blocks[-1] else np.concatenate([block, blocks[-1]])
            yield some, np.array([0, len(some)])


def _save(pairs: Pairs, place: Path) -> None:
    with disk_guard(str(place)), atomic_file(place) as partial, partial.open("wb") as stream:
        np.savez(stream, **vars(pairs))


def _load(place: Path) -> Pairs:
    with np.load(place, allow_pickle=False) as stored:
        return Pairs(**stored)
