"""What a report says of markers, and how that is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pomona.errors import quantity

PAGE = "index.html"


@dataclass(frozen=True)
class Coverage:
    """What is known of a marker. `values` counts each, the most frequent first, None for numbers of
    many values; `tail` are those of less than a share of the rows of which it is known.
    """

    marker: str
    known: int
    share: float | None
    by: Mapping[str, int]
    sure: float | None
    values: Mapping[str, int] | None
    quantiles: Mapping[str, float] | None
    tail: Mapping[str, int]
    tail_rows: int


@dataclass(frozen=True)
class Report:
    """The coverage of each marker of a table, and of the training form the mean tokens of prompts
    and answers and of the lists in them; `times` is all of them by those without lists.
    """

    rows_in: int
    markers: tuple[Coverage, ...]
    tail_share: float
    tokens: Mapping[str, float] | None
    signature: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return asdict(self)

    def cost_lines(self) -> list[str]:
        """What lists cost, in a line, where that was counted."""
        if self.tokens is None:
            return []
        cost = {name.replace("_", "'s "): f"{value:.1f}" for name, value in self.tokens.items()}
        parts = ", ".join(f"{name} {value}" for name, value in cost.items() if name != "times")
        return [f"tokens: {parts}; in all {self.tokens['times']:.2f} times those without lists"]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of a table."""
        return [
            {
                "marker": one.marker,
                "known": one.known,
                "share": None if one.share is None else round(one.share, 4),
                "by": ", ".join(f"{name} {count:,}" for name, count in one.by.items()) or None,
                "sure": None if one.sure is None else round(one.sure, 3),
                "most frequent": _shown(one),
                "in the tail": f"{quantity(len(one.tail), 'value')}, "
                f"{quantity(one.tail_rows, 'row')}"
                if one.values
                else None,
            }
            for one in self.markers
        ]


def _shown(one: Coverage) -> str | None:
    if one.quantiles is not None:
        cuts = one.quantiles
        return f"median {cuts['0.5']:g}, {cuts['0.05']:g} to {cuts['0.95']:g}"
    if not one.values or not one.known:
        return None
    first = list(one.values.items())[:3]
    return ", ".join(f"{name} {count / one.known:.1%}" for name, count in first)
