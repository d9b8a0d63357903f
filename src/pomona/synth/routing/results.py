"""What a comparison of policies tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pomona.errors import quantity
from pomona.pages import UNKNOWN, change, clean, count
from pomona.synth.routing.policies import Fixed
from pomona.synth.routing.router import Router

FORMAT = 1
EVERY = "all rows"
SURE = 0.05


@dataclass(frozen=True)
class Costs:
    """What a policy paid for in a group: answers that were written, rows that have one in the end,
    and sums by name, None where not known of every answer.
    """

    generations: int
    answered: int
    sums: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Above:
    """How far a policy is above another, with its interval and p-values."""

    delta: float
    low: float
    high: float
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class Standing:
    """A policy in a group: the judge's `value` over `rows` of so many `sources`."""

    policy: str
    group: str
    rows: int
    sources: int
    value: float
    low: float
    high: float
    costs: Costs
    above: Mapping[str, Above] = field(default_factory=dict)


@dataclass(frozen=True)
class GainShare:
    """What part of reward routing's gain over one teacher a policy has; None where there is none,
    and no interval where there may be none.
    """

    policy: str
    group: str
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Routes:
    """Policies beside each other, by group."""

    standings: Sequence[Standing]
    shares: Sequence[GainShare]
    judge_name: str
    judge: str
    level: float
    resamples: int
    seed: int
    notes: Sequence[str] = ()

    @property
    def signature(self) -> str:
        """The judge, the resamples and the seed."""
        return f"{self.judge}|resamples:{self.resamples}|level:{self.level}|seed:{self.seed}"

    @property
    def groups(self) -> list[str]:
        """All groups, all rows first."""
        return list(dict.fromkeys(one.group for one in self.standings))

    def of(self, policy: str, group: str = EVERY) -> Standing:
        """A policy in a group. Raises KeyError where it is not compared."""
        for one in self.standings:
            if (one.policy, one.group) == (policy, group):
                return one
        raise KeyError((policy, group))

    def share(self, policy: str, group: str = EVERY) -> GainShare | None:
        """What part of the gain a policy has there."""
        found = [one for one in self.shares if (one.policy, one.group) == (policy, group)]
        return found[0] if found else None

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "pomona_routes": FORMAT,
            "standings": [asdict(one) for one in self.standings],
            "shares": [asdict(one) for one in self.shares],
            "judge": {"name": self.judge_name, "signature": self.judge},
            "level": self.level,
            "resamples": self.resamples,
            "seed": self.seed,
            "signature": self.signature,
            "notes": list(self.notes),
        }

    def headline(self) -> str:
        """The best policy, in a line."""
        every = [one for one in self.standings if one.group == EVERY]
        best = max(every, key=lambda one: one.value)
        told = f"{clean(best.policy)} is highest: {self.judge_name} {best.value:.1f} over "
        return (
            f"{told}{quantity(best.rows, 'row')}, for {quantity(best.costs.generations, 'answer')}"
        )

    def cells(self, group: str = EVERY) -> list[dict[str, str]]:
        """A row a policy, as texts, the highest first."""
        own = [one for one in self.standings if one.group == group]
        bases = list(dict.fromkeys(base for one in own for base in one.above))
        told = []
        for one in sorted(own, key=lambda each: -each.value):
            cells = {
                "policy": clean(one.policy),
                "value": f"{one.value:.1f} [{one.low:.1f}, {one.high:.1f}]",
            }
            for base in bases:
                above = one.above.get(base)
                cells[f"above {clean(base)}"] = _above(above)
            cells["share of the gain"] = _share(self.share(one.policy, group))
            cells["answered"] = f"{one.costs.answered / one.rows:.0%}"
            cells["written"] = count(one.costs.generations)
            for name, value in one.costs.sums.items():
                cells[clean(name)] = UNKNOWN if value is None else f"{value:.4g}"
            told.append(cells)
        return told


@dataclass(frozen=True)
class Routing:
    """What was learned from answers to `rows` rows, and what policies are worth on others;
    `routes` is None where there are no others. `single` is the best teacher alone.
    """

    fixed: Fixed
    router: Router
    single: str
    rows: int
    signature: str
    routes: Routes | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        router = {
            "teachers": list(self.router.teachers),
            "cost_weight": self.router.cost_weight,
            "signature": self.router.signature,
        }
        return {
            "pomona_routing": FORMAT,
            "single": self.single,
            "rows": self.rows,
            "fixed": {group: list(names) for group, names in self.fixed.table.items()},
            "router": {**self.router.learned, **router},
            "routes": self.routes.to_json() if self.routes else None,
            "signature": self.signature,
            "seed": self.router.learned["seed"],
        }

    def headline(self) -> str:
        """What is best, in a line."""
        if self.routes is not None:
            return self.routes.headline()
        return f"{clean(self.single)} is the best teacher alone, over {quantity(self.rows, 'row')}"

    def lines(self) -> list[str]:
        """What to know of it."""
        told = self.router.learned
        stars = f"* is a difference that is sure: p < {SURE:g}, corrected over a group (Holm)."
        return [
            *([stars] if self.routes else []),
            f"The router was learned from {told['rows']:,} rows of {told['clusters']:,} sources on "
            "which rewards differ; on those it had not seen its teachers' mean reward was "
            f"{told['unseen']:.4g}, that of the table {told['fixed']:.4g}.",
        ]


def _above(one: Above | None) -> str:
    if one is None:
        return "—"
    told = change(one.delta, one.low, one.high)
    return f"{told} *" if one.p_holm < SURE else told


def _share(one: GainShare | None) -> str:
    if one is None:
        return "—"
    if one.share is None:
        return "no gain"
    if one.low is None or one.high is None:
        return f"{one.share:.0%} interval {UNKNOWN}"
    return f"{one.share:.0%} [{one.low:.0%}, {one.high:.0%}]"
