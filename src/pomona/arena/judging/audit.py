"""A judge beside people: what agrees, what is preferred, what flips are worth, what ratings say."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from pomona.arena.judging.agreement import (
    UNKNOWN,
    Sampling,
    agree,
    kappa,
    majority_table,
    preferences,
    share,
)
from pomona.arena.judging.asking import Flips
from pomona.arena.judging.pairs import Pairs, Verdicts
from pomona.arena.judging.powered import Ratings, powered, rate
from pomona.arena.judging.results import (
    Estimate,
    FlipRule,
    JudgeAudit,
    JudgedModel,
    Powered,
)

FLIPS: tuple[Flips, ...] = ("tie", "skip", "half")
_SAID = re.compile(r"(names no verdict|says nothing|refused|no verdict|the metric is undefined)")
Floats = NDArray[np.float64]


def audited(
    pairs: Pairs,
    verdicts: Verdicts,
    name: str,
    flips: Flips,
    sampling: Sampling,
    family: str | None,
) -> JudgeAudit:
    """Everything that verdicts and votes tell of a judge."""
    reasons = Counter(_reason(why) for pair in verdicts.errors for why in pair if why is not None)
    values, both = verdicts.values, verdicts.both
    differ = np.where(both, values[:, 0] != values[:, 1], np.nan)
    # A win of whatever stands in one place, in both orders.
    reverse = np.where(both, np.abs(values[:, 0] - values[:, 1]) == 1, np.nan)
    ones = np.ones(len(pairs))
    ratings: dict[Flips, Ratings] = {
        rule: _ratings(pairs, verdicts.outcomes(rule), sampling) for rule in FLIPS
    }
    people = _ratings(pairs, pairs.people, sampling)
    told = verdicts.outcomes(flips)
    together, about = _powered(pairs, told, people, sampling)
    return JudgeAudit(
        judge=name,
        pairs=len(pairs),
        voted=int(pairs.voted.sum()),
        votes=int(pairs.people.sum()),
        verdicts=int(np.isfinite(values).sum()),
        errors=verdicts.failed,
        failed=sum(count for why, count in reasons.items() if not _SAID.fullmatch(why)),
        reasons=dict(reasons.most_common(20)),
        flipped=share(differ, ones, sampling),
        reversed=share(reverse, ones, sampling),
        agreement=agree(pairs, verdicts, flips, sampling) if pairs.voted.any() else None,
        preferences=preferences(pairs, verdicts, sampling, family),
        rules=[_rule(rule, pairs, verdicts, ratings[rule], people, sampling) for rule in FLIPS],
        models=_models(pairs, verdicts, ratings, people, together),
        powered=about,
        cluster="item",
        flips=flips,
        notes=_notes(pairs, verdicts),
        signature="",
        seed=sampling.seed,
    )


def _reason(why: str) -> str:
    """What was wrong, without what was said."""
    found = _SAID.match(why)
    return found[0] if found else why


def _ratings(pairs: Pairs, outcomes: Floats, sampling: Sampling) -> Ratings:
    rows = outcomes.sum(1) > 0
    labels = [label for label, row in zip(sampling.clusters, rows, strict=True) if row]
    return rate(len(pairs.models), pairs.a[rows], pairs.b[rows], outcomes[rows], labels)


def _powered(
    pairs: Pairs, judge: Floats, people: Ratings, sampling: Sampling
) -> tuple[Ratings | None, Powered | None]:
    """Ratings by both, and what the judge was worth for them."""
    voted, known = pairs.voted, judge.sum(1) > 0
    if not voted.any():
        return None, None
    human, rest = int(voted.sum()), int((~voted & known).sum())
    if not rest:
        note = "people voted on every pair that is judged: there is nothing to add"
        return None, Powered(None, human, 0, None, note)
    k = len(pairs.models)
    found = powered(k, pairs.a, pairs.b, pairs.people, judge, sampling.clusters)
    if not np.isfinite(found.points).any():
        note = "too few votes of people: some model won or lost all of its own"
        return None, Powered(None, human, rest, None, note)
    with np.errstate(invalid="ignore"):
        narrower = found.half_widths / people.half_widths
    told = narrower[np.isfinite(narrower)]
    return found, Powered(found.weight, human, rest, float(np.median(told)) if len(told) else None)


def _rule(
    rule: Flips,
    pairs: Pairs,
    verdicts: Verdicts,
    ratings: Ratings,
    people: Ratings,
    sampling: Sampling,
) -> FlipRule:
    outcomes = verdicts.outcomes(rule)
    found = kappa(majority_table(pairs, outcomes), sampling) if pairs.voted.any() else UNKNOWN
    ranks = _spearman(ratings.points, people.points)
    return FlipRule(rule, int((outcomes.sum(1) > 0).sum()), found, ranks)


def _spearman(one: Floats, other: Floats) -> float | None:
    """The correlation of ranks where both are known; None for fewer than three, or all equal."""
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 3:
        return None
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(np.round(values[known], 6)) for values in (one, other)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])


def _models(
    pairs: Pairs,
    verdicts: Verdicts,
    ratings: dict[Flips, Ratings],
    people: Ratings,
    together: Ratings | None,
) -> list[JudgedModel]:
    """A row a model, the best by people and judge together first, or by whichever there is."""
    k = len(pairs.models)

    def told(found: Ratings | None, rows: NDArray[np.bool_]) -> list[Estimate]:
        count = np.bincount(pairs.a[rows], minlength=k) + np.bincount(pairs.b[rows], minlength=k)
        return [UNKNOWN] * k if found is None else found.estimates(count)

    columns = [told(ratings[rule], verdicts.outcomes(rule).sum(1) > 0) for rule in FLIPS]
    columns += [told(people, pairs.voted), told(together, pairs.voted)]
    models = [JudgedModel(*row) for row in zip(pairs.models, *columns, strict=True)]

    def best(one: JudgedModel) -> tuple[bool, float, str]:
        by = one.powered if together is not None else one.people if pairs.voted.any() else one.tie
        return by.value is None, -(by.value or 0.0), one.model

    return sorted(models, key=best)


def _notes(pairs: Pairs, verdicts: Verdicts) -> list[str]:
    notes = [*pairs.notes, *verdicts.notes]
    unknown = int((~np.isfinite(verdicts.values).any(1)).sum())
    if unknown:
        notes.append(f"{unknown:,} of {len(pairs):,} pairs have no verdict")
    return notes
