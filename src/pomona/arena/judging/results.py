"""What an audit of a judge tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where it is not known. n: pairs behind it."""

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa with people over what is better, or neither, and the plain share that agrees.

    majority: with the most frequent vote on each pair; of several, with the one cast first.
    votes: with every single vote. decided: with the majority, where neither says tie.
    people: what one person reaches with another on the same pair; None where none has two votes.
    agree: share of pairs where judge and majority agree.
    """

    majority: Estimate
    votes: Estimate
    decided: Estimate
    people: Estimate
    agree: Estimate


@dataclass(frozen=True)
class Preference:
    """How much one side is preferred by more than what people say of the same pairs.

    what: "first" (the answer shown first, or on the left), "longer", "own" (models of the judge's
        family), or "claims" (an answer that itself says which is to win).
    judge, people: mean value of that side: 1 wins, 0.5 neither.
    difference: judge − people on the pairs that both judged; of "first" in both orders, judge − ½.
    wins, losses: of the side by the judge, in verdicts.
    p_value: that there is no preference. flagged: whether it is below 0.05.
    """

    what: str
    judge: Estimate
    people: Estimate
    difference: Estimate
    wins: int
    losses: int
    p_value: float | None
    test: str

    @property
    def flagged(self) -> bool:
        """Whether the preference is above chance."""
        return self.p_value is not None and self.p_value < 0.05


@dataclass(frozen=True)
class FlipRule:
    """What pairs whose orders differ are worth: pairs that count then, kappa with the majority, and
    the rank correlation of the models' ratings with those by people.
    """

    flips: str
    votes: float
    kappa: Estimate
    spearman: float | None


@dataclass(frozen=True)
class JudgedModel:
    """A model's ratings in points (400 points are odds of ten), 1000 the mean of all; None where a
    model won or lost everything, or has no votes.

    tie, skip, half: by the judge, with that rule for pairs whose orders differ.
    people: by people's votes alone. powered: by both, prediction-powered.
    """

    model: str
    tie: Estimate
    skip: Estimate
    half: Estimate
    people: Estimate
    powered: Estimate


@dataclass(frozen=True)
class Powered:
    """How much the judge is worth for the ratings of people.

    weight: lambda, from 0 (the judge is not used) to 1. human, judged: pairs with votes of people,
    and further ones with verdicts alone. narrower: median width of the intervals by that of
    people's votes alone. note: why there are none.
    """

    weight: float | None
    human: int
    judged: int
    narrower: float | None
    note: str | None = None


@dataclass(frozen=True)
class JudgeAudit:
    """A judge beside people.

    pairs, voted, votes: in all, those with votes of people, and these votes.
    verdicts, errors: read, and not; `reasons` counts errors by what was wrong, and `failed` are
    those of the model or the budget, which the next run asks again.
    flipped: share of pairs whose two orders differ; None where each was asked in one.
    reversed: share of pairs in which the judge took the same place both times.
    spent: what all verdicts cost, and what this run paid; None where no model was asked.
    """

    judge: str
    pairs: int
    voted: int
    votes: int
    verdicts: int
    errors: int
    failed: int
    reasons: dict[str, int]
    flipped: Estimate
    reversed: Estimate
    agreement: Agreement | None
    preferences: list[Preference]
    rules: list[FlipRule]
    models: list[JudgedModel]
    powered: Powered | None
    cluster: str
    flips: str
    notes: list[str]
    signature: str
    seed: int
    out: str | None = None
    spent: dict[str, Any] | None = None

    def preference(self, what: str) -> Preference | None:
        """The preference of that name, None where it cannot be told."""
        return next((one for one in self.preferences if one.what == what), None)

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        told = asdict(self)
        for written, one in zip(told["preferences"], self.preferences, strict=True):
            written["flagged"] = one.flagged
        return told
