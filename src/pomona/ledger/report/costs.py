"""What a gain costs, in words; which of two buys is cheaper, and from how many answers on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pomona.ledger.store import Entry, Ledger
from pomona.pages import count, flops


@dataclass(frozen=True)
class Crossing:
    """A size of the ladder that is cheaper per gain than a lever from (`above`) or up to so many
    `answers`.
    """

    rung: Entry
    answers: float
    above: bool


def cost(ledger: Ledger, entry: Entry) -> str:
    """The extra compute of an entry, as it ends a sentence about what the entry gains."""
    extra, once = ledger.extra(entry), entry.flops_once
    if extra is None or once is None:
        return "at a cost that is not known"
    if extra > 0:
        return f"for {flops(extra)} extra FLOPs"
    if once > 0:
        saved = ledger.baseline_of(entry).flops_per_item - entry.flops_per_item
        within = f"within {roughly(once / saved)} answers"
        return f"for {flops(once)} FLOPs once, which its cheaper answers save {within}"
    return "at no extra compute"


def worth(ledger: Ledger, entry: Entry) -> tuple[bool, float]:
    """What orders buys: those that take no extra compute by their gain, then the others by their
    gain per FLOP, those of unknown cost last.
    """
    gain, extra = ledger.gain(entry)[0], ledger.extra(entry)
    if extra is None:
        return False, -math.inf
    return (True, gain) if extra <= 0 else (False, gain / extra)


def crossing(ledger: Ledger, lever: Entry, sizes: Sequence[Entry]) -> Crossing | None:
    """The size of the ladder whose price per gain crosses that of `lever` at the number of answers
    nearest to the one that costs are counted for; None where the order never changes.

    Both prices are straight lines in the number of answers: what making it took, and what each
    answer costs beyond the base, over the gain as it was estimated.
    """
    found = []
    for size in sizes:
        once, each = (
            mine - its for mine, its in zip(_line(ledger, size), _line(ledger, lever), strict=True)
        )
        if once * each < 0:
            found.append(Crossing(size, -once / each, above=each < 0))
    here = math.log(max(1, ledger.meta.serve_items))
    return min(found, key=lambda one: abs(math.log(one.answers) - here), default=None)


def _line(ledger: Ledger, entry: Entry) -> tuple[float, float]:
    """FLOPs a unit of gain: once, and for each answer."""
    gain = ledger.gain(entry)[0]
    each = entry.flops_per_item - ledger.baseline_of(entry).flops_per_item
    return (entry.flops_once or 0.0) / gain, each / gain


def roughly(value: float) -> str:
    """`240,000`: two digits of a number that rests on estimates, and at least 1."""
    digits = 1 - math.floor(math.log10(value)) if value >= 1 else 0
    return count(max(1, round(value, digits)))
