"""One ranking out of several."""

from __future__ import annotations

from collections.abc import Sequence

_K = 60


def fused(rankings: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """(item, score) best first: the sum of 1 / (60 + rank) over the rankings it is in, rank from 1;
    of equals the smaller item first.

    Cormack, Clarke & Büttcher 2009, "Reciprocal rank fusion", section 2.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (_K + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
