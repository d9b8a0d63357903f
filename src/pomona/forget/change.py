"""What became of items between two systems: the numbers of a comparison, and how they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pomona.documents import read_json
from pomona.errors import PomonaError

FORMAT = 1
UNITS = {
    "accuracy_a, accuracy_b, flips": "shares of items, 0 to 1",
    "difference, ci_low, ci_high": "accuracy_b - accuracy_a: below 0 is a loss; -0.02 is 2 points",
    "lost, gained, changed": "items: right to wrong, wrong to right, with another answer",
    "p_mcnemar": "exact, two-sided, over items; p_holm and p_bh: corrected over the groups",
    "p_bootstrap": "of the difference, from the resamples that the interval is of",
}


@dataclass(frozen=True)
class Change:
    """What became of n items from A to B. Shares are in [0, 1]; `difference` is B − A, so that a
    loss is below 0.

    changed: items with another answer, right or wrong. flips: (lost + gained) / n.
    ci_low, ci_high: 95 %, paired; None where nothing is known of the error, and `note` says why.
    p_mcnemar: exact, items taken as independent. p_holm, p_bh: corrected over all groups; of all
        items together it is p_mcnemar, as that is one test.
    p_bootstrap: by the resamples of the interval, and like it over clusters where there are any.
    unseen: where nothing flipped, the share of items below which flips are with 95 % confidence, as
        the interval then has no width; None else.
    metric_…: by the further metric, in its own direction; None without one.
    """

    n: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    ci_low: float | None
    ci_high: float | None
    lost: int
    gained: int
    changed: int
    flips: float
    flips_low: float | None
    flips_high: float | None
    p_mcnemar: float
    p_bootstrap: float | None
    p_holm: float
    p_bh: float
    metric_a: float | None = None
    metric_b: float | None = None
    metric_difference: float | None = None
    metric_low: float | None = None
    metric_high: float | None = None
    unseen: float | None = None
    note: str | None = None


def unseen_rate(units: int) -> float:
    """The rate of flips of which none among so many units are seen in one of twenty cases: the end
    of the one-sided interval of Clopper & Pearson 1934.
    """
    return 1 - 0.05 ** (1 / units)


def note_of(units: int, flips: int, unit: str, what: str) -> str | None:
    """What the interval of `flips` of `what`, over so many units, does not say of itself."""
    if units < 2:
        return f"one {unit}: nothing is known of the error"
    if flips:
        return None
    return (
        f"no {what} flipped, so that the interval has no width: among {units:,} {unit}s up to "
        f"{100 * unseen_rate(units):.2g} % may still do so unseen"
    )


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same items. `items`, a `pyarrow.Table`, has a row for each: id, group,
    input, reference, the answers a and b, and the change (lost, gained, other, same); None where
    only the numbers were kept.
    """

    a: str
    b: str
    overall: Change
    groups: Mapping[str, Change]
    metric: str
    higher_is_better: bool
    signature: str
    seed: int
    resamples: int
    notes: Sequence[str] = ()
    items: Any = field(default=None, compare=False, repr=False)  # pydantic knows no pyarrow.Table

    def to_json(self) -> dict[str, Any]:
        """All but the items, as JSON has it."""
        told: dict[str, Any] = {"pomona_comparison": FORMAT, "a": self.a, "b": self.b}
        told["overall"] = asdict(self.overall)
        told["groups"] = {name: asdict(change) for name, change in self.groups.items()}
        names = ("metric", "higher_is_better", "seed", "resamples", "signature")
        told |= {name: getattr(self, name) for name in names}
        return {**told, "notes": list(self.notes), "units": UNITS}

    @classmethod
    def read(cls, path: str | Path) -> Comparison:
        """Read what `to_json` gave. Raises PomonaError for a missing, broken or newer file."""
        from pydantic import TypeAdapter, ValidationError

        remedy = "give two tables, or what `pomona forget compare A B --format json` wrote"
        document = read_json(path, remedy=remedy)
        version = document.pop("pomona_comparison", None)
        if version != FORMAT:
            message = f"has format {version}; this Pomona reads format {FORMAT}"
            raise PomonaError(message, where=path, remedy=remedy)
        try:
            return TypeAdapter(cls).validate_python({**document, "items": None})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            message = f"`{key}`: {first['msg']}"
            raise PomonaError(message, where=path, remedy=remedy) from None

    def to_table(self) -> pa.Table:
        """A row for all items, whose group is null, and one for each group."""
        rows = [{"group": None, **asdict(self.overall)}]
        rows += [{"group": name, **asdict(change)} for name, change in self.groups.items()]
        return pa.Table.from_pylist(rows)
