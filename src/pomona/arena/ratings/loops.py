"""Compiled loops of the bootstrap: all resamples of a cluster, or of a pair, at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.native import Family

FAMILY = Family(
    "resampled votes",
    "pomona.arena.ratings",
    ("loops",),
    {
        "group": ("loops", "i8[::1] i8[::1] i8[::1]"),
        "sum_clusters": ("loops", "i8[::1] i8[::1] f8[::1] f8[:,::1] f8[:,::1] i8[::1]"),
        "multiply": ("loops", "f8[:,::1] i8[::1] i8[::1] i8[::1] f8[::1] f8 f8[:,::1]"),
        "resample": ("loops", "u8[::1] u2[::1] i4[::1] i8[::1] i4[::1] i4[::1] i4[:,::1]"),
        "votes_of": ("loops", "i8[::1] i8[::1] i4[:,:,::1] f8[:,::1]"),
        "gradients": (
            "loops",
            "i8[::1] i8[::1] i4[:,:,::1] f8[:,::1] f8[:,::1] f8[::1] i8 f8[:,::1] f8[::1]",
        ),
    },
)


def group(codes: Any, starts: Any, order: Any) -> int:
    """Rows by their codes to `order`, -1 (none) first, rows of a code as they stood. Of `starts`,
    zeros for the largest code and three more, entry c becomes where code c begins, and the one
    after the last where all end.
    """
    for row in range(codes.size):
        starts[codes[row] + 2] += 1
    for code in range(2, starts.size):
        starts[code] += starts[code - 1]
    for row in range(codes.size):
        code = codes[row] + 1
        order[starts[code]] = row
        starts[code] += 1
    return 0


def sum_clusters(codes: Any, place: Any, count: Any, values: Any, into: Any, home: Any) -> int:
    """Add to `into` [clusters, 4] the values [cells, 4] of the rows that have a cluster. Gives back
    how many of them lie on another pair than the first of their cluster, which is kept in `home`,
    -1 before.
    """
    elsewhere = 0
    for row in range(codes.size):
        cluster, cell = codes[row], place[row]
        if cluster < 0:
            continue
        if home[cluster] < 0:
            home[cluster] = cell // 3
        elsewhere += home[cluster] != cell // 3
        for kind in range(4):
            into[cluster, kind] += count[row] * values[cell, kind]
    return elsewhere


def multiply(
    sums: Any, home: Any, first: Any, second: Any, diagonal: Any, least: float, into: Any
) -> int:
    """Add to `into` [pairs, 8] the products of the clusters' scores: of the two models, of the
    first's with itself, of the second's, of each with that of ties, of that with itself; and their
    information and its squares.

    sums: [clusters, 4] score, information, score by the parameter of ties, information on it.
    diagonal: all information on each model and on the parameter of ties, infinite where scores are
        to stay as they are; `least` of 1 less a cluster's share is left.
    """
    last = diagonal.size - 1
    for cluster in range(home.size):
        pair = home[cluster]
        score, held = sums[cluster, 0], sums[cluster, 1]
        up = score / max(1 - held / diagonal[first[pair]], least)
        down = score / max(1 - held / diagonal[second[pair]], least)
        tied = sums[cluster, 2] / max(1 - sums[cluster, 3] / diagonal[last], least)
        into[pair, 0] += up * down
        into[pair, 1] += up * up
        into[pair, 2] += down * down
        into[pair, 3] += up * tied
        into[pair, 4] += down * tied
        into[pair, 5] += tied * tied
        into[pair, 6] += held
        into[pair, 7] += held * held
    return 0


def resample(
    state: Any, halves: Any, weight: Any, starts: Any, cell: Any, count: Any, into: Any
) -> int:
    """Add to `into` [cells, lanes] the votes of each cluster, whose rows lie between two starts,
    times a Poisson weight for each lane.

    state: one 64-bit generator (xorshift, Marsaglia 2003) for four lanes; `halves` is the same
        memory by 16 bits.
    weight: memory, one a lane.
    """
    lanes = into.shape[1]
    for cluster in range(starts.size - 1):
        for lane in range(state.size):
            x = state[lane]
            x ^= x << np.uint64(13)
            x ^= x >> np.uint64(7)
            x ^= x << np.uint64(17)
            state[lane] = x
        for lane in range(lanes):  # how many of the shares of 0, 1, 2, ... votes it has passed
            u = halves[lane]
            w = np.uint8(u >= 24109) + np.uint8(u >= 48218) + np.uint8(u >= 60273)
            w += np.uint8(u >= 64291) + np.uint8(u >= 65296) + np.uint8(u >= 65497)
            weight[lane] = w + np.uint8(u >= 65531)
        for row in range(starts[cluster], starts[cluster + 1]):
            place, times = cell[row], count[row]
            for lane in range(lanes):
                into[place, lane] += weight[lane] * times
    return 0


def votes_of(first: Any, second: Any, counts: Any, into: Any) -> int:
    """Add each lane's votes [pairs, 3, lanes] of each model, and all, to `into` [models + 1,
    lanes].
    """
    last = into.shape[0] - 1
    for pair in range(first.size):
        i, j = first[pair], second[pair]
        for lane in range(into.shape[1]):
            votes = np.float64(
                counts[pair, 0, lane] + counts[pair, 1, lane] + counts[pair, 2, lane]
            )
            into[i, lane] += votes
            into[j, lane] += votes
            into[last, lane] += votes
    return 0


def gradients(
    first: Any,
    second: Any,
    counts: Any,
    up: Any,
    down: Any,
    tie: Any,
    kind: int,
    by_model: Any,
    by_tie: Any,
) -> int:
    """Add to `by_model` [models, lanes] and `by_tie` [lanes] the derivatives of each lane's
    log-likelihood.

    counts: [pairs, 3, lanes]; `up`, `down`: exp of plus and of minus half the strengths.
    kind: 0 for ties as halves, 1 Davidson, 2 Rao-Kupper; `tie`: nu or eta of each lane.
    """
    lanes = tie.size
    for pair in range(first.size):
        i, j = first[pair], second[pair]
        for lane in range(lanes):
            won = np.float64(counts[pair, 0, lane])
            lost = np.float64(counts[pair, 1, lane])
            tied = np.float64(counts[pair, 2, lane])
            x, y = up[i, lane] * down[j, lane], up[j, lane] * down[i, lane]
            if kind < 2:
                nu = tie[lane] * kind
                share = (won + lost + tied) / (x + y + nu)
                along = 0.5 * ((won - lost) - share * (x - y))
                across = tied - share * nu
            else:
                eta = tie[lane]
                p, q = x / (x + eta * y), y / (y + eta * x)
                along = won - lost - (won + tied) * p + (lost + tied) * q
                across = (won + tied) * p + (lost + tied) * q - won - lost
                across += tied * 2 / (eta * eta - 1)
            by_model[i, lane] += along
            by_model[j, lane] -= along
            by_tie[lane] += across
    return 0
