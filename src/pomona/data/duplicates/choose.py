"""Which document of a component stays, the evidence by which the others go, and how both are
written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pomona.data.duplicates._loops import loop
from pomona.data.duplicates.minhash import SigningScratch
from pomona.data.duplicates.pairs import Pairs, identical, joined, near, unite
from pomona.data.duplicates.signed import DedupOptions, Ints, Signed
from pomona.records import Records, as_text, filtered

Floats = NDArray[np.float64]


def roots(parent: Ints) -> Ints:
    """The first row of the component of every row."""
    first_rows = np.empty(len(parent), np.int64)
    loop("roots")(parent, first_rows)
    return first_rows


def towards(
    rows: int, bounds: Ints, neighbours: Ints, similarities: Floats, anchors: Ints
) -> tuple[Ints, Floats]:
    """Walk the confirmed pairs from the anchors. Returns for every row its neighbour on the way to
    one (or -1) and their similarity.

    The pairs of row r are `neighbours[bounds[r]:bounds[r + 1]]`.
    """
    parents, similarity = np.full(rows, -1, np.int64), np.zeros(rows)
    loop("towards")(
        parents,
        bounds,
        neighbours,
        similarities,
        anchors,
        similarity,
        np.empty(rows, np.int64),
        np.zeros(rows, np.bool_),
    )
    return parents, similarity


REASONS = ("kept", "exact", "near", "against", "target size")
KEPT, EXACT, NEAR, AGAINST, TARGET = range(5)


@dataclass(frozen=True)
class Verdict:
    """For each of the rows of other data and, from `old` on, of the inputs: reason (an index of
    REASONS), the row kept in its place, the row it was compared with (both -1 where there is none:
    no duplicate is kept, or there is no pair), and their Jaccard similarity. `components` are
    those of all rows.
    """

    old: int
    reason: NDArray[np.int8]
    kept: Ints
    via: Ints
    jaccard: NDArray[np.float64]
    components: Ints
    counts: Ints


def judge(
    signed: Signed, options: DedupOptions, scratch: SigningScratch, *, old: int, known: Ints | None
) -> Verdict:
    """Decide about the rows from `old` on. Those below are of an index whose components are
    `known`, or of the data to hold against.
    """
    alive, prints = np.ones(len(signed), bool), signed.column("prints")
    verdict = _blank(len(signed), old)
    crossing = None
    if old and known is None:
        crossing = near(
            signed, options, alive, scratch.state, old=old, cross=True, progress=scratch.step
        )
        _hold_against(verdict, crossing, prints)
        alive = verdict.reason == KEPT
        alive[:old] = False
    pairs = near(signed, options, alive, scratch.state, old=old, known=known, progress=scratch.step)
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
    if options.keep == "none":
        _drop_kept(verdict, gone, prints)
    _to_size(verdict, signed, options, old)
    counts = joined(crossing, pairs).counts if crossing else pairs.counts
    return replace(verdict, components=components, counts=counts)


def _drop_kept(verdict: Verdict, gone: NDArray[np.bool_], prints: NDArray[np.uint64]) -> None:
    """Let those go, too, for which others of their component went; each by the first of these that
    it was compared with.
    """
    rows = np.flatnonzero(gone)
    beside = rows[verdict.via[rows] == verdict.kept[rows]]
    stayed, first = np.unique(verdict.kept[beside], return_index=True)
    other = beside[first]
    verdict.via[stayed], verdict.jaccard[stayed] = other, verdict.jaccard[other]
    same = (prints[stayed] == prints[other]).all(axis=1)
    verdict.reason[stayed] = np.where(same, EXACT, NEAR)
    verdict.kept[gone] = -1


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

    parent = np.arange(rows)
    if known is not None:
        parent[: len(known)] = known
    unite(parent, pairs.first, pairs.second)
    return roots(parent)


def _worth(signed: Signed, options: DedupOptions) -> NDArray[np.float64]:
    """The greater, the sooner a row is kept; ties go to the first."""
    if options.keep in ("first", "none"):
        return np.zeros(len(signed))
    return (
        signed.column("facts")[:, 0].astype(np.float64)
        if options.keep == "longest"
        else signed.column("scores")
    )


def _keepers(
    signed: Signed,
    options: DedupOptions,
    components: Ints,
    alive: NDArray[np.bool_],
    old: int,
    indexed: bool,
) -> Ints:
    """The row that stays for every row: of an index its first row, else the worthiest."""
    if indexed or options.keep in ("first", "none"):
        return components
    rows = np.flatnonzero(alive)
    order = rows[np.lexsort((rows, -_worth(signed, options)[rows], components[rows]))]
    new = np.ones(len(order), bool)
    new[1:] = components[order[1:]] != components[order[:-1]]
    best = np.arange(len(signed))
    best[components[order[new]]] = order[new]
    return best[components]


def _evidence(pairs: Pairs, anchors: Ints, rows: int) -> tuple[Ints, NDArray[np.float64]]:

    ends = np.concatenate([pairs.first, pairs.second])
    order = np.argsort(ends, kind="stable")
    bounds = np.searchsorted(ends[order], np.arange(rows + 1))
    others = np.concatenate([pairs.second, pairs.first])[order]
    return towards(
        rows, bounds, others, np.concatenate([pairs.jaccard, pairs.jaccard])[order], anchors
    )


def _to_size(verdict: Verdict, signed: Signed, options: DedupOptions, old: int) -> None:
    left = old + np.flatnonzero(verdict.reason[old:] == KEPT)
    if options.target_size is not None and len(left) > options.target_size:
        order = left[np.lexsort((left, -_worth(signed, options)[left]))]
        verdict.reason[order[options.target_size :]] = TARGET


def kept_rows(records: Records, verdict: Verdict) -> Records:
    """The rows that stay, in their order and with all their columns."""
    return filtered(records, verdict.reason[verdict.old :] == KEPT)


def evidence(records: Records, other: Records | None, verdict: Verdict, place: str) -> pa.Table:
    """One row for every removed one: what was removed, what is kept in its place (`kept_in`:
    inputs, against or index), and the confirmed pair by which it went: rows `row_a` (the removed
    one), `row_b`, their Jaccard similarity. Rows count from 0 in their own data.
    """
    old = verdict.old
    gone = np.flatnonzero(verdict.reason != KEPT)
    stays, via = verdict.kept[gone], verdict.via[gone]
    ids = ids_of(records, np.concatenate([gone, stays]) - old)
    own, kept_ids = ids[: len(gone)], ids[len(gone) :]
    if other is not None:
        there = ids_of(other, np.where(stays < old, stays, -1))
        kept_ids = pc.call_function("coalesce", [as_text(kept_ids), as_text(there)])
    jaccard = pa.array(verdict.jaccard[gone], mask=np.isnan(verdict.jaccard[gone]))
    columns = {
        "removed": pa.array(gone - old),
        "removed_id": own,
        "kept": _numbers(stays, old),
        "kept_id": kept_ids,
        "kept_in": _places(stays, old, place),
        "row_a": pa.array(gone - old),
        "row_b": _numbers(via, old),
        "row_b_in": _places(via, old, place),
        "jaccard": jaccard,
        "reason": pa.array([REASONS[reason] for reason in verdict.reason[gone]], pa.string()),
    }
    return pa.table(columns)


def counts(verdict: Verdict) -> dict[str, int]:
    """Removed rows by reason."""
    removed = np.bincount(verdict.reason[verdict.old :], minlength=len(REASONS))
    return {
        name: int(removed[at])
        for at, name in enumerate(REASONS)
        if at != KEPT and (removed[at] or at not in (AGAINST, TARGET))
    }


def _numbers(rows: Ints, old: int) -> pa.Array:
    return pa.array(np.where(rows >= old, rows - old, rows), mask=rows < 0)


def _places(rows: Ints, old: int, place: str) -> pa.Array:
    return pa.array(np.where(rows >= old, "inputs", place).tolist(), pa.string(), mask=rows < 0)


def ids_of(records: Records, rows: Ints) -> pa.Array:
    """The column `id` of these rows; null where a row is negative or there is no such column."""
    if "id" not in records.column_names:
        return pa.nulls(len(rows), pa.string())
    wanted = np.unique(rows[rows >= 0])
    kind = records.schema.field("id").type
    pieces, start = [pa.array([], kind)], 0
    for batch in records.select("id").stream():
        low, high = np.searchsorted(wanted, [start, start + batch.num_rows])
        pieces.append(batch.column(0).take(pa.array(wanted[low:high] - start)))
        start += batch.num_rows
    return pa.concat_arrays(pieces).take(
        pa.array(np.searchsorted(wanted, np.maximum(rows, 0)), mask=rows < 0)
    )
