"""Thresholds of compute in laws: facts with dates, where a training stands against them on a day,
and why they are no measure of risk.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pomona.documents import StrictModel, read_model
from pomona.errors import PomonaError

_TABLE = Path(__file__).with_name("thresholds.yaml")
_MOST = 1e60  # operations, far beyond any training: ratios of them are still numbers
_Day = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
# Hooker (2024), "On the limits of compute thresholds as a governance strategy", arXiv:2407.05694
CAVEATS = (
    "Compute is no measure of risk: the same ability takes less of it every year, by better data "
    "and methods, and none of these numbers moves with that (Hooker 2024).",
    "Only training is counted: samples, long thoughts, tools and retrieval at inference buy "
    "ability too, and stay below every threshold.",
    "What is one training is open: weights merged from several, distilled from a larger one or "
    "chosen by another model carry compute that nobody adds up.",
)


class Threshold(StrictModel):
    """A rule: what is above `flop` (or `share` of another training's) falls under it, `condition`
    given. It is in force from `from` on, and no more on the day in `to`.
    """

    key: str
    name: str
    authority: str
    rule: str
    flop: float | None = None
    share: float | None = None
    counts: str
    condition: str | None
    adopted: _Day
    start: _Day | None = Field(alias="from")
    to: _Day | None
    ended: str | None
    source: str
    note: str

    def in_force(self, day: dt.date) -> bool | None:
        """Whether it is in force on a day; None where its first day is not known."""
        if day < _day(self.adopted) or (self.to is not None and day >= _day(self.to)):
            return False
        return None if self.start is None else day >= _day(self.start)

    def status(self, day: dt.date) -> str:
        """The same in words."""
        if day < _day(self.adopted):
            return "not adopted yet"
        if self.to is not None and day >= _day(self.to):
            return f"{self.ended} on {self.to}"
        if self.start is None:
            return "adopted, its first day not known"
        if day < _day(self.start):
            return f"adopted, in force from {self.start}"
        return f"in force since {self.start}"


class _Table(StrictModel):
    checked: _Day
    rules: list[Threshold]


@dataclass(frozen=True)
class Standing:
    """A rule on a day, and a training against it. above: more than the threshold, `condition` left
    aside; ratio: training by threshold; both None where either is not known.
    """

    key: str
    name: str
    authority: str
    rule: str
    flop: float | None
    share: float | None
    counts: str
    condition: str | None
    adopted: str
    start: str | None
    to: str | None
    status: str
    in_force: bool | None
    above: bool | None
    ratio: float | None
    source: str
    note: str

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            ("from" if name == "start" else name): value for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Standings:
    """All rules of the table on a day. `flop`: what a training took, or None."""

    date: str
    checked: str
    flop: float | None
    original: float | None
    rules: Sequence[Standing]
    notes: Sequence[str]

    @property
    def signature(self) -> str:
        """All that the table depends on."""
        flop, original = (
            "unknown" if one is None else repr(float(one)) for one in (self.flop, self.original)
        )
        head = f"thresholds|date:{self.date}|checked:{self.checked}|flop:{flop}"
        return f"{head}|original:{original}|pomona:{version('pomona')}"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        told = {name: getattr(self, name) for name in ("date", "checked", "flop", "original")}
        told["rules"] = [rule.to_json() for rule in self.rules]
        return {**told, "notes": list(self.notes), "signature": self.signature}


def standings(flop: float | None, day: dt.date, original: float | None = None) -> Standings:
    """Every rule on a day, and a training against it."""
    for name, value, least in (("flop", flop, 0), ("original", original, 1)):
        if value is not None and not least <= value <= _MOST:
            remedy = f"give floating-point operations, {least} to {_MOST:.0e}"
            raise PomonaError(f"{name} is {value}", where="thresholds", remedy=remedy)
    table = _table()
    checked, notes = _day(table.checked), [*CAVEATS]
    if day > checked:
        notes.insert(
            0,
            f"The table was last checked on {table.checked}: later changes are not known to it.",
        )
    rules = [_standing(rule, day, checked, flop, original) for rule in table.rules]
    return Standings(day.isoformat(), table.checked, flop, original, rules, notes)


def _standing(
    rule: Threshold,
    day: dt.date,
    checked: dt.date,
    flop: float | None,
    original: float | None,
) -> Standing:
    number = rule.flop
    if rule.share is not None:
        number = None if original is None else rule.share * original
    fields = set(Standing.__dataclass_fields__) & set(Threshold.model_fields)
    said = {name: getattr(rule, name) for name in fields}
    status = rule.status(day)
    if rule.in_force(day) and day > checked:
        status += f", as known on {checked}"
    said |= {"flop": number, "status": status, "in_force": rule.in_force(day)}
    above = ratio = None
    if flop is not None and number is not None:
        # A third is no float: what is exactly a third of the original must not come out above it.
        slack = 0.0 if rule.share is None else 1e-12
        above, ratio = flop > number * (1 + slack), flop / number
    return Standing(**{**said, "above": above, "ratio": ratio})


def day_of(text: str | None) -> dt.date:
    """A day; today without one. Raises PomonaError where there is none such."""
    if text is None:
        return dt.datetime.now(dt.UTC).date()
    try:
        return dt.date.fromisoformat(text)
    except (TypeError, ValueError):
        raise PomonaError(
            f'"{text}" is no day', where="date", remedy="write it as 2026-01-01"
        ) from None


def _day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


@cache
def _table() -> _Table:
    return read_model(_TABLE, _Table, kind="table of thresholds", example=_TABLE.name)
