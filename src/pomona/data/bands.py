"""Keep the part of the data that teaches most: bands of a score, beside a random control of the
same size.

Marion et al. 2023 (arXiv 2309.04564), §3: `bottom` and `top` are the ends of the score, `middle`
the percentiles around the median. Which band helps depends on the corpus, so no band should be
believed without its random control.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, row_of

Band = Literal["bottom", "middle", "top", "random"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def select_band(
    scores: Floats,
    keep: float,
    band: Band,
    *,
    sizes: NDArray[Any] | None = None,
    seed: int = 0,
    groups: NDArray[Any] | None = None,
    within: bool = False,
    floor: int = 0,
) -> Ints:
    """Rows, ascending, of the band that holds the share `keep` of the total size. `scores`, `sizes`
    and `groups` are `[n]`.

    `sizes` (tokens or bytes of each row; default 1) makes every band, the random one too, as large
    as the others in that unit: all have the same number of rows when each counts 1, and else differ
    by less than a row (in each group, with `within`). `within` takes the band of every group by
    itself. Of each of `groups` at least `floor` rows stay (all where there are fewer): those that
    the band would take last are given up for them. Equal scores are told apart by their order.
    Raises PomonaError for a share outside (0, 1], an unknown band, and a score that is not finite,
    naming the row.
    """
    check_band(keep, band, floor)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise PomonaError(
            f"the score {scores[bad[0]]} is not finite",
            where=row_of("the scores", int(bad[0])),
            remedy="drop the row or score it again",
        )
    if (within or floor) and groups is None:
        raise PomonaError(
            "a floor, or a band within groups, needs groups",
            where="groups",
            remedy="give the group of each row",
        )
    n = len(scores)
    weight = np.ones(n) if sizes is None else np.asarray(sizes, np.float64)
    ranks = np.argsort(
        np.random.default_rng(seed).permutation(n)
        if band == "random"
        else np.argsort(scores, kind="stable")
    )
    codes = np.zeros(n, np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    parts = by_group(codes) if within else [np.arange(n)]
    chosen = [
        part[_take(ranks[part], weight[part], codes[part], keep, band, floor)] for part in parts
    ]
    return np.sort(np.concatenate(chosen))


def by_group(codes: Ints) -> list[Ints]:
    """The rows of each group, ascending; `codes` are `[n]`."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _take(ranks: Ints, sizes: Floats, codes: Ints, keep: float, band: Band, floor: int) -> Ints:
    """The rows of a band, first come first: those nearest its heart, after the ones a floor
    protects, until the share is full.
    """
    order = np.argsort(ranks, kind="stable")
    total = sizes.sum()
    if band == "top":
        order = order[::-1]
    elif band == "middle":
        place = np.cumsum(sizes[order]) - sizes[order] / 2
        order = order[np.argsort(np.abs(place - total / 2), kind="stable")]
    protected = 0
    if floor:
        safe = _place_in_group(codes[order]) < floor
        order, protected = np.concatenate([order[safe], order[~safe]]), int(safe.sum())
    half = np.cumsum(sizes[order]) - sizes[order] / 2
    return order[: max(protected, int(np.searchsorted(half, keep * total, "right")))]


def _place_in_group(codes: Ints) -> Ints:
    """How many rows of the same group come before each, `[n]`."""
    order = np.argsort(codes, kind="stable")
    begins = np.append(0, np.flatnonzero(np.diff(codes[order])) + 1)
    places = np.empty(len(codes), np.int64)
    places[order] = np.arange(len(codes)) - np.repeat(
        begins, np.diff(np.append(begins, len(codes)))
    )
    return places


def check_band(keep: float, band: str, floor: int) -> None:
    """Raise PomonaError for a share outside (0, 1], an unknown band, or a floor below 0."""
    if not 0 < keep <= 1:
        raise PomonaError(
            f"{keep} is not a share between 0 and 1", where="keep", remedy="use 0.3 to keep 30 %"
        )
    if band not in get_args(Band):
        raise PomonaError(
            f'there is no band "{band}"',
            where="band",
            remedy=f"use one of: {', '.join(get_args(Band))}",
        )
    if floor < 0:
        raise PomonaError(
            f"{floor} is not a number of rows", where="floor", remedy="use 0 or more rows per group"
        )
