"""What a report tells apart: sizes of the ladder, levers, controls and bounds; which gains are
gains; and the ledger as it looks entries up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from pomona.ledger.entry import AXES, Axis, Entry
from pomona.ledger.store import Ledger
from pomona.pages import amount, clean, flops, gained, interval

SCALE, CONTROL, STACK, RANDOM = "scale", "control", "stack", "/random"
_PERCENT, _NEAR_ZERO = {"chrf", "chrf++", "exact_match"}, 1.0
_OF_ONE = "|lm-eval:"  # in signatures of metrics that are mostly parts of one
SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~g')"  # how charts write a gain
GroupName = str | None


@dataclass(frozen=True)
class AxisWords:
    """How an axis of costs is told: `3×10¹² extra FLOPs`, extra compute, per FLOP."""

    unit: str
    whole: str
    one: str
    write: Callable[[float | None], str]


WORDS: dict[Axis, AxisWords] = {
    "flops": AxisWords("FLOPs", "compute", "FLOP", flops),
    "money": AxisWords("money", "money", "unit of money", amount),
    "tokens": AxisWords("tokens", "tokens", "token", amount),
    "seconds": AxisWords("CPU seconds", "processor time", "CPU second", amount),
}


class View(Ledger):
    """A ledger that does not change any more, with an index, and the axis on which its costs are
    compared: the first one that is known for all systems, unless given.
    """

    def __init__(self, ledger: Ledger, axis: Axis | None = None) -> None:
        super().__init__(ledger.meta, ledger.entries)
        self.axis: Axis = axis or _known_axis(self)

    @property
    def words(self) -> AxisWords:
        """The words of its axis."""
        return WORDS[self.axis]

    @cached_property
    def leading(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `Ledger.leading`."""
        return super().leading

    @cached_property
    def metrics(self) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `Ledger.metrics`."""
        return super().metrics

    @cached_property
    def _of(self) -> dict[tuple[str, str], list[Entry]]:
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            found.setdefault((entry.group, entry.metric), []).append(entry)
        return found

    @cached_property
    def _first(self) -> dict[tuple[str, str | None], Entry]:
        return super().first_of_variants()

    @cached_property
    def _parts(self) -> dict[str, str]:
        return super().parts()

    @cached_property
    def _decimals(self) -> dict[str, int]:
        return super().decimals()

    @cached_property
    def _same(self) -> dict[tuple[str, str, str, int], dict[tuple[str, str], Entry]]:
        found: dict[tuple[str, str, str, int], dict[tuple[str, str], Entry]] = {}
        for entry in self.entries:
            found.setdefault(_key(entry), {})[entry.group, entry.metric] = entry
        return found

    @cached_property
    def order(self) -> list[str]:
        """The names of the levers, by which the charts of a page give them the same colours."""
        there = [*levers(self), *on_request(self)]
        return list(dict.fromkeys(clean(entry.lever) for entry in there))

    def of(self, group: str) -> list[Entry]:
        """See `Ledger.of`."""
        return self._of.get((group, self.leading), [])

    def first_of_variants(self) -> dict[tuple[str, str | None], Entry]:
        """See `Ledger.first_of_variants`."""
        return self._first

    def parts(self) -> dict[str, str]:
        """See `Ledger.parts`."""
        return self._parts

    def decimals(self) -> dict[str, int]:
        """See `Ledger.decimals`."""
        return self._decimals

    def within(self, entry: Entry, group: str, metric: str = "") -> Entry | None:
        """The entry of the same variant and baseline in another group or by another metric."""
        return self._same[_key(entry)].get((group, metric or entry.metric))

    def extra(self, entry: Entry, axis: Axis | None = None) -> float | None:
        """See `Ledger.extra`; on the view's own axis unless told otherwise."""
        return super().extra(entry, axis or self.axis)

    def line(self, entry: Entry) -> tuple[float, float] | None:
        """What making a variant took beyond its baseline, and what each answer takes beyond the
        baseline's; None where a part of it is not known.
        """
        once, each = entry.spent(self.axis)
        its = self.baseline_of(entry).spent(self.axis)[1]
        return None if once is None or each is None or its is None else (once, each - its)

    def write_cost(self, value: float | None) -> str:
        """An amount on the axis."""
        return self.words.write(value)

    def write_tick(self, value: float) -> str:
        """A round amount beside a mark of the axis: `10¹²`, `0.2`."""
        text = self.words.write(value).removeprefix("1×")
        return text.rstrip("0").rstrip(".") if "." in text else text


def _key(entry: Entry) -> tuple[str, str, str, int]:
    return entry.lever, entry.variant, entry.baseline, entry.seed


def _known_axis(ledger: Ledger) -> Axis:
    group = ledger.parts()["all"]
    systems = [*rungs(ledger, group), *levers(ledger, group)]
    known: dict[Axis, int] = {
        axis: sum(ledger.extra(entry, axis) is not None for entry in systems) for axis in AXES
    }
    return max(known, key=lambda axis: known[axis])  # of several the first


def of(ledger: Ledger, group: GroupName) -> list[Entry]:
    """The entries of a group, of all items unless given."""
    return ledger.of(ledger.parts()["all"] if group is None else group)


def is_random(entry: Entry) -> bool:
    """Whether it is a choice by chance, beside which a selection is judged."""
    return entry.variant.endswith(RANDOM)


def levers(ledger: Ledger, group: GroupName = None) -> list[Entry]:
    """The entries of one group that are compared with the base and are neither the base, a size of
    the ladder, a control, nor a bound.
    """
    meta = ledger.meta
    left_out = {meta.base, *meta.bounds}
    return [
        entry
        for entry in of(ledger, group)
        if entry.lever not in (SCALE, CONTROL)
        and entry.variant not in left_out
        and entry.baseline == meta.base
        and not is_random(entry)
    ]


def rungs(ledger: Ledger, group: GroupName = None) -> list[Entry]:
    """The sizes of the ladder above the base, smallest first."""
    larger = {
        rung.variant: rung.parameters
        for rung in ledger.meta.rungs
        if rung.parameters > (ledger.meta.base_parameters or 0)
    }
    measured = [
        entry
        for entry in of(ledger, group)
        if entry.lever == SCALE and entry.variant in larger and entry.baseline == ledger.meta.base
    ]
    return sorted(measured, key=lambda entry: larger[entry.variant])


def controls(ledger: Ledger, group: GroupName = None) -> list[Entry]:
    """What asks no model, costs nearly nothing and must be beaten."""
    return [
        entry
        for entry in of(ledger, group)
        if entry.lever == CONTROL
        and entry.baseline == ledger.meta.base
        and not is_random(entry)
        and entry.variant not in ledger.meta.bounds
    ]


def on_request(ledger: Ledger, group: GroupName = None) -> list[Entry]:
    """What only references could choose, and what chance chose: no system that anybody would use,
    so that pictures show it where it is asked for.
    """
    return [
        entry
        for entry in of(ledger, group)
        if entry.baseline == ledger.meta.base
        and (entry.variant in ledger.meta.bounds or is_random(entry))
    ]


def base_of(ledger: Ledger, group: str) -> Entry | None:
    """The base's own entry in a group."""
    return next((e for e in ledger.of(group) if e.variant == ledger.meta.base), None)


def useless(ledger: Ledger, entry: Entry) -> str:
    """Why an entry's answers are of no use: they are no better than copies of the sources, or
    nearly all wrong. Empty where neither is so.
    """
    sign = 1 if ledger.meta.higher_is_better else -1
    decimals = ledger.decimals()[entry.group]
    value, copied = entry.value, ledger.meta.copying.get(entry.group)
    told = f"{clean(ledger.meta.metric)} {value:.{decimals}f}"
    if copied is not None and sign * value <= sign * copied:
        return f"does no better than copying the source, {told} against {copied:.{decimals}f}"
    percent = entry.metric in _PERCENT and _OF_ONE not in entry.signature
    near_zero = percent and value < _NEAR_ZERO
    return f"is near zero, {told}" if near_zero else ""


def best_of_levers(ledger: Ledger) -> list[Entry]:
    """The variant with the largest gain of each lever, in the ledger's order of levers."""
    best: dict[str, Entry] = {}
    for entry in levers(ledger):
        if entry.lever not in best or ledger.gain(entry)[0] > ledger.gain(best[entry.lever])[0]:
            best[entry.lever] = entry
    return list(best.values())


def gain_text(ledger: Ledger, entry: Entry, *, metric: bool = True) -> str:
    """`+1.30 chrF [+0.76, +1.88]`, the interval unbroken at the end of a line."""
    gain, low, high = ledger.gain(entry)
    unbroken = interval(low, high).replace(" ", "\u00a0")
    leads = entry.metric == ledger.leading
    name = clean(ledger.meta.metric if leads else entry.metric)
    return f"{gained(gain, low, high)} {f'{name} ' if metric else ''}{unbroken}"
