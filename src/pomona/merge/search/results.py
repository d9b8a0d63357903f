"""Systems compared on the held-out items: paired intervals per group, and a ledger of what each
cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona._version import __version__
from pomona.ledger import Entry, GroupCount, Ledger, Meta
from pomona.merge.search.trials import Optimum
from pomona.stats import MINIMUM, Comparison, by_group, rows_of
from pomona.tasks import Items, Metric

SERVED = 100_000  # answered items over which the cost of answering is counted, as in recipes


@dataclass(frozen=True)
class System:
    """A model on the held-out items: statistics `[n, k]`, what answering them took, and what making
    it cost beyond the base.
    """

    statistics: NDArray[np.float64]
    flops: float
    tokens: int = 0
    seconds: float = 0.0
    once_flops: float = 0.0
    once_tokens: int = 0
    once_seconds: float = 0.0


def compare_all(
    metric: Metric, items: Items, systems: Mapping[str, System], ours: str, seed: int
) -> dict[str, dict[str, Comparison]]:
    """`ours` against every other system: baseline → group → comparison; "overall" is the first
    group.
    """
    groups = groups_of(items)
    return {
        name: by_group(metric, systems[ours].statistics, system.statistics, groups, seed=seed)
        for name, system in systems.items()
        if name != ours
    }


def groups_of(items: Items) -> dict[str, NDArray[np.intp]]:
    """The rows of each group; none where all items are in one."""
    rows = rows_of(items.groups)
    return rows if len(rows) > 1 else {}


def ledger_of(
    metric: Metric, items: Items, systems: Mapping[str, System], base: str, about: Mapping[str, Any]
) -> Ledger:
    """Every system against all that came before it, `base` first. `about`: name, parameters, seed,
    signature, created and notes.
    """
    groups = groups_of(items)
    names = [base, *(name for name in systems if name != base)]
    entries = [
        _entry(comparison, group, (name, other), systems, about, metric=metric.name, base=base)
        for place, name in enumerate(names)
        for other in (names[:place] or [base])
        for group, comparison in by_group(
            metric, systems[name].statistics, systems[other].statistics, groups, seed=about["seed"]
        ).items()
    ]
    meta = Meta(
        name=about["name"],
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        base=base,
        base_parameters=about["parameters"],
        serve_items=SERVED,
        seed=about["seed"],
        created=about["created"],
        groups=[GroupCount(name, None, False, len(rows)) for name, rows in groups.items()],
        versions={"pomona": __version__},
        notes=list(about["notes"]),
    )
    return Ledger(meta, entries)


def _entry(
    comparison: Comparison,
    group: str,
    names: tuple[str, str],
    systems: Mapping[str, System],
    about: Mapping[str, Any],
    *,
    metric: str,
    base: str,
) -> Entry:
    name, other = names
    mine, theirs = systems[name], systems[other]
    return Entry(
        lever="base" if name == base else "merging",
        variant=name,
        metric=metric,
        group=group,
        baseline=other,
        value=comparison.value,
        delta=comparison.delta,
        ci_low=comparison.ci_low,
        ci_high=comparison.ci_high,
        n=comparison.n,
        flops_once=mine.once_flops - theirs.once_flops,
        flops_per_item=mine.flops / len(mine.statistics),
        tokens=mine.once_tokens - theirs.once_tokens,
        seconds=mine.once_seconds - theirs.once_seconds + mine.seconds,
        scale_equivalent=None,
        seed=about["seed"],
        signature=f"{about['signature']}|boot:{MINIMUM}|seed:{about['seed']}",
    )


def documents(comparisons: Mapping[str, Mapping[str, Comparison]]) -> list[dict[str, Any]]:
    """One flat row a baseline and group."""
    return [
        {"baseline": baseline, "group": group, **asdict(comparison)}
        for baseline, groups in comparisons.items()
        for group, comparison in groups.items()
    ]


@dataclass(frozen=True)
class Gain:
    """A difference turned so that positive is better, with its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, comparison: Comparison, higher_is_better: bool) -> Gain:
        """From a comparison."""
        if higher_is_better:
            return cls(comparison.delta, comparison.ci_low, comparison.ci_high)
        return cls(-comparison.delta, -comparison.ci_high, -comparison.ci_low)

    @property
    def verdict(self) -> str:
        """better, worse or unclear."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"

    def __str__(self) -> str:
        decimals = decimals_of(max(abs(self.value), abs(self.low), abs(self.high)))
        low, high = (number(bound, decimals, signed=True) for bound in (self.low, self.high))
        return f"{number(self.value, decimals, signed=True)} [{low}, {high}]"


def number(value: float, places: int | None = None, *, signed: bool = False) -> str:
    """A number with so many decimals: four below one and two from there when not said; losses
    differ in the third, chrF in the first.
    """
    text = f"{abs(value):.{decimals_of(value) if places is None else places}f}"
    sign = "" if float(text) == 0 else "−" if value < 0 else "+" if signed else ""
    return sign + text


def decimals_of(value: float) -> int:
    """Decimals that a value is shown with."""
    return 4 if abs(value) < 1 else 2


@dataclass(frozen=True)
class Matrix:
    """Expert × group: the full merge (`value`) against the merge without the expert
    (`baseline_value`), with paired intervals.
    """

    contrasts: Mapping[str, Mapping[str, Comparison]]
    metric: str
    higher_is_better: bool
    signature: str
    notes: tuple[str, ...]

    def gains(self) -> dict[str, dict[str, Gain]]:
        """What each expert brings to each group; positive is better, so an expert with a negative
        gain hurts the group.
        """
        return {
            expert: {
                group: Gain.of(comparison, self.higher_is_better)
                for group, comparison in groups.items()
            }
            for expert, groups in self.contrasts.items()
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row an expert and group: the two values, the gain with its interval, and the
        verdict.
        """
        return [
            {
                "expert": expert,
                "group": group,
                "with": comparison.value,
                "without": comparison.baseline_value,
                "gain": gain.value,
                "ci_low": gain.low,
                "ci_high": gain.high,
                "p_value": comparison.p_value,
                "n": comparison.n,
                "verdict": gain.verdict,
            }
            for expert, groups in self.contrasts.items()
            for group, comparison in groups.items()
            for gain in [Gain.of(comparison, self.higher_is_better)]
        ]


@dataclass(frozen=True)
class Searched:
    """A finished search: the recipe of the best merge, its values and validation score, and what
    the held-out items say of it.

    `contrasts` has the best against each other system, per group: base, uniform merge and the best
    expert alone.
    """

    out: Path
    recipe: Mapping[str, Any]
    optimum: Optimum
    contrasts: Mapping[str, Mapping[str, Comparison]]
    metric: str
    higher_is_better: bool
    signature: str
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As it is written to `search.json`."""
        return {
            "signature": self.signature,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "values": dict(self.optimum.best.values),
            "valid": self.optimum.best.value,
            "trials": len(self.optimum.trials),
            "flops": self.optimum.flops,
            "tokens": self.optimum.tokens,
            "seconds": self.optimum.seconds,
            "test": documents(self.contrasts),
            "recipe": dict(self.recipe),
            "notes": list(self.notes),
            "version": __version__,
        }
