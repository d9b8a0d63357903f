"""Which document of a component stays, and the evidence by which the others go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.data.duplicates._near import Pairs, identical, joined, near
from pomona.data.duplicates._options import Options
from pomona.data.duplicates._signed import Ints, Signed
from pomona.data.duplicates._work import Bench

REASONS = ("kept", "exact", "near", "against", "target size")
KEPT, EXACT, NEAR, AGAINST, TARGET = range(5)


@dataclass(frozen=True)
class Verdict:
    """For each of the rows of other data and, from `old` on, of the inputs: reason (an index of
    REASONS), the row kept in its place, the row it was compared with (both -1 where there is none),
    and their Jaccard similarity. `components` are those of all rows.
    """

    old: int
    reason: NDArray[np.int8]
    kept: Ints
    via: Ints
    jaccard: NDArray[np.float64]
    components: Ints
    counts: Ints


def judge(
    signed: Signed, options: Options, bench: Bench, *, old: int, known: Ints | None
) -> Verdict:
    """Decide about the rows from `old` on. Those below are of an index whose components are
    `known`, or of the data to hold against.
    """
    alive, prints = np.ones(len(signed), bool), signed.column("prints")
    verdict = _blank(len(signed), old)
    crossing = None
    if old and known is None:
        crossing = near(
            signed, options, alive, bench.state, old=old, cross=True, progress=bench.step
        )
        _hold_against(verdict, crossing, prints)
        alive = verdict.reason == KEPT
        alive[:old] = False
    pairs = near(signed, options, alive, bench.state, old=old, known=known, progress=bench.step)
    components = _components(len(signed), pairs, known)
    keep = _keepers(signed, options, components, alive, old, known is not None)
    gone = alive & (keep != np.arange(len(alive)))
    gone[:old] = False
    anchors = np.unique(np.concatenate([keep[gone], np.arange(old if known is not None else 0)]))
    via, jaccard = _evidence(pairs, anchors, len(signed))
    verdict.kept[gone], verdict.via[gone], verdict.jaccard[gone] = (
        keep[gone],
        via[gone],
        jaccard[gone],
    )
    same = (prints[gone] == prints[keep[gone]]).all(axis=1) | (
        prints[gone] == prints[via[gone]]
    ).all(axis=1)
    verdict.reason[gone] = np.where(same, EXACT, NEAR)
    _to_size(verdict, signed, options, old)
    counts = joined(crossing, pairs).counts if crossing else pairs.counts
    return Verdict(
        old, verdict.reason, verdict.kept, verdict.via, verdict.jaccard, components, counts
    )


def _blank(rows: int, old: int) -> Verdict:
    nowhere = np.full(rows, -1, np.int64)
    return Verdict(
        old,
        np.zeros(rows, np.int8),
        nowhere,
        nowhere.copy(),
        np.full(rows, np.nan),
        nowhere,
        np.zeros(3, np.int64),
    )


def _hold_against(verdict: Verdict, pairs: Pairs, prints: NDArray[np.uint64]) -> None:
    verdict.kept[pairs.second], verdict.jaccard[pairs.second] = pairs.first, pairs.jaccard
    first = identical(prints)
    copies = np.flatnonzero((verdict.kept < 0) & (verdict.kept[first] >= 0))
    verdict.kept[copies], verdict.jaccard[copies] = (
        verdict.kept[first[copies]],
        verdict.jaccard[first[copies]],
    )
    hit = verdict.kept >= 0
    verdict.via[hit] = verdict.kept[hit]
    verdict.reason[hit] = AGAINST


def _components(rows: int, pairs: Pairs, known: Ints | None) -> Ints:
    from pomona.data.duplicates._components import roots, unite

    parent = np.arange(rows)
    if known is not None:
        parent[: len(known)] = known
    unite(parent, pairs.first, pairs.second)
    return roots(parent)


def _worth(signed: Signed, options: Options) -> NDArray[np.float64]:
    """The greater, the sooner a row is kept; ties go to the first."""
    if options.keep == "first":
        return np.zeros(len(signed))
    return (
        signed.column("facts")[:, 0].astype(np.float64)
        if options.keep == "longest"
        else signed.column("scores")
    )


def _keepers(
    signed: Signed,
    options: Options,
    components: Ints,
    alive: NDArray[np.bool_],
    old: int,
    indexed: bool,
) -> Ints:
    """The row that stays for every row: of an index its first row, else the worthiest."""
    if indexed or options.keep == "first":
        return components
    rows = np.flatnonzero(alive)
    order = rows[np.lexsort((rows, -_worth(signed, options)[rows], components[rows]))]
    new = np.ones(len(order), bool)
    new[1:] = components[order[1:]] != components[order[:-1]]
    best = np.arange(len(signed))
    best[components[order[new]]] = order[new]
    return best[components]


def _evidence(pairs: Pairs, anchors: Ints, rows: int) -> tuple[Ints, NDArray[np.float64]]:
    from pomona.data.duplicates._components import towards

    ends = np.concatenate([pairs.first, pairs.second])
    order = np.argsort(ends, kind="stable")
    bounds = np.searchsorted(ends[order], np.arange(rows + 1))
    others = np.concatenate([pairs.second, pairs.first])[order]
    return towards(
        rows, bounds, others, np.concatenate([pairs.jaccard, pairs.jaccard])[order], anchors
    )


def _to_size(verdict: Verdict, signed: Signed, options: Options, old: int) -> None:
    left = old + np.flatnonzero(verdict.reason[old:] == KEPT)
    if options.target_size is not None and len(left) > options.target_size:
        order = left[np.lexsort((left, -_worth(signed, options)[left]))]
        verdict.reason[order[options.target_size :]] = TARGET
