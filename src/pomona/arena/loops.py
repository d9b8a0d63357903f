"""Compiled loops over votes, clusters of them, and all resamples of a pair at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.native import Family

_TABLE = 4096  # models of which a table holds all pairs
FAMILY = Family(
    "votes",
    "pomona.arena",
    ("loops",),
    {
        "mark": ("loops", "i4[::1] i4[::1] i8 i4[::1]"),
        "count": (
            "loops",
            "i4[::1] i4[::1] i1[::1] i8[::1] i8 i4[::1] i8[::1] f8[::1]",
        ),
        "group": ("loops", "i8[::1] i8[::1] i8[::1]"),
        "survey": ("loops", "i8[::1] i8[::1] i4[:,::1]"),
        "arrange": ("loops", "i8[::1] i8[::1] f8[::1] i8[::1] i4[::1] f8[::1]"),
        "multiply": (
            "loops",
            "i8[::1] i4[::1] f8[::1] f8[:,::1] i8[::1] i8[::1] f8[::1] f8 f8[:,::1]",
        ),
        "spread": (
            "loops",
            "i8[::1] i4[::1] f8[::1] f8[:,::1] i8[::1] i8[::1] f8[::1] f8"
            " i8[:,::1] f8[:,::1] f8[:,::1] f8[:,::1]",
        ),
        "resample": ("loops", "u8[::1] u2[::1] u2[::1] i8[::1] i4[::1] f8[::1] i4[:,::1]"),
        "votes_of": ("loops", "i8[::1] i8[::1] i4[:,:,::1] f8[:,::1]"),
        "gradients": (
            "loops",
            "i8[::1] i8[::1] i4[:,:,::1] f8[:,::1] f8[:,::1] f8[::1] i8 f8[:,::1] f8[::1]",
        ),
    },
)


def mark(a: Any, b: Any, models: int, there: Any) -> int:
    """Make 1 of `there` [models²] what is the pair of a row: the lower index times `models` plus
    the higher.
    """
    for row in range(a.size):
        one, other = np.int64(a[row]), np.int64(b[row])
        there[min(one, other) * models + max(one, other)] = 1
    return 0


def count(
    a: Any, b: Any, outcome: Any, votes: Any, models: int, number: Any, place: Any, total: Any
) -> int:
    """The cell of each row to `place`, its pair (`number`, laid out as `there` of `mark`) times
    three plus the outcome as the pair has it; and the votes of each cell added to `total`.
    """
    for row in range(a.size):
        one, other, said = np.int64(a[row]), np.int64(b[row]), min(np.int64(outcome[row]), 2)
        if one > other:
            one, other = other, one
            said = said if said == 2 else 1 - said
        cell = np.int64(number[one * models + other]) * 3 + said
        place[row] = cell
        total[cell] += votes[row]
    return 0


def cells_of(a: Any, b: Any, outcome: Any, votes: Any, models: int) -> tuple[Any, Any, Any, Any]:
    """The cell of each row [n], int64; the two models of each pair [p], the lower index first; and
    the votes of each cell [3 p], float64. See `count`.
    """
    a, b = np.ascontiguousarray(a, np.int32), np.ascontiguousarray(b, np.int32)
    if models > _TABLE:
        turned = a > b
        key = np.where(turned, b, a).astype(np.int64) * models + np.where(turned, a, b)
        there, pair = np.unique(key, return_inverse=True)
        said = np.minimum(outcome, 2)
        place = pair * 3 + np.where(turned & (said < 2), 1 - said, said)
        total = np.bincount(place, votes, 3 * len(there)).astype(np.float64)
        return place, there // models, there % models, total
    number = np.zeros(models * models, np.int32)
    FAMILY.loop("mark")(a, b, models, number)
    there = np.flatnonzero(number)
    number[there] = np.arange(len(there))
    place, total = np.empty(len(a), np.int64), np.zeros(3 * len(there))
    outcome, votes = np.ascontiguousarray(outcome, np.int8), np.ascontiguousarray(votes, np.int64)
    FAMILY.loop("count")(a, b, outcome, votes, models, number, place, total)
    return place, there // models, there % models, total


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


def survey(codes: Any, place: Any, found: Any) -> int:
    """How many rows each cluster has, and the place of one of them, to `found` [clusters, 2], zeros
    before. Gives back how many rows have none.
    """
    none = 0
    for row in range(codes.size):
        code = codes[row]
        if code < 0:
            none += 1
        else:
            found[code, 0] += 1
            found[code, 1] = place[row]
    return none


def arrange(codes: Any, place: Any, votes: Any, begin: Any, placed: Any, counted: Any) -> int:
    """The places and votes of rows by their clusters to `placed` and, unless it is empty,
    `counted`: those of none first, those of the others from `begin` on, which becomes their end.
    """
    first = 0
    for row in range(codes.size):
        code = codes[row]
        if code < 0:
            at = first
            first += 1
        else:
            at = begin[code]
            begin[code] += 1
        placed[at] = place[row]
        if counted.size > 0:
            counted[at] = votes[row]
    return 0


def multiply(
    starts: Any,
    place: Any,
    votes: Any,
    values: Any,
    first: Any,
    second: Any,
    diagonal: Any,
    least: float,
    into: Any,
) -> int:
    """Add to `into` [pairs, 8] the products of the scores of clusters, whose rows lie between two
    starts: of the two models, of the first's with itself, of the second's, of each with that of
    ties, of that with itself; and their information and its squares. Gives back 1 as soon as a
    cluster has votes on two pairs. `votes` are empty where each row is one.

    values: [cells, 4] score, information, score by the parameter of ties, information on it.
    diagonal: all information on each model and on the parameter of ties, infinite where scores are
        to stay as they are; `least` of 1 less a cluster's share is left.
    """
    last = diagonal.size - 1
    for cluster in range(starts.size - 1):
        begin, end = starts[cluster], starts[cluster + 1]
        if begin == end:
            continue
        pair = place[begin] // 3
        score, held, by_tie, on_tie = 0.0, 0.0, 0.0, 0.0
        for row in range(begin, end):
            cell, times = place[row], votes[row] if votes.size > 0 else 1.0
            if cell // 3 != pair:
                return 1
            score += times * values[cell, 0]
            held += times * values[cell, 1]
            by_tie += times * values[cell, 2]
            on_tie += times * values[cell, 3]
        up = score / max(1 - held / diagonal[first[pair]], least)
        down = score / max(1 - held / diagonal[second[pair]], least)
        tied = by_tie / max(1 - on_tie / diagonal[last], least)
        into[pair, 0] += up * down
        into[pair, 1] += up * up
        into[pair, 2] += down * down
        into[pair, 3] += up * tied
        into[pair, 4] += down * tied
        into[pair, 5] += tied * tied
        into[pair, 6] += held
        into[pair, 7] += held * held
    return 0


def spread(
    starts: Any,
    place: Any,
    votes: Any,
    values: Any,
    first: Any,
    second: Any,
    diagonal: Any,
    least: float,
    seen: Any,
    work: Any,
    meat: Any,
    held: Any,
) -> int:
    """As `multiply`, of clusters with votes on any pairs: add to `meat` [models (+ 1 for ties)]²
    each product of two scores in one of both places, and to `held` [models, 2] their information
    and its squares.

    seen: [2, models + 1], -1 in the first row: memory.
    work: [3, models + 1], memory.
    """
    models = diagonal.size - 1
    for cluster in range(starts.size - 1):
        many, by_tie, on_tie = 0, 0.0, 0.0
        for row in range(starts[cluster], starts[cluster + 1]):
            cell, times = place[row], votes[row] if votes.size > 0 else 1.0
            score, information = times * values[cell, 0], times * values[cell, 1]
            by_tie += times * values[cell, 2]
            on_tie += times * values[cell, 3]
            for side in range(2):
                model = second[cell // 3] if side else first[cell // 3]
                if seen[0, model] != cluster:
                    seen[0, model] = cluster
                    seen[1, many] = model
                    many += 1
                    work[0, model] = 0.0
                    work[1, model] = 0.0
                work[0, model] += -score if side else score
                work[1, model] += information
        for one in range(many):
            model = seen[1, one]
            information = work[1, model]
            held[model, 0] += information
            held[model, 1] += information * information
            work[2, one] = work[0, model] / max(1 - information / diagonal[model], least)
        if meat.shape[0] > models:
            seen[1, many] = models
            work[2, many] = by_tie / max(1 - on_tie / diagonal[models], least)
            many += 1
        for one in range(many):
            for other in range(one, many):
                meat[seen[1, one], seen[1, other]] += work[2, one] * work[2, other]
    return 0


def resample(
    state: Any, halves: Any, weight: Any, starts: Any, cell: Any, count: Any, into: Any
) -> int:
    """Add to `into` [cells, lanes] the votes of each cluster, whose rows lie between two starts,
    times a Poisson weight for each lane. `count` is empty where each row is one vote.

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
            w = np.uint16(u >= 24109) + np.uint16(u >= 48218) + np.uint16(u >= 60273)
            w += np.uint16(u >= 64291) + np.uint16(u >= 65296) + np.uint16(u >= 65497)
            weight[lane] = w + np.uint16(u >= 65531)
        for row in range(starts[cluster], starts[cluster + 1]):
            place, times = cell[row], np.int32(count[row] if count.size > 0 else 1)
            for lane in range(lanes):
                into[place, lane] += np.int32(weight[lane]) * times
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
