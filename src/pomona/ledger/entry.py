"""One line of the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ScaleEquivalent:
    """How many times the baseline's parameters the ladder needs for the same value, with the bounds
    of its interval.

    A bound outside the measured sizes is None and `note` says "beyond the ladder" or "below the
    ladder".
    """

    ratio: float | None
    ci_low: float | None
    ci_high: float | None
    note: str = ""

    def __str__(self) -> str:
        if self.ratio is None:
            return self.note
        low = "<" if self.ci_low is None else f"{self.ci_low:.2g}"
        high = ">" if self.ci_high is None else f"{self.ci_high:.2g}"
        return f"×{self.ratio:.2f} [{low}, {high}]"


@dataclass(frozen=True)
class Entry:
    """A lever's variant measured on one group against a baseline. `delta` = value − baseline value,
    with a 95 % interval.

    `flops_once` and `tokens` are what making the variant cost beyond the baseline; `flops_per_item`
    is what answering one item costs. `seconds` are CPU seconds. `seeds` is how often the variant
    was trained. `group` is "overall", "tail", "head" or a value of the group column.
    """

    lever: str
    variant: str
    metric: str
    group: str
    baseline: str
    value: float
    delta: float
    ci_low: float
    ci_high: float
    n: int
    flops_once: float
    flops_per_item: float
    tokens: int
    seconds: float
    scale_equivalent: ScaleEquivalent | None
    seed: int
    signature: str
    seeds: int = 1

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, `scale_equivalent` nested or null."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Entry:
        """The inverse of `to_json`."""
        nested = row["scale_equivalent"]
        return cls(**{**row, "scale_equivalent": ScaleEquivalent(**nested) if nested else None})
