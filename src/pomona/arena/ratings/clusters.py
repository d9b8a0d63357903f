"""Votes that hang together: what of them is drawn, and counted for errors, as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.arena.ratings.bradley_terry import Counts, pairs_of
from pomona.arena.votes import Votes
from pomona.errors import PomonaError, nearest

UNITS = ("item", "prompt", "voter")  # from the finest on
ALONE = "vote"  # each vote by itself
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Clusters:
    """Votes summed by cluster, pair and outcome.

    by: item, prompt, voter, or the column that names them.
    n: clusters.
    start: [n + 1] where each cluster's cells begin.
    cell: [m] pair of `Counts` times three, plus the outcome.
    votes: float64 [m].
    within: whether no cluster has votes on two pairs.
    """

    by: str
    start: Ints
    cell: NDArray[np.int32]
    votes: NDArray[np.float64]
    within: bool = False

    @property
    def n(self) -> int:
        return len(self.start) - 1

    def matrix(self, cells: int) -> Any:
        """The votes as a sparse matrix, [n, cells]."""
        from scipy.sparse import csr_matrix

        return csr_matrix((self.votes, self.cell, self.start), (self.n, cells))


def units_of(votes: Votes) -> list[str]:
    """The units by which the votes can be clustered, from the finest on: those that the columns
    name and of which one has two votes. Where prompts are named and items are not, an item is a
    prompt with a pair of models.
    """
    found = []
    for unit in UNITS:
        column = _column(votes, unit)
        if column is None:
            continue
        codes, _ = votes.codes(column)
        known = codes >= 0
        if unit == "item" and column == "prompt":
            codes = codes * len(votes.models) ** 2 + _pair_keys(votes)
        distinct = len(np.unique(codes[known]))
        if distinct < votes.count[known].sum():
            found.append(unit)
    return found


def _column(votes: Votes, unit: str) -> str | None:
    names = votes.columns.column_names
    if unit in names:
        return unit
    return "prompt" if unit == "item" and "prompt" in names else None


def _pair_keys(votes: Votes) -> Ints:
    low, high = np.minimum(votes.a, votes.b), np.maximum(votes.a, votes.b)
    return low.astype(np.int64) * len(votes.models) + high


def clustered(votes: Votes, counts: Counts, by: str) -> Clusters:
    """The votes by `by`: item, prompt, voter or another column. A vote of which that is not known
    is a cluster of its own.

    Raises:
        PomonaError: there is no such column.
    """
    column = _checked(votes, by)
    codes, labels = votes.codes(column)
    pair, turned, _, _ = pairs_of(votes)
    outcome = np.minimum(votes.outcome, 2).astype(np.int64)
    cell = pair * 3 + np.where(turned & (outcome < 2), 1 - outcome, outcome)
    count, n = votes.count, len(labels)
    if len(unknown := np.flatnonzero(codes < 0)):
        known = np.flatnonzero(codes >= 0)
        alone = np.repeat(cell[unknown], count[unknown])
        codes = np.concatenate([codes[known], n + np.arange(len(alone))])
        cell = np.concatenate([cell[known], alone])
        count = np.concatenate([count[known], np.ones(len(alone), np.int64)])
        n += len(alone)
    return _summed(by, codes, cell, count, n, split=by == "item" and column == "prompt")


def _checked(votes: Votes, by: str) -> str:
    """The column that names the clusters, of items perhaps the prompt."""
    column = _column(votes, by) or by
    if column not in votes.columns.column_names:
        known = [*(unit for unit in UNITS if _column(votes, unit)), *votes.columns.column_names]
        remedy = nearest(by, known) if known else "give --cluster none: no column names any"
        message = f'there is no column "{by}" to cluster by'
        raise PomonaError(message, where=votes.where, remedy=remedy)
    return column


def row_codes(votes: Votes, by: str) -> Ints:
    """The cluster of each row [n], from 0 on without gaps, -1 where it is not known."""
    column = _checked(votes, by)
    codes, _ = votes.codes(column)
    known = codes >= 0
    if by == "item" and column == "prompt":
        codes = codes * len(votes.models) ** 2 + _pair_keys(votes)
    found = np.full(len(codes), -1)
    found[known] = np.unique(codes[known], return_inverse=True)[1]
    return found


def _summed(by: str, codes: Ints, cell: Ints, count: Ints, n: int, *, split: bool) -> Clusters:
    """Cells in order of clusters, each once; with `split` a cluster of each pair within them."""
    from scipy.sparse import coo_matrix

    table = coo_matrix((count.astype(np.float64), (codes, cell)), (n, int(cell.max()) + 1)).tocsr()
    table.sum_duplicates()  # and sorts
    cells, start = table.indices, table.indptr.astype(np.int64)
    owner = np.repeat(np.arange(n), np.diff(start))
    pair = cells // 3
    fresh = np.ones(len(cells), bool)
    fresh[1:] = owner[1:] != owner[:-1]
    within = True
    changed = pair[1:] != pair[:-1]
    if split:
        fresh[1:] |= changed
    else:
        within = not bool(np.any(changed & ~fresh[1:]))
    start = np.append(np.flatnonzero(fresh), len(cells)).astype(np.int64)
    return Clusters(by, start, cells.astype(np.int32), table.data, within)
