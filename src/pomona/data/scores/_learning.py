"""In which order rows were learnt: their loss trajectories beside those of probes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError

_BLOCK = 1024


def learning_order(
    losses: NDArray[np.float64], probes: Mapping[str, ArrayLike], *, k: int = 20
) -> NDArray[np.str_]:
    """The kind of each row, `[n]`: that of most of its `k` nearest probes by Euclidean distance of
    loss trajectories.

    losses: float `[n, checkpoints]`, such as the logarithms of the `perplexity@MODEL` columns.
    probes: for each kind either rows of `losses` (integers `[m]`; a row is not its own neighbour)
        or trajectories (`[m, checkpoints]`). Give every kind as many, or the large ones win. Equal
        votes go to the kind that is nearer on average.
    Siddiqui et al. 2022 (arXiv 2209.10015), with typical, atypical, corrupted and random-label
    probes, 250 a kind; `k` = 20 is unconfirmed. Raises PomonaError when a loss is not finite, a
    probe does not fit, or there are too few probes.
    """
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 2:
        raise PomonaError(
            f"losses have the shape {losses.shape}",
            where="learning_order",
            remedy="rows are examples, columns checkpoints",
        )
    kinds = list(probes)
    points, codes, owners = _points(losses, probes)
    for name, values in (("row", losses), ("probe", points)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise PomonaError(
                "a loss is not finite",
                where=f"{name} {bad[0]}",
                remedy="drop the row or score it again",
            )
    if not 1 <= k <= len(points) - bool((owners >= 0).any()):
        raise PomonaError(
            f"k is {k} and there are {len(points)} probes",
            where="learning_order",
            remedy="give more probes or a smaller k",
        )
    found = np.empty(len(losses), np.int64)
    for start in range(0, len(losses), _BLOCK):
        block = losses[start : start + _BLOCK]
        distance = np.sqrt(((block[:, None] - points[None]) ** 2).sum(axis=-1))
        distance[owners[None] == np.arange(start, start + len(block))[:, None]] = np.inf
        near = np.argsort(distance, axis=1, kind="stable")[:, :k]
        found[start : start + _BLOCK] = _votes(
            np.take_along_axis(distance, near, axis=1), codes[near], len(kinds)
        )
    return np.array(kinds)[found]


def _points(
    losses: NDArray[np.float64], probes: Mapping[str, ArrayLike]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Trajectories of all probes `[p, checkpoints]`, the code of their kind `[p]`, and the row each
    is (-1 for none) `[p]`.
    """
    points, codes, owners = [], [], []
    for code, (kind, given) in enumerate(probes.items()):
        values = np.asarray(given)
        if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
            if len(values) and not (values.min() >= 0 and values.max() < len(losses)):
                raise PomonaError(
                    f"there are {len(losses)} rows",
                    where=f'probes "{kind}"',
                    remedy="give row numbers from 0",
                )
            rows, values = values.astype(np.int64), losses[values]
        else:
            rows = np.full(len(values), -1)
        if values.ndim != 2 or values.shape[1] != losses.shape[1]:
            message = f"a trajectory has the shape {values.shape[1:]}, not {losses.shape[1:]}"
            raise PomonaError(
                message,
                where=f'probes "{kind}"',
                remedy="give the loss at the same checkpoints, or row numbers",
            )
        points.append(values)
        codes.append(np.full(len(values), code))
        owners.append(rows)
    if not points:
        raise PomonaError(
            "there are no probes", where="learning_order", remedy="give some of each kind"
        )
    return np.concatenate(points).astype(np.float64), np.concatenate(codes), np.concatenate(owners)


def _votes(
    distance: NDArray[np.float64], codes: NDArray[np.int64], kinds: int
) -> NDArray[np.int64]:
    """The code with most votes of each row `[n]`, from distances and codes `[n, k]`; the smaller
    mean distance breaks ties.
    """
    mine = codes[:, :, None] == np.arange(kinds)
    votes = mine.sum(axis=1)
    mean = np.where(
        votes > 0, (distance[:, :, None] * mine).sum(axis=1) / np.maximum(votes, 1), np.inf
    )
    return np.where(votes == votes.max(axis=1, keepdims=True), mean, np.inf).argmin(axis=1)
