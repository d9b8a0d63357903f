"""The best of n variants is rated too high: by how much, and what its rating is without that.

Of n equally good models the one that happens to be rated highest is published. Singh et al. 2025,
"The Leaderboard Illusion" (arXiv 2504.20879, section 3), found up to 27 variants tried in private.
Where all variants have votes, their spread beyond chance says how good they are, and draws from
that how much the best of them is overrated on average (shrunk as by James & Stein 1961); the
interval is that of a winner (Andrews, Kitagawa & McCloskey 2024, "Inference on winners": their
hybrid one). Where only their number is known, what equally good ones would gain is a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist

import numpy as np

from pomona.arena.auditing.board import ALPHA, Board, Floats
from pomona.arena.models import Known, grouped
from pomona.arena.ratings.bradley_terry import ELO, MEAN
from pomona.stats import holm

_BETA = 0.005  # of the 5 %, spent on an interval that holds whoever wins (section 5.3 there)
_DRAWS = 20_000
_FEWEST = 2
_Z = NormalDist().inv_cdf(1 - ALPHA / 2)


@dataclass(frozen=True)
class Winner:
    """The best of a family of variants, in Elo.

    n: variants, of which `rated` are on the board.
    rating, low, high: as the board has it, with its 95 % interval.
    bias: what the winner's rating owes to the choice on average; where some variants have no votes
        (`bound`), what the best of n equally good ones owes to it, which is more.
    corrected: without it; corrected_low, corrected_high: the 95 % interval given that it won. None
        where some variants have no votes.
    runner_up: the second best; lead: over it; p_value: that the winner is not better than that, and
        so than all (Hung & Fithian 2019: the two-sided p-value of winner and runner-up, whatever
        was chosen); p_holm: corrected for the number of families.
    """

    family: str
    model: str
    n: int
    rated: int
    rating: float
    low: float
    high: float
    bias: float
    bound: bool
    corrected: float | None = None
    corrected_low: float | None = None
    corrected_high: float | None = None
    runner_up: str | None = None
    lead: float | None = None
    p_value: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Winners:
    """The best of each family, those that owe most to the choice first.

    by: what makes a family: a column of the table of models.
    """

    null: str
    by: str
    p_value: float | None
    supported: int
    winners: list[Winner]


def winners(board: Board, known: Known, seed: int) -> Winners | str:
    """The best of each family's variants, or where no families are known of each organisation's
    models.
    """
    submitted = known.submitted or {}
    of, by = known.family, "family"
    if of is None:
        of, by = known.organisation, "organisation"
    if of is None and not submitted:
        return "no table of models names families, organisations or numbers of variants"
    names = board.votes.models
    families = {
        family: rows for family, rows in grouped(of or {}, names).items() if len(rows) >= _FEWEST
    }
    if board.errors is None:
        return "there are too few votes for errors"
    covariance = board.errors.covariance[: board.k, : board.k]
    told = [
        _winner(board, covariance, family, rows, submitted, seed)
        for family, rows in families.items()
    ]
    inside = {row for rows in families.values() for row in rows}
    told += [
        _bound(board, covariance, place, submitted[name])
        for place, name in enumerate(names)
        if place not in inside and submitted.get(name, 1) >= _FEWEST
    ]
    if not told:
        return f"no {by} has two models with a rating, and no model was tried in variants"
    tested = [place for place, one in enumerate(told) if one.p_value is not None]
    adjusted = holm([told[place].p_value or 0.0 for place in tested])
    for place, p in zip(tested, adjusted.tolist(), strict=True):
        told[place] = replace(told[place], p_holm=p)
    least = min((one.p_holm for one in told if one.p_holm is not None), default=None)
    supported = sum(one.p_holm is not None and one.p_holm <= ALPHA for one in told)
    null = "the best variant is not better than the second best"
    return Winners(null, by, least, supported, sorted(told, key=lambda one: -one.bias))


def _winner(
    board: Board,
    covariance: Floats,
    family: str,
    rows: Sequence[int],
    submitted: dict[str, int],
    seed: int,
) -> Winner:
    names = board.votes.models
    ratings = board.solution.strengths[list(rows)]
    order = np.argsort(-ratings, kind="stable")
    chosen = [rows[place] for place in order]
    best, second = chosen[0], chosen[1]
    shared = covariance[np.ix_(chosen, chosen)]
    error = float(shared[0, 0] ** 0.5)
    lead = board.difference(best, second)
    rating = float(ratings[order[0]])
    n = max(len(rows), *(submitted.get(names[row], 1) for row in rows))
    bound = n > len(rows)  # what the others were rated is not known
    draws = _draws(shared, seed)
    bias = best_of_normal(n) * error if bound else overrated(ratings[order], shared, draws)
    low, high = (None, None) if bound else given_won(ratings[order], shared, draws)
    return Winner(
        family=family,
        model=names[best],
        n=n,
        rated=len(rows),
        rating=_points(rating),
        low=_points(rating - _Z * error),
        high=_points(rating + _Z * error),
        corrected=None if bound else _points(rating - bias),
        corrected_low=None if low is None else _points(low),
        corrected_high=None if high is None else _points(high),
        bias=bias * ELO,
        bound=bound,
        runner_up=names[second],
        lead=lead.elo,
        p_value=lead.p_value,
    )


def _bound(board: Board, covariance: Floats, place: int, n: int) -> Winner:
    rating, error = float(board.solution.strengths[place]), float(covariance[place, place] ** 0.5)
    name = board.votes.models[place]
    return Winner(
        family=name,
        model=name,
        n=n,
        rated=1,
        rating=_points(rating),
        low=_points(rating - _Z * error),
        high=_points(rating + _Z * error),
        bias=best_of_normal(n) * error * ELO,
        bound=True,
    )


def _points(strength: float) -> float:
    return float(strength * ELO + MEAN)


@cache
def best_of_normal(n: int) -> float:
    """The mean of the largest of n standard normal numbers: 2.00 of 27."""
    x = np.linspace(-9, 9, 20_001)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    below = np.cumsum(density) * (x[1] - x[0])
    return float(np.sum(x * n * density * np.minimum(below, 1) ** (n - 1)) * (x[1] - x[0]))


def _draws(covariance: Floats, seed: int) -> Floats:
    """Errors of ratings with a covariance [n, n], [draws, n]."""
    values, vectors = np.linalg.eigh(covariance)
    made = np.random.default_rng(seed).standard_normal((_DRAWS, len(values)))
    return made * np.sqrt(np.maximum(values, 0)) @ vectors.T


def overrated(ratings: Floats, covariance: Floats, draws: Floats) -> float:
    """By how much the best of variants with `ratings` [n] is overrated on average, where they are
    as good as their spread beyond chance says.
    """
    n = len(ratings)
    about = np.eye(n) - 1 / n
    chance = float(np.trace(about @ covariance @ about)) / (n - 1)
    spread = max(0.0, float(ratings.var(ddof=1)) - chance)
    kept = spread / (spread + chance) if spread + chance > 0 else 0.0
    best = np.argmax(kept * ratings + draws, 1)
    return float(draws[np.arange(len(draws)), best].mean())


def given_won(ratings: Floats, covariance: Floats, draws: Floats) -> tuple[float, float]:
    """The 95 % interval of the best's rating, given that it is the best of `ratings` [n], best
    first.
    """
    error = float(np.sqrt(covariance[0, 0]))
    along = covariance[:, 0] / covariance[0, 0]
    rest = ratings - along * ratings[0]  # independent of the winner's rating
    gaps = 1 - along[1:]
    ends = rest[1:] / np.where(np.abs(gaps) > 1e-9, gaps, np.inf)
    low = float(np.max(ends[gaps > 1e-9], initial=-np.inf))
    high = float(np.min(ends[gaps < -1e-9], initial=np.inf))
    # Whoever wins is nearly always within so many errors: no mean further off is looked at
    largest = np.abs(draws / np.sqrt(np.diag(covariance))).max(1)
    wide = error * float(np.quantile(largest, 1 - _BETA))
    level = (ALPHA - _BETA) / (1 - _BETA)

    def below(mean: float) -> float:
        """P of a smaller rating, given that it won and that the mean is that."""
        start, end = max(low, mean - wide), min(high, mean + wide)
        return _truncated((ratings[0] - mean) / error, (start - mean) / error, (end - mean) / error)

    reach = (ratings[0] - wide, ratings[0] + wide)
    return _root(below, 1 - level / 2, *reach), _root(below, level / 2, *reach)


def _truncated(x: float, low: float, high: float) -> float:
    """The distribution of a standard normal number between two ends, at x."""
    from scipy.special import log_ndtr

    if x <= low:
        return 0.0
    if x >= high:
        return 1.0
    if low > 0:  # in the tail that has digits
        return 1 - _truncated(-x, -high, -low)
    top, bottom, at = (float(log_ndtr(one)) for one in (high, low, x))
    if top == bottom:
        return float((x - low) / (high - low))
    return float(-np.expm1(bottom - at) * np.exp(at - top) / -np.expm1(bottom - top))


def _root(below: Callable[[float], float], share: float, low: float, high: float) -> float:
    """The mean at which P falls to a share, which falls as the mean grows."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) > share else (low, middle)
    return (low + high) / 2
