"""The answer in words: which lever gives the most, for whom, at what cost."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.ledger.store import Entry, Ledger
from pomona.pages import clean, count, flops, gained, interval

SCALE = "scale"
SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~g')"  # how charts write a gain


@dataclass(frozen=True)
class Conclusion:
    """One sentence, and the sentences that qualify it."""

    headline: str
    details: list[str]


def levers(ledger: Ledger, group: str = "overall") -> list[Entry]:
    """The entries of one group that are compared with the base and are neither the base, a size of
    the ladder, nor a bound.
    """
    meta = ledger.meta
    left_out = {meta.base, *meta.bounds}
    return [
        entry
        for entry in ledger.of(group)
        if entry.lever != SCALE and entry.variant not in left_out and entry.baseline == meta.base
    ]


def bounds(ledger: Ledger) -> list[Entry]:
    """What only the references could choose: the limits of a lever, not something a system
    reaches.
    """
    return [entry for entry in ledger.of("overall") if entry.variant in ledger.meta.bounds]


def rungs(ledger: Ledger, group: str = "overall") -> list[Entry]:
    """The sizes of the ladder above the base, smallest first."""
    larger = {
        rung.variant: rung.parameters
        for rung in ledger.meta.rungs
        if rung.parameters > ledger.meta.base_parameters
    }
    measured = [
        entry
        for entry in ledger.of(group)
        if entry.lever == SCALE and entry.variant in larger and entry.baseline == ledger.meta.base
    ]
    return sorted(measured, key=lambda entry: larger[entry.variant])


def answer(ledger: Ledger) -> Conclusion:
    """The headline names the measurable gain with the most per unit of compute; an interval that
    includes zero is no gain.
    """
    tried = levers(ledger)
    better = [entry for entry in tried if ledger.gain(entry)[1] > 0]
    base = clean(ledger.meta.base)
    if not tried:
        return Conclusion(f"This ledger measures no lever against {base}.", _ladder(ledger))
    if not better:
        return Conclusion(
            f"No lever shows a measurable gain over {base}: no 95 % interval lies above zero.",
            _losses(ledger) + _ladder(ledger) + _limits(ledger),
        )
    best = max(better, key=lambda entry: _worth(ledger, entry))
    largest = max(better, key=lambda entry: ledger.gain(entry)[0])
    bought = f"{_name(best)}: {_gain(ledger, best)} over {base} {_cost(ledger, best)}"
    also, details = ", and the largest gain", []
    if largest is not best:
        gain, cost = _gain(ledger, largest), _cost(ledger, largest)
        also, details = "", [f"The largest gain is {_name(largest)}: {gain} {cost}."]
    details += _ladder(ledger) + _tail(ledger, best) + _losses(ledger) + _limits(ledger)
    if len(tried) > 1:
        details.append(
            f"{len(tried)} variants were compared; the intervals are not widened for "
            "choosing the best of them."
        )
    return Conclusion(f"The best buy per FLOP is {bought}{also}.", details)


def best_of_levers(ledger: Ledger) -> list[Entry]:
    """The variant with the largest overall gain of each lever, in the ledger's order of levers."""
    best: dict[str, Entry] = {}
    for entry in levers(ledger):
        if entry.lever not in best or ledger.gain(entry)[0] > ledger.gain(best[entry.lever])[0]:
            best[entry.lever] = entry
    return list(best.values())


def _worth(ledger: Ledger, entry: Entry) -> tuple[bool, float]:
    gain, extra = ledger.gain(entry)[0], ledger.extra(entry)
    return (True, gain) if extra <= 0 else (False, gain / extra)


def _name(entry: Entry) -> str:
    return f"{clean(entry.lever)} ({clean(entry.variant)})"


def _gain(ledger: Ledger, entry: Entry) -> str:
    gain, low, high = ledger.gain(entry)
    unbroken = interval(low, high).replace(" ", "\u00a0")
    return f"{gained(gain, low, high)} {clean(ledger.meta.metric)} {unbroken}"


def _cost(ledger: Ledger, entry: Entry) -> str:
    extra = ledger.extra(entry)
    return "at no extra compute" if extra <= 0 else f"for {flops(extra)} extra FLOPs"


def _ladder(ledger: Ledger) -> list[str]:
    sizes = rungs(ledger)
    if not sizes:
        return [
            "No ladder was measured, so nothing here says what a bigger model would have bought."
        ]
    size = sizes[0]
    bought = f"{_gain(ledger, size)} {_cost(ledger, size)}"
    return [f"The next size up, {clean(size.variant)}, gains {bought}."]


def _tail(ledger: Ledger, best: Entry) -> list[str]:
    for entry in levers(ledger, "tail"):
        if (entry.lever, entry.variant) == (best.lever, best.variant):
            _, low, high = ledger.gain(entry)
            verdict = "a measurable loss, " if high < 0 else "no measurable gain, "
            gives = f"{'' if low > 0 else verdict}{_gain(ledger, entry)} on {count(entry.n)} items"
            return [f"In the tail {clean(best.variant)} gives {gives}."]
    return []


def _losses(ledger: Ledger) -> list[str]:
    unclear = [
        entry for entry in levers(ledger) if ledger.gain(entry)[1] <= 0 <= ledger.gain(entry)[2]
    ]
    worse = [entry for entry in levers(ledger) if ledger.gain(entry)[2] < 0]
    said = [
        ("No measurable gain (the interval includes zero)", unclear),
        ("Measurably worse than the base", worse),
    ]
    return [
        f"{words}: {', '.join(_name(entry) for entry in entries)}."
        for words, entries in said
        if entries
    ]


def _limits(ledger: Ledger) -> list[str]:
    said = [f"{clean(entry.variant)} {_gain(ledger, entry)}" for entry in bounds(ledger)]
    return [f"Bounds that only the references could choose: {', '.join(said)}."] if said else []
