"""How far a judge agrees with people, and what it prefers by more than they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.arena.judging.asking import Flips
from pomona.arena.judging.pairs import Pairs, Verdicts
from pomona.arena.judging.prompting import claims_verdict
from pomona.arena.judging.results import Agreement, Estimate, Preference
from pomona.stats import Resamples, Share, cohen_kappa, compare, interval, mcnemar, value_of

Floats = NDArray[np.float64]
UNKNOWN = Estimate(None)


@dataclass(frozen=True)
class Sampling:
    """How intervals come about: labels [p] of what is resampled together."""

    clusters: Sequence[str]
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        Resamples(1, self.resamples, self.seed)  # refuses wrong numbers, before models are asked

    def of(self, rows: NDArray[np.intp]) -> Resamples:
        """Resamples of some of the pairs."""
        labels = np.asarray(self.clusters, dtype=object)[rows]
        single = len(set(labels.tolist())) == len(labels)
        return Resamples(len(rows), self.resamples, self.seed, None if single else labels)


def share(values: Floats, weights: Floats, sampling: Sampling) -> Estimate:
    """The mean of values [p] by weights [p]; pairs of weight 0 or without a value do not count."""
    rows = np.flatnonzero((weights > 0) & np.isfinite(values))
    if not len(rows):
        return UNKNOWN
    told = np.stack([values[rows] * weights[rows], weights[rows]], 1)
    drawn = sampling.of(rows)
    # One unit alone gives no interval.
    ends = interval(Share(), told, drawn) if drawn.units > 1 else (None, None)
    return Estimate(value_of(Share(), told), *ends, len(rows))


def kappa(tables: Floats, sampling: Sampling) -> Estimate:
    """Cohen's kappa from a table of agreement of each pair [p, c, c], all 0 where a pair does not
    count (Cohen 1960).
    """
    rows = np.flatnonzero(tables.sum((1, 2)) > 0)
    if not len(rows):
        return UNKNOWN
    return Estimate(*cohen_kappa(tables[rows], sampling.of(rows)), len(rows))


def majority_table(pairs: Pairs, outcomes: Floats) -> Floats:
    """Tables [p, 3, 3] of the judge's outcomes [p, 3] by people's majority."""
    tables = np.zeros((len(pairs), 3, 3))
    known = pairs.majority >= 0
    tables[known, :, pairs.majority[known]] = outcomes[known]
    return tables


def agree(pairs: Pairs, verdicts: Verdicts, flips: Flips, sampling: Sampling) -> Agreement:
    """How far the judge agrees with people; see `Agreement`."""
    outcomes = verdicts.outcomes(flips)
    tables = majority_table(pairs, outcomes)
    single = outcomes[:, :, None] * pairs.people[:, None, :]
    decided = tables[:, :2, :2]
    right = np.trace(tables, axis1=1, axis2=2)
    count = tables.sum((1, 2))
    values = np.divide(right, count, np.zeros_like(right), where=count > 0)
    return Agreement(
        kappa(tables, sampling),
        kappa(single, sampling),
        kappa(decided, sampling),
        kappa(_among(pairs.people), sampling),
        share(values, count, sampling),
    )


def _among(people: Floats) -> Floats:
    """Tables of each vote with the others on the same pair, a vote counting once."""
    n = people.sum(1)
    tables = people[:, :, None] * people[:, None, :]
    tables[:, range(3), range(3)] -= people
    return np.divide(
        tables, (n - 1)[:, None, None], np.zeros_like(tables), where=(n > 1)[:, None, None]
    )


def preferences(
    pairs: Pairs, verdicts: Verdicts, sampling: Sampling, family: str | None
) -> list[Preference]:
    """Every preference that can be told of these pairs."""
    found = [_first(pairs, verdicts, sampling)]
    sides: dict[str, NDArray[np.int64]] = {}
    if pairs.answers is not None:
        lengths = np.array([[len(one), len(other)] for one, other in pairs.answers])
        sides["longer"] = np.sign(lengths[:, 0] - lengths[:, 1])
        claims = np.array([[claims_verdict(text) for text in pair] for pair in pairs.answers])
        sides["claims"] = claims[:, 0].astype(int) - claims[:, 1]
    if family is not None:
        own = np.array([of_family(model, family) for model in pairs.models]).astype(int)
        sides["own"] = own[pairs.a] - own[pairs.b]
    told = (_side(what, side, pairs, verdicts, sampling) for what, side in sides.items())
    return [*found, *(one for one in told if one is not None)]


def of_family(model: str, family: str) -> bool:
    """Whether a model's name begins with, or has a word that begins with, the family's."""
    name, wanted = model.lower(), family.lower()
    place = name.find(wanted)
    while place > 0 and name[place - 1].isalnum():
        place = name.find(wanted, place + 1)
    return place >= 0


def _first(pairs: Pairs, verdicts: Verdicts, sampling: Sampling) -> Preference:
    """The preference for the answer shown first. In both orders qualities cancel; in one they do
    where order was drawn, and people, who saw the same order, say what else there is.
    """
    values, both = verdicts.values, verdicts.both
    first = np.stack([values[:, 0], 1 - values[:, 1]], 1)
    people = np.full(len(pairs), np.nan)
    if both.any():
        judged = np.where(both, first.mean(1), np.nan)
        signs = first[both].sum(1) - 1
        told, by = first[both], np.flatnonzero(both)
        test = "sign test of pairs in both orders"
    else:
        turned = np.isnan(values[:, 0])
        judged = np.where(turned, first[:, 1], first[:, 0])
        people = np.where(turned, 1 - pairs.worth, pairs.worth)
        by = np.flatnonzero(np.isfinite(judged))
        signs, told = judged[by] - 0.5, judged[by]
        test = "sign test of verdicts in one order, taken to be drawn by chance"
    wins, losses = int((told == 1).sum()), int((told == 0).sum())
    ones = np.ones(len(pairs))
    mean = share(judged, ones, sampling)
    if both.any():
        difference = Estimate(*map(_less, (mean.value, mean.ci_low, mean.ci_high)), n=mean.n)
        crowd = UNKNOWN
    else:
        crowd = share(people, ones, sampling)
        difference, _ = _beyond(judged, people, sampling)
    p = _sign_test(signs, [sampling.clusters[row] for row in by.tolist()])
    return Preference("first", mean, crowd, difference, wins, losses, p, test)


def _less(value: float | None) -> float | None:
    return None if value is None else value - 0.5


def _sign_test(signs: Floats, clusters: Sequence[str]) -> float | None:
    """Whether sums over clusters are as often above as below 0, exactly."""
    if not len(signs):
        return None
    _, member = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    sums = np.bincount(member, signs)
    return mcnemar(int((sums > 1e-9).sum()), int((sums < -1e-9).sum()))


def _side(
    what: str, side: NDArray[np.int64], pairs: Pairs, verdicts: Verdicts, sampling: Sampling
) -> Preference | None:
    """The preference for the side that is 1 (a) or -1 (b); pairs of 0 do not count."""
    known = np.isfinite(verdicts.values)
    count = known.sum(1)
    total = np.where(known, verdicts.values, 0.0).sum(1)
    mean = np.divide(total, count, np.full(len(pairs), np.nan), where=count > 0)
    judged = np.where(side > 0, mean, 1 - mean)
    people = np.where(side > 0, pairs.worth, 1 - pairs.worth)
    judged[side == 0] = people[side == 0] = np.nan
    if not np.isfinite(judged).any():
        return None
    told = np.where(side[:, None] > 0, verdicts.values, 1 - verdicts.values)[side != 0]
    ones = np.ones(len(pairs))
    difference, p = _beyond(judged, people, sampling)
    return Preference(
        what,
        share(judged, ones, sampling),
        share(people, ones, sampling),
        difference,
        int((told == 1).sum()),
        int((told == 0).sum()),
        p,
        "paired bootstrap against people on the same pairs",
    )


def _beyond(judged: Floats, people: Floats, sampling: Sampling) -> tuple[Estimate, float | None]:
    """Judge minus people on the pairs that both judged, and whether it is 0."""
    rows = np.flatnonzero(np.isfinite(judged) & np.isfinite(people))
    drawn = sampling.of(rows) if len(rows) > 1 else None
    if drawn is None or drawn.units < 2:
        return UNKNOWN, None
    ones = np.ones(len(rows))
    ours, base = (np.stack([values[rows], ones], 1) for values in (judged, people))
    found = compare(Share(), ours, base, drawn)
    return Estimate(found.delta, found.ci_low, found.ci_high, len(rows)), found.p_value
