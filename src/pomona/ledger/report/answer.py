"""The answer in words: which lever gives the most, for whom, at what cost."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.ledger.report.costs import cost, crossing, roughly, worth
from pomona.ledger.store import Entry, Ledger
from pomona.pages import clean, count, gained, interval

SCALE, CONTROL = "scale", "control"
_PERCENT, _NEAR_ZERO = {"chrf", "chrf++", "exact_match"}, 1.0
SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~g')"  # how charts write a gain


@dataclass(frozen=True)
class Conclusion:
    """One sentence, and the sentences that qualify it."""

    headline: str
    details: list[str]


def levers(ledger: Ledger, group: str = "overall") -> list[Entry]:
    """The entries of one group that are compared with the base and are neither the base, a size of
    the ladder, a control, nor a bound.
    """
    meta = ledger.meta
    left_out = {meta.base, *meta.bounds}
    return [
        entry
        for entry in ledger.of(group)
        if entry.lever not in (SCALE, CONTROL)
        and entry.variant not in left_out
        and entry.baseline == meta.base
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
    """The headline names the measurable gain with the most per unit of compute, a bigger model
    among them. An interval that includes zero is no gain, and answers of no use are not praised for
    being less bad.
    """
    tried, base, warned = levers(ledger), clean(ledger.meta.base), _warned(ledger)
    measured = [*map(clean, ledger.meta.warnings), *_controls(ledger)]
    ends = [*_ladder(ledger), *_unknown(ledger)]
    if not tried:
        return Conclusion(
            f"This ledger measures no lever against {base}.", warned + measured + ends
        )
    gaining = [entry for entry in tried if _gains(ledger, entry)]
    better = [entry for entry in gaining if not _useless(ledger, entry)]
    if not better:
        none = f"No lever shows a measurable gain over {base}: no 95 % interval lies above zero."
        headline, *said = [*warned, *(_no_use(ledger, gaining) if gaining else [none])]
        details = [*measured, *said, *_losses(ledger), *ends, *_limits(ledger)]
        return Conclusion(headline, details)
    best = max(better, key=lambda entry: worth(ledger, entry))
    largest = max(better, key=lambda entry: ledger.gain(entry)[0])
    details = [*warned, *measured]
    if largest is not best:
        gain, paid = _gain(ledger, largest), cost(ledger, largest)
        details.append(f"The largest gain of a lever is {_name(largest)}: {gain} {paid}.")
    details += [*ends, *_tail(ledger, best), *_losses(ledger), *_limits(ledger)]
    if len(tried) > 1:
        holm = ": p (Holm) is corrected for that" if best.p_holm is not None else ""
        details.append(
            f"{len(tried)} variants were compared; the intervals are not widened for "
            f"choosing the best of them{holm}."
        )
    return Conclusion(_headline(ledger, best, largest), details)


def _headline(ledger: Ledger, best: Entry, largest: Entry) -> str:
    """The best lever beside the larger sizes: which is cheaper per gain, and up to or from how many
    answers.
    """
    sizes, base = _priced(ledger), clean(ledger.meta.base)
    bought = f"{_name(best)}: {_gain(ledger, best)} over {base} {cost(ledger, best)}"
    if ledger.extra(best) is None:
        return f"The largest gain of a lever is {bought}."
    size = max(sizes, key=lambda one: worth(ledger, one), default=best)
    if worth(ledger, size) > worth(ledger, best):
        crossed, name = crossing(ledger, best, [size]), clean(size.variant)
        told = ""
        if crossed:
            answers = f"about {roughly(crossed.answers)} answers"
            told = f" up to {answers}" if crossed.above else f" from {answers} on"
            told = f"; it is the cheaper per gain{told}"
        return (
            f"The best buy per FLOP is a bigger model, {name}: {_gain(ledger, size)} over {base} "
            f"{cost(ledger, size)}. The best lever is {bought}{told}."
        )
    if best is largest and all(_no_more(ledger, one, best) for one in rungs(ledger)):
        bought += ", and the largest gain"
    if crossed := crossing(ledger, best, sizes):
        answers, name = f"about {roughly(crossed.answers)} answers", clean(crossed.rung.variant)
        told = f"from {answers} on" if crossed.above else f"up to {answers}"
        bought += f"; {told} the larger {name} is cheaper per gain"
    return f"The best buy per FLOP is {bought}."


def _gains(ledger: Ledger, entry: Entry) -> bool:
    return min(ledger.gain(entry)[:2]) > 0


def _no_more(ledger: Ledger, size: Entry, lever: Entry) -> bool:
    return ledger.gain(size)[0] <= ledger.gain(lever)[0]


def best_of_levers(ledger: Ledger) -> list[Entry]:
    """The variant with the largest overall gain of each lever, in the ledger's order of levers."""
    best: dict[str, Entry] = {}
    for entry in levers(ledger):
        if entry.lever not in best or ledger.gain(entry)[0] > ledger.gain(best[entry.lever])[0]:
            best[entry.lever] = entry
    return list(best.values())


def _name(entry: Entry) -> str:
    return f"{clean(entry.lever)} ({clean(entry.variant)})"


def _gain(ledger: Ledger, entry: Entry) -> str:
    gain, low, high = ledger.gain(entry)
    unbroken = interval(low, high).replace(" ", "\u00a0")
    return f"{gained(gain, low, high)} {clean(ledger.meta.metric)} {unbroken}"


def _priced(ledger: Ledger) -> list[Entry]:
    """The larger sizes with a measurable gain of which it is known what they took."""
    return [
        size
        for size in rungs(ledger)
        if ledger.gain(size)[1] > 0 and size.flops_once is not None and not _useless(ledger, size)
    ]


def _ladder(ledger: Ledger) -> list[str]:
    sizes = rungs(ledger)
    if not sizes:
        return [
            "No ladder was measured, so nothing here says what a bigger model would have bought."
        ]
    size = sizes[0]
    bought = f"{_gain(ledger, size)} {cost(ledger, size)}"
    return [f"The next size up, {clean(size.variant)}, gains {bought}."]


def _unknown(ledger: Ledger) -> list[str]:
    """What could not be compared by compute, and what to do about it."""
    unknown = [entry for entry in [*rungs(ledger), *levers(ledger)] if entry.flops_once is None]
    if not unknown:
        return []
    names = ", ".join(clean(entry.variant) for entry in unknown)
    remedy = (
        ": give the tokens it was trained on in the recipe's ladder"
        if any(entry.lever == SCALE for entry in unknown)
        else ""
    )
    return [f"What making it took is not known, so no gain per FLOP is told of {names}{remedy}."]


def _useless(ledger: Ledger, entry: Entry) -> str:
    """Why an entry's answers are of no use: they are no better than copies of the sources, or
    nearly all wrong. Empty where neither is so.
    """
    sign = 1 if ledger.meta.higher_is_better else -1
    decimals = ledger.decimals()[entry.group]
    value, copied = entry.value, ledger.meta.copying.get(entry.group)
    told = f"{clean(ledger.meta.metric)} {value:.{decimals}f}"
    if copied is not None and sign * value <= sign * copied:
        return f"does no better than copying the source, {told} against {copied:.{decimals}f}"
    near_zero = entry.metric in _PERCENT and value < _NEAR_ZERO
    return f"is near zero, {told}" if near_zero else ""


def _warned(ledger: Ledger) -> list[str]:
    """That differences from the base mean nothing, where its answers are of no use."""
    base = next(entry for entry in ledger.of("overall") if entry.variant == ledger.meta.base)
    why = _useless(ledger, base)
    nothing = "differences between answers of no use mean nothing"
    return [f"The base {clean(base.variant)} {why}: {nothing}."] if why else []


def controls(ledger: Ledger, group: str = "overall") -> list[Entry]:
    """What costs nearly nothing and must be beaten."""
    return [entry for entry in ledger.of(group) if entry.lever == CONTROL]


def _controls(ledger: Ledger) -> list[str]:
    """The strongest control beside the strongest system, in all items and in the tail."""
    sign = 1 if ledger.meta.higher_is_better else -1
    told = []
    for group in ("overall", "tail"):
        there = controls(ledger, group)
        bounds_ = ledger.meta.bounds
        systems = [e for e in ledger.of(group) if e.lever != CONTROL and e.variant not in bounds_]
        if not there or not systems:
            continue
        control, system = (max(some, key=lambda e: sign * e.value) for some in (there, systems))
        decimals, where = ledger.decimals()[group], "" if group == "overall" else " in the tail"
        name, best, metric = map(clean, (control.variant, system.variant, ledger.meta.metric))
        ours, theirs = f"{system.value:.{decimals}f}", f"{control.value:.{decimals}f}"
        if sign * control.value >= sign * system.value:
            told.append(
                f"The control {name}, which asks no model, has {metric} {theirs}{where}; the best "
                f"that was measured, {best}, has {ours}."
            )
        else:
            told.append(
                f"The strongest control{where}, {name}, has {metric} {theirs} without a model, "
                f"and {best} has {ours}."
            )
    return told


def _no_use(ledger: Ledger, gaining: list[Entry]) -> list[str]:
    said = "; ".join(f"{_name(entry)} {_useless(ledger, entry)}" for entry in gaining)
    return [f"Above the base, and of no use: {said}."]


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
