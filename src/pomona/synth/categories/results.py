"""What an annotation tells: how many rows are in which category, and how far people agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pomona.errors import quantity
from pomona.pages import UNKNOWN, clean, within
from pomona.synth.profile import Estimate

FORMAT = 1


@dataclass(frozen=True)
class CategoryAgreement:
    """A category against all others: rows that people, the annotation, and both put in it, of those
    that have both; and Cohen's kappa.
    """

    name: str
    human: int
    annotated: int
    both: int
    kappa: Estimate


@dataclass(frozen=True)
class Agreement:
    """An annotation beside what people said of the same rows.

    kappa: Cohen's over all categories; where rows may be in several, over whether a row is in each.
    agree: the share of rows, or of rows and categories, on which both say the same.
    confusion: rows by what people said and what was annotated, in the order of `names`; None where
        rows may be in several. Rows without a category are in none of this: `open` counts those.
    unmatched: labels of another table whose row is not in this one; ambiguous: of a text that is
        here more than once. examples: texts that both put elsewhere, with what people said and what
        was annotated.
    """

    labels: int
    open: int
    unmatched: int
    kappa: Estimate
    agree: Estimate
    categories: Sequence[CategoryAgreement]
    names: Sequence[str]
    confusion: Sequence[Sequence[int]] | None
    examples: Sequence[tuple[str, str, str]] = ()
    ambiguous: int = 0


@dataclass(frozen=True)
class Annotated:
    """Rows in categories.

    counts: rows by category; where rows may be in several, a row counts in each of its own.
    by: rows by what said it: rules, model. errors: rows without a category, by why. failed:
    questions that a model or a budget left open. sure: the mean share of draws that agree, None
    where nothing says it. spent: what all replies cost and what this run paid; None where no model
    was asked.
    """

    name: str
    rows: int
    counts: Mapping[str, int]
    by: Mapping[str, int]
    errors: Mapping[str, int]
    failed: int
    sure: float | None
    agreement: Agreement | None
    out: str
    signature: str
    seed: int
    notes: Sequence[str] = ()
    spent: Mapping[str, Any] | None = None
    several: bool = False

    @property
    def open(self) -> int:
        """Rows without a category."""
        return sum(self.errors.values())

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {"pomona_categories": FORMAT, **asdict(self), "open": self.open}

    def headline(self) -> str:
        """The rows and how far people agree, in a line."""
        head = f"{self.name}: {self.rows - self.open:,} of {self.rows:,} rows have a category"
        if self.agreement is None:
            return head
        return (
            f"{head}; κ {written(self.agreement.kappa)} with people on {self.agreement.kappa.n:,}"
        )

    def count_rows(self) -> list[dict[str, Any]]:
        """A row a category, as people read them."""
        done = max(1, self.rows - self.open)
        return [
            {"category": clean(name), "rows": count, "share": f"{count / done:.1%}"}
            for name, count in self.counts.items()
        ]

    def agreement_rows(self) -> list[dict[str, Any]]:
        """A row a category beside people, as people read them."""
        return [
            {
                "category": clean(one.name),
                "by people": one.human,
                "annotated": one.annotated,
                "both": one.both,
                "κ": written(one.kappa),
            }
            for one in (self.agreement.categories if self.agreement else ())
        ]

    def confusion_rows(self) -> list[dict[str, Any]]:
        """A row for each thing that people said, with what was annotated."""
        told = self.agreement
        if told is None or told.confusion is None:
            return []
        return [
            {"by people": clean(name), **dict(zip(map(clean, told.names), counts, strict=True))}
            for name, counts in zip(told.names, told.confusion, strict=True)
        ]

    def error_lines(self) -> list[str]:
        """Why rows have no category, a line each reason."""
        return [f"{quantity(count, 'row')}: {clean(why)}" for why, count in self.errors.items()]


def written(one: Estimate) -> str:
    """`0.531 [0.384, 0.684]`, or why there is none."""
    if one.value is None:
        return f"{UNKNOWN} ({one.reason})" if one.reason else UNKNOWN
    return within(one.value, one.ci_low, one.ci_high)
