"""What a profile tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pomona.errors import quantity
from pomona.pages import UNKNOWN, change, clean, count, p_value, places
from pomona.synth.profile.figures import UNITS
from pomona.synth.profile.measures import Difference, Estimate

FORMAT = 1
SCORE = "mean score"  # the unit of a figure that a user named


@dataclass(frozen=True)
class SideProfile:
    """The figures of a table or model, over all and by group."""

    name: str
    rows: int
    metrics: Mapping[str, Estimate]
    groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        groups = {name: _told(metrics) for name, metrics in self.groups.items()}
        return {
            "name": self.name, "rows": self.rows, "metrics": _told(self.metrics), "groups": groups,
        }  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """Another side, and how much more of each figure it has than the first."""

    profile: SideProfile
    differences: Mapping[str, Difference]
    groups: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        told = self.profile.to_json()
        groups = {name: _told(differences) for name, differences in self.groups.items()}
        return {**told, "differences": _told(self.differences), "group_differences": groups}


@dataclass(frozen=True)
class Profile:
    """The profile of a side, and those of others beside it."""

    first: SideProfile
    others: Sequence[Compared]
    level: float
    resamples: int
    seed: int
    signature: str
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: the figures of the first side, and `compared` with each of the others,
        whose differences are theirs less those of the first.
        """
        return {
            "pomona_profile": FORMAT,
            **self.first.to_json(),
            "compared": [other.to_json() for other in self.others],
            "units": {name: unit_of(name) for name in self.names},
            "level": self.level,
            "resamples": self.resamples,
            "seed": self.seed,
            "signature": self.signature,
            "notes": list(self.notes),
        }

    @property
    def names(self) -> list[str]:
        """All figures, in order."""
        sides = [self.first, *(other.profile for other in self.others)]
        return list(dict.fromkeys(name for side in sides for name in side.metrics))

    def headline(self) -> str:
        """What differs, in a line."""
        if not self.others:
            return f"{clean(self.first.name)}: {quantity(self.first.rows, 'text')}"
        told = []
        for other in self.others:
            sure = [
                n for n, d in other.differences.items() if d.p_holm is not None and d.p_holm < 0.05
            ]
            tested = sum(d.p_holm is not None for d in other.differences.values())
            told.append(
                f"{clean(other.profile.name)} differs from {clean(self.first.name)} in {len(sure)} "
                f"of {tested} figures"
            )
        return "; ".join(told)

    def cells(self) -> list[dict[str, Any]]:
        """A row a figure, as texts: each side, and the differences to the first."""
        return [
            {"figure": name, **cells}
            for name in self.names
            for _, cells in [self._cells(name, None)]
        ]

    def group_cells(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """For each group its rows as texts."""
        names = dict.fromkeys(self.first.groups)
        names |= {group: None for other in self.others for group in other.profile.groups}
        for group in names:
            yield group, [{"figure": n, **self._cells(n, group)[1]} for n in self.names]

    def _cells(self, name: str, group: str | None) -> tuple[str, dict[str, Any]]:
        def of(side: SideProfile) -> Estimate | None:
            metrics = side.metrics if group is None else side.groups.get(group, {})
            return metrics.get(name)

        cells = {clean(self.first.name): estimate(of(self.first))}
        for place, other in enumerate(self.others, 2):
            label = clean(other.profile.name)
            label = label if label not in cells else f"{label} ({place})"
            told = other.differences if group is None else other.groups.get(group, {})
            one = told.get(name)
            cells[label] = estimate(of(other.profile))
            cells[f"{label} − A"] = difference(one)
            p = "p (Holm)" if len(self.others) == 1 else f"p (Holm) of {label}"
            cells[p] = p_value(one.p_holm if one else None)
        return name, cells

    def reasons(self) -> list[str]:
        """Why figures are not there, a line each reason."""
        told: dict[str, list[str]] = {}
        for side in (self.first, *(other.profile for other in self.others)):
            for name, one in side.metrics.items():
                if one.value is None and one.reason:
                    told.setdefault(f"{clean(side.name)}: {one.reason}", []).append(name)
        return [f"{', '.join(dict.fromkeys(names))} — {why}" for why, names in told.items()]


def unit_of(name: str) -> str:
    """What a figure counts."""
    return UNITS.get(name, SCORE)


def estimate(one: Estimate | None) -> str:
    """`12.3 [11.9, 12.7]`."""
    if one is None or one.value is None:
        return UNKNOWN
    if one.ci_low is None or one.ci_high is None:
        return f"{one.value:.{places(one.value, one.value)}f} interval {UNKNOWN}"
    decimals = places(one.ci_low, one.ci_high)
    written = f"{one.value:.{decimals}f} [{one.ci_low:.{decimals}f}, {one.ci_high:.{decimals}f}]"
    return written.replace("-", "−")


def difference(one: Difference | None) -> str:
    """`+1.3 [+0.2, +2.4]`."""
    if one is None:
        return UNKNOWN
    # Of what differs by the same everywhere the interval has the width of rounding, not of digits
    low, high = (None if end is None else round(end, 9) for end in (one.ci_low, one.ci_high))
    return change(one.delta, low, high)


def counted(one: Estimate | None) -> str:
    """`1,234 texts`."""
    return UNKNOWN if one is None else f"{count(one.n)} {one.per}{'s' if one.n != 1 else ''}"


def _told(named: Mapping[str, Estimate] | Mapping[str, Difference]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in named.items()}
