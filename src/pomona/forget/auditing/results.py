"""What an audit found, as objects, JSON, tables and two lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pomona.forget.auditing.calibration import Change as CalibrationChange
from pomona.forget.auditing.damage import NO_EFFECT, Damage
from pomona.forget.auditing.slices import Slice
from pomona.pages import gained, interval, p_value, signed

ALPHA = 0.05
UNITS = {
    "dense, compressed, difference, exemplars, at, floor, excess, lost, gained, rates": "shares, "
    "0 to 1, or the unit of the column score; difference = compressed - dense: below 0 is a loss",
    "taxicab": "0 to 2",
    "ci_low, ci_high, excess_low, excess_high": "95 %",
    "t_welch": "compressed - dense, each less its level's mean: below 0 loses more than others",
    "damage": "loss (dense - compressed) for ten times the training rows: below 0 the tail loses "
    "more",
}


@dataclass(frozen=True)
class Power:
    """The excess, a share of all items, that an audit with so many models a level finds in four of
    five cases; None where so few can never reach 5 %.
    """

    models: int
    detectable: float | None


@dataclass(frozen=True)
class Overlap:
    """Two measures of what changed: how many groups, or items, each calls affected, how many both,
    and these as a share of those that either does; None where neither does any.
    """

    of: str
    a: str
    b: str
    n_a: int
    n_b: int
    both: int
    jaccard: float | None


@dataclass(frozen=True)
class LevelAudit:
    """One level against the dense models, `models` of each. `half`: models a side behind floor and
    excess. parts: an out-of-domain part and its like, apart. thirds: groups by training rows.
    damage: by training rows, or why it is not known.
    """

    level: str
    models: int
    paired: bool
    half: int
    overall: Slice
    groups: Mapping[str, Slice]
    parts: Mapping[str, Slice]
    thirds: Mapping[str, Slice]
    damage: Damage | str
    calibration: Sequence[CalibrationChange] | None
    power: Sequence[Power]
    overlaps: Sequence[Overlap]

    @property
    def measure(self) -> str:
        """What the excess is of."""
        return "exemplars" if self.overall.exemplars is not None else "shift"

    @property
    def above_floor(self) -> bool | None:
        """Whether more changed than between dense models; None where that is not known."""
        chance = self.overall.p_excess
        return None if chance is None else chance <= ALPHA

    def affected(self, better: bool) -> list[str]:
        """The groups that do better, or worse, than the level's mean change, by Holm."""
        return [
            name
            for name, one in self.groups.items()
            if one.p_holm is not None
            and one.t_welch is not None
            and one.p_holm <= ALPHA
            and (one.t_welch > 0) is better
        ]


@dataclass(frozen=True)
class Audit:
    """Every level against the dense one. `items` has a row for each item and level: id, group,
    reference, modal labels, whether they differ, taxicab distance or shift, and what it adds to
    the excess. scale: 100 where scores are shares, which people read in percentage points.
    resource: training rows of each group, where they are known.
    """

    name: str
    dense: str
    levels: Sequence[LevelAudit]
    permutations: int
    resamples: int
    seed: int
    signature: str
    scale: float
    resource: Mapping[str, float]
    notes: Sequence[str] = ()
    items: pa.Table | None = field(default=None, compare=False, repr=False)

    def headline(self) -> tuple[str, str]:
        """What was found above the noise floor, and whether the tail pays for it."""
        return _floor_line(self), _tail_line(self)

    def to_json(self) -> dict[str, Any]:
        """All but the items, as JSON has it."""
        told = {name: getattr(self, name) for name in ("name", "dense")}
        told["found"] = list(self.headline())
        told["levels"] = [
            {"measure": level.measure, "above_floor": level.above_floor, **asdict(level)}
            for level in self.levels
        ]
        names = ("permutations", "resamples", "seed", "signature")
        told |= {name: getattr(self, name) for name in names}
        return {**told, "notes": list(self.notes), "units": UNITS}

    def to_table(self) -> pa.Table:
        """A row for every level and slice: `kind` is overall, group, part or third."""
        rows = []
        for level in self.levels:
            kinds = {"overall": {"overall": level.overall}, "group": level.groups}
            kinds |= {"part": level.parts, "third": level.thirds}
            for kind, slices in kinds.items():
                for name, one in slices.items():
                    told = asdict(one)
                    rates = told.pop("rates")
                    row = {"level": level.level, "kind": kind, "name": name, **told.pop("score")}
                    for rate, values in rates.items():
                        keys = ("n", "dense", "compressed", "difference", "ci_low", "ci_high")
                        row |= {f"{rate}_{key}": values[key] for key in keys}
                    rows.append(row | told)
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])


def _floor_line(audit: Audit) -> str:
    told: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for level in audit.levels:
        one = level.overall
        if one.excess is None:
            told[None].append(level.level)
            continue
        scale = 100 if level.measure == "exemplars" else audit.scale
        unit = " % of items" if level.measure == "exemplars" else ""
        chance = f"{signed(scale * one.excess)}{unit}, p {p_value(one.p_excess)}"
        told[level.above_floor].append(f"{level.level} ({chance})")
    words = {True: "above it", False: "not above it", None: "one model a level, no floor"}
    parts = [f"{words[key]}: {', '.join(names)}" for key, names in told.items() if names]
    return f"Floor of {audit.dense} models among themselves — {'; '.join(parts)}"


def _tail_line(audit: Audit) -> str:
    told: dict[str, list[str]] = {}
    for level in audit.levels:
        one = level.damage
        if isinstance(one, str):
            told.setdefault("tail unknown", []).append(f"{level.level} ({one})")
        elif one.verdict == NO_EFFECT:
            told.setdefault(one.verdict, []).append(level.level)
        else:
            low, high = audit.scale * one.resource.ci_low, audit.scale * one.resource.ci_high
            value = gained(audit.scale * one.resource.value, low, high)
            ends = f"{level.level} ({value} {interval(low, high)} for ten times the training rows)"
            told.setdefault(one.verdict, []).append(ends)
    tail = "; ".join(f"{verdict}: {', '.join(levels)}" for verdict, levels in told.items())
    counts = ", ".join(
        f"{one.level} {len(one.affected(False))} and {len(one.affected(True))}"
        for one in audit.levels
    )
    groups = f"of {len(audit.levels[0].groups):,} groups (Holm)"
    return f"Given dense quality — {tail}. Lose more and less than all, {groups}: {counts}"
