"""Models that are no longer shown, and what the board owes to them.

Singh et al. 2025, "The Leaderboard Illusion" (arXiv 2504.20879, section 5): where models retire and
prompts change, old votes compare what is no longer comparable, and the graph of who met whom gets
thin. If the ratings mean the same without the retired, both boards differ by chance alone (Hausman
1978), which the influence of each vote on the difference says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.arena.auditing.board import (
    ALPHA,
    Board,
    Change,
    Floats,
    Moved,
    board_of,
    interval,
    moved_by,
    summed,
)
from pomona.arena.ratings.bradley_terry import Counts, components, counts_of
from pomona.arena.votes import Votes
from pomona.stats import holm

_SILENT = 0.001  # chance that any model still shown would have been silent so long


@dataclass(frozen=True)
class Graph:
    """Who met whom. pairs: of models with votes, of all possible; fewest: opponents of a model;
    cuts: models without which the graph falls apart; connectivity: the second smallest eigenvalue
    of the Laplacian of votes, divided by the votes of the average model: near 0 the board hangs on
    few votes.
    """

    models: int
    pairs: int
    possible: int
    fewest: int
    cuts: list[str]
    connectivity: float


@dataclass(frozen=True)
class Retired:
    """What leaving the retired models out changes. found: by the table of models, or by times."""

    null: str
    found: str
    retired: list[str]
    p_value: float | None
    alarm: bool
    moved: Moved | None
    parts: int
    graph: Graph | None
    shifted: list[Change]
    reason: str | None


def graph(counts: Counts, names: Sequence[str]) -> Graph:
    """Who met whom."""
    k = counts.models
    votes = counts.outcomes.sum(1)
    laplacian = np.zeros((k, k))
    laplacian[counts.first, counts.second] = laplacian[counts.second, counts.first] = -votes
    np.fill_diagonal(laplacian, -laplacian.sum(1))
    degrees = np.bincount(counts.first, minlength=k) + np.bincount(counts.second, minlength=k)
    return Graph(
        k,
        len(counts.first),
        k * (k - 1) // 2,
        int(degrees.min()),
        [names[place] for place in _cuts(counts)],
        float(np.linalg.eigvalsh(laplacian)[1] / np.diag(laplacian).mean()),
    )


def _cuts(counts: Counts) -> list[int]:
    """The models without which a connected graph falls apart; none of one that has fallen."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    k, ends = counts.models, (counts.first, counts.second)
    table = coo_matrix((np.ones(len(ends[0])), ends), (k, k)).tocsr()
    hub = int(np.argmax(np.bincount(np.concatenate(ends), minlength=k)))
    order, before = breadth_first_order(table, hub, directed=False)
    if len(order) < k:
        return []
    found = []
    for place in np.unique(before[before >= 0]).tolist():  # the leaves of a tree hold nothing
        rest = np.flatnonzero(np.arange(k) != place)
        if connected_components(table[rest][:, rest], directed=False)[0] > 1:
            found.append(place)
    return found


def retired(board: Board, given: dict[str, bool] | None, moments: Floats | str) -> Retired | str:
    """Compare the board with that of the votes between models that are not retired."""
    votes = board.votes
    if given is not None:
        gone = np.array([given.get(name, False) for name in votes.models])
        found = "by the table of models"
    elif isinstance(moments, str):
        return f"no table of models says which are retired, and {moments}"
    else:
        gone, found = _silent(votes, moments), "by times: not shown since, where others were"
    names = [name for name, one in zip(votes.models, gone, strict=True) if one]
    if not names:
        return "no model is retired"
    null = "ratings are the same without the votes on retired models"
    keep = ~gone[votes.a] & ~gone[votes.b]
    if not keep.any():
        reason = "no votes are left without them"
        return Retired(null, found, names, None, False, None, 0, None, [], reason)
    left = votes.take(keep)
    counts = counts_of(left)
    part = components(counts, ties=board.solution.ties)
    told = graph(counts, left.models)
    moved = moved_by(board, keep)
    if (parts := int(part.max()) + 1) > 1 or moved is None:
        reason = f"without them {parts} groups of models have no votes between them"
        reason = reason if parts > 1 else "without them no rating is finite"
        return Retired(null, found, names, None, True, moved, parts, told, [], reason)
    after = board_of(left, board.solution.ties)
    rated = np.isin(votes.models, after.votes.models)
    shifted = _shifted(board, after, keep & rated[votes.a] & rated[votes.b])
    least = min(one.p_holm for one in shifted)
    return Retired(null, found, names, least, least <= ALPHA, moved, parts, told, shifted, None)


def _silent(votes: Votes, moments: Floats) -> NDArray[np.bool_]:
    """Models that would have been shown since, had they been at the rate of the time before [k]."""
    order = np.argsort(moments, kind="stable")
    until = np.empty(len(order))
    until[order] = np.cumsum(votes.count[order])
    k, total = len(votes.models), float(votes.count.sum())
    first, last = np.full(k, np.inf), np.zeros(k)
    for side in (votes.a, votes.b):
        np.minimum.at(first, side, until)
        np.maximum.at(last, side, until)
    shown = np.bincount(votes.a, votes.count, k) + np.bincount(votes.b, votes.count, k)
    rate = np.minimum(shown / np.maximum(last - first + 1, 1), 1 - 1e-9)
    return (total - last) * np.log1p(-rate) < np.log(_SILENT / k)


def _shifted(board: Board, after: Board, keep: NDArray[np.bool_]) -> list[Change]:
    """The models of both boards, and whether chance alone moves them so far."""
    place = {name: i for i, name in enumerate(board.votes.models)}
    rows = np.array([place[name] for name in after.votes.models])
    before = board.solution.strengths[rows]
    change = after.solution.strengths - (before - before.mean())
    error = _errors(board, after, rows, keep)
    codes = next(iter(board.units.values()), None)
    degrees = np.inf if codes is None else float(codes.max())
    told = [
        interval(float(c), max(float(e), 1e-12), degrees)
        for c, e in zip(change, error, strict=True)
    ]
    adjusted = holm([p for *_, p in told])
    return [
        Change(after.votes.models[i], *told[int(i)], float(adjusted[i]))
        for i in np.argsort([p for *_, p in told], kind="stable")
    ]


def _errors(board: Board, after: Board, rows: NDArray[np.intp], keep: NDArray[np.bool_]) -> Floats:
    """The standard error of each change: of what each vote, or each cluster, moves in both."""
    n, size, k = len(keep), len(board.bread), after.k
    codes = next(iter(board.units.values()), None)
    places, scores = np.zeros((3, n), np.intp), np.zeros((3, n))
    along, tied = after.scores
    for row, (of, score) in enumerate(((after.votes.a, along), (after.votes.b, -along), (k, tied))):
        places[row, keep], scores[row, keep] = of, score
    sides = len(after.bread) - k + 2
    columns = [*board.scored, *zip(places[:sides] + size, scores[:sides], strict=True)]
    meat = summed(columns, board.votes.count, codes, size + len(after.bread))
    then = board.bread[rows] - board.bread[rows].mean(0)
    both = np.hstack([-then, after.bread[:k]])
    return np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", both, meat, both), 0))
