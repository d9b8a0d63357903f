"""Some of the items, such as a group: how dense and compressed models do on them, how sure the
difference is, and which of them changed above the floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona import stats
from pomona.forget.auditing.exemplars import Excess
from pomona.forget.auditing.populations import Codes, Floats, Population, Populations
from pomona.forget.change import unseen_rate

SMALL = 30  # items or clusters below which a slice is said to be small


_SHARE = stats.Share()


@dataclass(frozen=True)
class Rate:
    """A share of n items before and after, means over models, and the difference with its paired
    95 % interval over items, or clusters of them, and models. Ends are None where nothing is
    known of the error, and `note` says why.
    """

    n: int
    dense: float
    compressed: float
    difference: float
    ci_low: float | None
    ci_high: float | None
    note: str | None = None


@dataclass(frozen=True)
class Slice:
    """What became of n items. `score` is accuracy where answers are right or wrong.

    exemplars, taxicab, shift: as published, all models of a level against all dense ones: the
        share of items whose modal label changed, the mean L1 distance of the labels' shares, and
        where there are no labels the mean change of an item's score.
    at, floor, excess: of the first of these between halves of the models that share no seed: dense
        against compressed, dense against dense, and the difference. p_excess: from shuffled labels
        of models; p_excess_bh is corrected over groups. taxicab_excess, p_taxicab: the same of
        the taxicab distance.
    lost, gained: share of items whose modal label was right and is wrong, and the reverse.
    t_welch, p_published: of score minus the level's mean score, over models, as Hooker et al.
        did it: not corrected. p_holm, p_bh: corrected over groups.
    rates: error, false positives and false negatives, where a positive label is named.
    """

    score: Rate
    exemplars: float | None = None
    taxicab: float | None = None
    shift: float | None = None
    at: float | None = None
    floor: float | None = None
    excess: float | None = None
    excess_low: float | None = None
    excess_high: float | None = None
    p_excess: float | None = None
    p_excess_bh: float | None = None
    taxicab_excess: float | None = None
    p_taxicab: float | None = None
    lost: float | None = None
    gained: float | None = None
    t_welch: float | None = None
    p_published: float | None = None
    p_holm: float | None = None
    p_bh: float | None = None
    rates: Mapping[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What exemplars say of every column of `members`, before it is cut into slices."""

    published: Mapping[str, Floats]  # [columns]
    excess: Excess | None


class Slicer:
    """Makes slices of the items of a level."""

    def __init__(
        self,
        populations: Populations,
        compressed: Population,
        found: Found,
        modes: tuple[Codes, Codes] | None,
        positive: int | None,
        resamples: int,
        seed: int,
    ) -> None:
        self.populations, self.found = populations, found
        self.dense, self.compressed = populations.dense, compressed
        self.modes, self.positive = modes, positive
        self.resamples, self.seed = resamples, seed
        self.systems = (0, 0) if populations.paired(compressed) else (0, 1)
        clusters = populations.items.get("cluster")
        self.clusters = None if clusters is None else clusters.astype(object)

    def slice(self, rows: NDArray[np.intp], column: int) -> Slice:
        """What became of the items at `rows`, which are the members of a column."""
        sides = (self.dense.scores[:, rows], self.compressed.scores[:, rows])
        ones = np.ones(len(rows))
        told = Slice(self._rate(rows, sides, ones), **self._exemplars(rows, column))
        if self.positive is None:
            return told
        return replace(told, rates=self._rates(rows))

    def _rate(self, rows: NDArray[np.intp], sides: Sequence[Floats], counted: Floats) -> Rate:
        """The share of `counted` items that a statistic of both sides `[K, rows]` is 1 for."""
        n = int(counted.sum())
        if n == 0:
            return Rate(0, 0.0, 0.0, 0.0, None, None, "no such item: nothing is known")
        before, after = (float((side * counted).sum(1).mean() / n) for side in sides)
        there = np.flatnonzero(counted)
        draws = self._draws(rows[there])
        base, ours = (
            np.stack([side[:, there], np.ones_like(side[:, there])], axis=-1) for side in sides
        )
        told = stats.compare(_SHARE, ours, base, draws, systems=self.systems)
        low, high, note = told.ci_low, told.ci_high, self._note(draws)
        if draws.units < 2:
            return Rate(n, before, after, after - before, None, None, note)
        if np.array_equal(base, ours):
            low, high, same = _of_none(base[..., 0], draws.units)
            note = note or same
        return Rate(n, before, after, after - before, low, high, note)

    def _draws(self, rows: NDArray[np.intp]) -> stats.Resamples:
        within = None if self.clusters is None else self.clusters[rows]
        return stats.Resamples(len(rows), self.resamples, self.seed, within)

    def _note(self, draws: stats.Resamples) -> str | None:
        unit = "cluster" if draws.clustered else "item"
        if draws.units < 2:
            return f"one {unit}: nothing is known of the error"
        if draws.units < SMALL:
            return f"{draws.units} {unit}s: too few to call unharmed"
        return None

    def _exemplars(self, rows: NDArray[np.intp], column: int) -> dict[str, Any]:
        told: dict[str, Any] = {
            {"changed": "exemplars"}.get(kind, kind): float(values[column])
            for kind, values in self.found.published.items()
        }
        if self.modes is not None and self.populations.reference is not None:
            before, after = (side[rows] == self.populations.reference[rows] for side in self.modes)
            told |= {
                "lost": float(np.mean(before & ~after)),
                "gained": float(np.mean(after & ~before)),
            }
        if (excess := self.found.excess) is None:
            return told
        told |= {
            name: float(getattr(excess, name)[0, column]) for name in ("at", "floor", "excess")
        }
        told["p_excess"] = float(excess.p_value[0, column])
        if "taxicab" in self.found.published:
            told["taxicab_excess"] = float(excess.excess[1, column])
            told["p_taxicab"] = float(excess.p_value[1, column])
        draws = self._draws(rows)
        if draws.units > 1:
            error = self._error(excess, rows, column, draws)
            most = np.inf if self.modes is None else 1.0
            told["excess_low"] = max(-most, told["excess"] - error)
            told["excess_high"] = min(most, told["excess"] + error)
        return told

    def _error(
        self, excess: Excess, rows: NDArray[np.intp], column: int, draws: stats.Resamples
    ) -> float:
        """Half the width of the 95 % interval of an excess: what other items would change, from
        resamples, and what other models would change in all of them alike.
        """
        from scipy.special import stdtrit

        each = np.column_stack([excess.items[rows], np.ones(len(rows))])
        variance = draws.resampled(_SHARE, each).var() * draws.units / (draws.units - 1)
        variance += excess.shared[column]
        return float(stdtrit(draws.units - 1, 0.975) * np.sqrt(variance))

    def _rates(self, rows: NDArray[np.intp]) -> dict[str, Rate]:
        right = self.populations.reference
        sides = [
            side.predictions
            for side in (self.dense, self.compressed)
            if side.predictions is not None
        ]
        if right is None or len(sides) < 2:
            return {}
        truth = right[rows] == self.positive
        said = [(side[:, rows] == self.positive).astype(np.float64) for side in sides]
        wrong = [(side[:, rows] != right[rows]).astype(np.float64) for side in sides]
        missed = [1 - side for side in said]
        return {
            "error": self._rate(rows, wrong, np.ones(len(rows))),
            "false_positive_rate": self._rate(rows, said, (~truth).astype(np.float64)),
            "false_negative_rate": self._rate(rows, missed, truth.astype(np.float64)),
        }


def _of_none(scores: Floats, units: int) -> tuple[float, float, str]:
    """The interval where no score changed, and what to know of it."""
    if np.any((scores < 0) | (scores > 1)):
        return 0.0, 0.0, "no score changed: the interval has no width"
    end = unseen_rate(units)
    return -end, end, "no answer changed: the interval is that of a share of none"


def normalised_welch(dense: Floats, compressed: Floats, members: Floats) -> tuple[Floats, Floats]:
    """Welch's t and p-value, compressed against dense, for every group of `members` `[n, groups]`,
    over models: of the group's mean score less the mean score of the level, from scores `[K, n]`.

    Below 0 a group loses more than all items do. Hooker et al. 2019, §3.2 and their code.
    """
    sizes = members.sum(0)
    sides = [side @ members / sizes - side.mean() for side in (compressed, dense)]
    t, _, p = stats.welch(*sides)
    return t, p


def corrected(groups: Mapping[str, Slice], t: Floats, p: Floats) -> dict[str, Slice]:
    """The slices of groups with Welch's test, and with all p-values corrected over groups; those of
    which nothing is known are left out of it.
    """
    known = np.isfinite(p)
    holm, bh = (np.full(len(p), np.nan) for _ in range(2))
    holm[known], bh[known] = stats.holm(p[known]), stats.benjamini_hochberg(p[known])
    chance = [one.p_excess for one in groups.values() if one.p_excess is not None]
    excess = stats.benjamini_hochberg(chance) if len(chance) == len(groups) else None
    return {
        name: replace(
            one,
            t_welch=_known(t[at]),
            p_published=_known(p[at]),
            p_holm=_known(holm[at]),
            p_bh=_known(bh[at]),
            p_excess_bh=None if excess is None else float(excess[at]),
        )
        for at, (name, one) in enumerate(groups.items())
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
