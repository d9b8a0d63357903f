"""What policies are worth beside each other, by a judge that no policy chose by, and at what
cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pomona.errors import PomonaError, nearest
from pomona.stats import Resamples, compare, holm, interval, percentiles, rows_of
from pomona.synth.routing.policies import Policy, Single
from pomona.synth.routing.pool import Pool, Routed
from pomona.synth.routing.results import EVERY, Above, Costs, GainShare, Routes, Standing
from pomona.tasks import Metric, metric as metric_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judging:
    """How policies are compared. judge: a metric against the rows' references. single, fixed: names
    of the policies that the others are compared with, and `reward` that whose gain over `single`
    is shared out; None leaves it out.
    """

    judge: str | Metric = "chrf"
    single: str | None = None
    fixed: str | None = "fixed"
    reward: str | None = "reward"
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0


def compare_policies(
    pool: Pool,
    policies: Sequence[Policy],
    rewards: ArrayLike,
    *,
    judging: Judging | None = None,
    groups: Mapping[str, Sequence[bool] | NDArray[np.bool_]] | None = None,
    costs: Mapping[str, ArrayLike] | None = None,
) -> Routes:
    """The judge's value of what each policy keeps, with intervals over the rows' clusters.

    A row without an answer counts as an empty answer, and several that are kept as their mean.
    P-values of the differences within a group are corrected together (Holm). Shares of the gain are
    those of policies that pay for one answer to a row, and do not always ask the same teacher.

    Args:
        pool: Answers to test rows, all with a reference. Nothing was learned from their sources.
        policies: What is compared; names differ.
        rewards: What policies keep by, of the candidates `[c]`, NaN where unknown.
        judging: By which judge, and against what.
        groups: Further parts of the rows, `[n]` each, beside all rows and each language.
        costs: Of each candidate `[c]`, by name, NaN where unknown; a sum with an unknown is None.

    Raises:
        PomonaError: a row has no reference, two policies have one name, or no policy has the name
            that others are to be compared with.
    """
    judging = judging or Judging()
    judge = metric_of(judging.judge) if isinstance(judging.judge, str) else judging.judge
    named = _named(policies, judging)
    routed = {name: pool.route(policy, rewards) for name, policy in named.items()}
    worth = _Judged(pool, judge)
    statistics = {name: worth.of(one) for name, one in routed.items()}
    parts = {EVERY: np.ones(len(pool.rows), bool)}
    for lang, rows in rows_of([row.lang for row in pool.rows]).items():
        parts[lang] = np.isin(np.arange(len(pool.rows)), rows)
    parts |= {name: np.asarray(mask, bool) for name, mask in (groups or {}).items()}
    clusters = np.array([row.cluster or row.text for row in pool.rows], dtype=object)
    sharing = [one.name for one in policies if one.keep == "first" and not isinstance(one, Single)]
    told, shares = [], []
    for group, mask in parts.items():
        if not mask.any():
            continue
        draws = Resamples(int(mask.sum()), judging.resamples, judging.seed, clusters=clusters[mask])
        own = {name: each[mask] for name, each in statistics.items()}
        kept = {name: _part(one, mask) for name, one in routed.items()}
        standings = [
            _standing(name, group, judge, each, draws, judging, _costs(kept[name], costs or {}))
            for name, each in own.items()
        ]
        told += _above(standings, judge, own, draws, judging)
        shares += _shares(group, judge, own, draws, judging, sharing)
    return Routes(
        tuple(told), tuple(shares), judge.name, judge.signature,
        judging.level, judging.resamples, judging.seed,
    )  # fmt: skip


class _Judged:
    """The judge's statistics of candidates, and of rows by what is kept."""

    def __init__(self, pool: Pool, judge: Metric) -> None:
        for row in pool.rows:
            if row.reference is None:
                remedy = "judge rows that humans answered"
                raise PomonaError("has no reference", where=f'row "{row.id}"', remedy=remedy)
        references = [row.reference or "" for row in pool.rows]
        of = [one.row.reference or "" for one in pool.candidates]
        self._each = judge.statistics([one.lesson.text for one in pool.candidates], of)
        self._empty = judge.statistics([""] * len(references), references)

    def of(self, routed: Routed) -> Floats:
        """Statistics of rows `[n, k]`."""
        told = self._empty.astype(np.float64).copy()
        for row, kept in enumerate(routed.kept):
            if kept:
                told[row] = self._each[list(kept)].mean(0)
        return told


def _named(policies: Sequence[Policy], judging: Judging) -> dict[str, Policy]:
    named: dict[str, Policy] = {}
    for policy in policies:
        if policy.name in named:
            remedy = "give one of them another name"
            raise PomonaError("is there twice", where=f'policy "{policy.name}"', remedy=remedy)
        named[policy.name] = policy
    for name in (judging.single, judging.fixed, judging.reward):
        if name is not None and name not in named:
            remedy = nearest(name, sorted(named))
            raise PomonaError("is not compared", where=f'policy "{name}"', remedy=remedy)
    return named


def _part(routed: Routed, mask: NDArray[np.bool_]) -> Routed:
    rows = np.flatnonzero(mask)
    kept, paid = ([each[int(at)] for at in rows] for each in (routed.kept, routed.paid))
    return Routed(tuple(kept), tuple(paid))


def _costs(routed: Routed, costs: Mapping[str, ArrayLike]) -> Costs:
    paid = [number for row in routed.paid for number in row]
    sums = {name: float(np.asarray(each, np.float64)[paid].sum()) for name, each in costs.items()}
    known = {name: None if np.isnan(value) else value for name, value in sums.items()}
    return Costs(len(paid), int(routed.answered.sum()), known)


def _standing(
    name: str,
    group: str,
    judge: Metric,
    each: Floats,
    draws: Resamples,
    judging: Judging,
    costs: Costs,
) -> Standing:
    value = float(judge.aggregate(each.sum(0)))
    low, high = interval(judge, each, draws, judging.level)
    return Standing(name, group, len(each), draws.units, value, low, high, costs)


def _above(
    standings: Sequence[Standing],
    judge: Metric,
    own: Mapping[str, Floats],
    draws: Resamples,
    judging: Judging,
) -> list[Standing]:
    """The standings with how far each is above the policies it is compared with."""
    bases = [base for base in (judging.single, judging.fixed) if base is not None]
    pairs = [(one.policy, base) for one in standings for base in bases if one.policy != base]
    found = [compare(judge, own[a], own[b], draws, judging.level) for a, b in pairs]
    corrected = holm([one.p_value for one in found]) if found else []
    of: dict[str, dict[str, Above]] = {}
    for (name, base), one, p in zip(pairs, found, corrected, strict=True):
        of.setdefault(name, {})[base] = Above(
            one.delta, one.ci_low, one.ci_high, one.p_value, float(p)
        )
    return [replace(one, above=of.get(one.policy, {})) for one in standings]


def _shares(
    group: str,
    judge: Metric,
    own: Mapping[str, Floats],
    draws: Resamples,
    judging: Judging,
    policies: Sequence[str],
) -> list[GainShare]:
    """What part of the gain of reward routing these policies have."""
    if judging.reward is None or judging.single is None:
        return []
    base, top = judging.single, judging.reward
    names = {base, top, *policies}
    drawn = {name: draws.resampled(judge, own[name]) for name in names}
    value = {name: float(judge.aggregate(own[name].sum(0))) for name in names}
    told = []
    for name in policies:
        gain = value[top] - value[base]
        share = (value[name] - value[base]) / gain if gain > 0 else None
        low, high = None, None
        gains = drawn[top] - drawn[base]
        # Where the gain itself may be nothing, a share of it is any number
        if share is not None and percentiles(gains, draws, judging.level)[0] > 0:
            parts = (drawn[name] - drawn[base]) / np.maximum(gains, 1e-12)
            low, high = percentiles(parts, draws, judging.level)
        told.append(GainShare(name, group, share, low, high))
    return told
