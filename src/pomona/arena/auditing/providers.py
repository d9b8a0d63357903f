"""Whether some providers' models are shown more often than others'.

Singh et al. 2025, "The Leaderboard Illusion" (arXiv 2504.20879, section 4): a provider whose models
are shown more has more data to tune on. What varies by chance is which models a provider has, not
votes, of which there are so many that any difference would be significant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.arena.auditing.board import ALPHA, Floats
from pomona.arena.models import grouped
from pomona.arena.votes import Votes
from pomona.stats import holm

PERMUTATIONS = 9999
_MEMORY = 4_000_000  # numbers that are drawn at once


@dataclass(frozen=True)
class Provider:
    """How often a provider's models are shown.

    share_models, share_shown: of the models, and of what was shown (two models a vote).
    ratio: how many times as often as the average model its models are shown, while each was there.
    p_value: of a ratio as far from 1 where models are given to providers by chance (two-sided);
        p_holm: corrected for the number of providers.
    """

    provider: str
    models: int
    shown: int
    share_models: float
    share_shown: float
    ratio: float
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class Providers:
    """All providers, those shown most for their models first.

    rate: what `ratio` is of: votes of a model, or votes for each vote on the board while it was
        there, where the votes have times.
    unknown: models without a provider, which are left out.
    """

    null: str
    rate: str
    p_value: float
    alarm: bool
    providers: list[Provider]
    unknown: int


def providers(
    votes: Votes, of: dict[str, str] | None, moments: Floats | str, seed: int
) -> Providers | str:
    """Test each provider's rate against other choices of as many models."""
    if of is None:
        return "no table of models names organisations, and the votes do not"
    shown = np.bincount(votes.a, votes.count, len(votes.models))
    shown += np.bincount(votes.b, votes.count, len(votes.models))
    known = np.array([name in of for name in votes.models])
    groups = grouped(of, [name for name in votes.models if name in of])
    if len(groups) < 2:
        return "all models are of one organisation"
    rate, told = shown, "votes of a model"
    if not isinstance(moments, str):
        rate = shown / _while_there(votes, moments)
        told = "votes of a model for each vote on the board between its first and its last"
    relative = rate[known] / rate[known].mean()
    members = list(groups.values())
    p = _p_values(relative, members, seed)
    adjusted, total = holm(p), float(shown[known].sum())
    rows = [
        Provider(
            name,
            len(rows),
            int(shown[known][rows].sum()),
            len(rows) / int(known.sum()),
            float(shown[known][rows].sum() / total),
            float(relative[rows].mean()),
            float(p[place]),
            float(adjusted[place]),
        )
        for place, (name, rows) in enumerate(groups.items())
    ]
    least = float(adjusted.min())
    null = "a provider's models are shown as often as as many models taken by chance"
    order = sorted(rows, key=lambda one: -one.ratio)
    return Providers(null, told, least, least <= ALPHA, order, int((~known).sum()))


def _while_there(votes: Votes, moments: Floats) -> Floats:
    """Votes on the board between each model's first and last vote, both included [k]."""
    order = np.argsort(moments, kind="stable")
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    until = np.append(0, np.cumsum(votes.count[order]))
    first = np.full(len(votes.models), len(order))
    last = np.zeros(len(votes.models), np.intp)
    for side in (votes.a, votes.b):
        np.minimum.at(first, side, place)
        np.maximum.at(last, side, place)
    return (until[last + 1] - until[first]).astype(np.float64)


def _p_values(rates: Floats, members: list[list[int]], seed: int) -> NDArray[np.float64]:
    """Two-sided p-values of mean log rates among choices of as many models: twice the smaller of
    both sides, each of which counts what was found itself (Phipson & Smyth 2010).

    One shuffle serves all sizes, since its first m models are a choice of m.
    """
    rng = np.random.default_rng(seed)
    logs = np.log(np.maximum(rates, 1e-12))
    sizes = np.array([len(one) for one in members])
    found = np.array([logs[one].sum() for one in members])
    above, below = np.ones(len(members)), np.ones(len(members))
    at_once = max(1, _MEMORY // len(logs))
    for start in range(0, PERMUTATIONS, at_once):
        draws = min(at_once, PERMUTATIONS - start)
        sums = np.cumsum(rng.permuted(np.tile(logs, (draws, 1)), axis=1), axis=1)[:, sizes - 1]
        above += (sums >= found - 1e-9).sum(0)
        below += (sums <= found + 1e-9).sum(0)
    return np.minimum(1.0, 2 * np.minimum(above, below) / (PERMUTATIONS + 1))
