"""The answer in words: what gives the most, for whom, at what cost, and whether it is more than
what costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pomona.ledger.entry import Entry
from pomona.ledger.report.costs import (
    FEWEST,
    MOST,
    Buy,
    between,
    buys,
    cost,
    overtaking,
    roughly,
    share,
)
from pomona.ledger.systems import (
    SCALE,
    View,
    base_of,
    controls,
    gain_text,
    levers,
    rungs,
    useless,
)
from pomona.pages import clean, count, gained

_WHERE = {"overall": "overall", "warm": "on warm items"}
_SURE = {"better": "a gain", "worse": "a loss", "unclear": "not measurable"}
_PARTS = (("tail", "in the tail"), ("cold", "on cold items"))


@dataclass(frozen=True)
class Conclusion:
    """What to know first, the sentences that qualify it, and what else the entries say."""

    headline: str
    details: list[str]
    more: list[str]


def answer(ledger: View) -> Conclusion:
    """The headline names the best control where nothing beats it; the system with the largest gain,
    a bigger model among them, and the best lever, with what they cost beside the ladder and for
    whom they gain.

    A gain is one where its interval lies above zero and, where many were compared, its corrected
    p-value is below .05. Answers of no use are not praised for being less bad.
    """
    gaining = [e for e in [*rungs(ledger), *levers(ledger)] if ledger.verdict(e) == "better"]
    systems = sorted(
        (entry for entry in gaining if not useless(ledger, entry)),
        key=lambda entry: -ledger.gain(entry)[0],
    )
    useful = [entry for entry in systems if entry.lever != SCALE]
    shown = [*systems[:1], *(entry for entry in useful[:1] if entry is not systems[0])]
    no_use, warnings = _warned(ledger), [*map(clean, ledger.meta.warnings)]
    if shown:
        told = [_told(ledger, shown), _control(ledger, shown[0])]
        told = told[::-1] if _beaten(ledger, shown[0]) else told
        own = [line for entry in shown for line in _own_control(ledger, entry)]
        details = [*own, *no_use, *warnings, *_life(ledger)]
    else:
        told = no_use or _no_use(ledger, gaining) or [_nothing(ledger)]
        said, control = _no_use(ledger, gaining) if no_use else [], _control(ledger, None)
        told = [control, *told] if _beaten(ledger, None) else told
        details = [*said, *warnings, *([] if _beaten(ledger, None) else [control])]
    for entry in shown:
        details += [*_elsewhere(ledger, entry), *_judged(ledger, entry)]
    details += [*_base_in_parts(ledger), *_no_ladder(ledger)]
    more = [*_next(ledger), *_losses(ledger), *_unknown(ledger), *_limits(ledger)]
    more += _compared(ledger)
    return Conclusion(" ".join(filter(None, told)), [*filter(None, details)], more)


def _nothing(ledger: View) -> str:
    base = clean(ledger.meta.base)
    if not levers(ledger) and not rungs(ledger):
        return f"This ledger measures no lever against {base}."
    return f"Nothing shows a measurable gain over {base}."


def _told(ledger: View, shown: list[Entry]) -> str:
    """The best system and, where that is a bigger model, the best lever."""
    best, base = shown[0], clean(ledger.meta.base)
    of = "Of what asks a model, " if _beaten(ledger, best) else ""
    where = f" {_WHERE[best.group]}" if best.group != "overall" else ""
    value = f"{clean(ledger.meta.metric)} {_value(ledger, best)}"
    gain = f"{gain_text(ledger, best, metric=False)} over {base}{where}{_for_whom(ledger, best)}"
    if best.lever != SCALE:
        name = f"{of}{clean(best.variant)}"
        return f"{name} gives the most: {value}, {gain}, {share(ledger, best)}."
    bigger = f"{of}a bigger one" if of else "A bigger model"
    told = f"{bigger} gives the most: {clean(best.variant)}, {value}, {gain}."
    if len(shown) == 1:
        return f"{told} No lever gains measurably." if levers(ledger) else told
    lever = shown[1]
    gain = f"{gain_text(ledger, lever, metric=False)}{_for_whom(ledger, lever)}"
    return f"{told} The best lever, {clean(lever.variant)}, gives {gain}, {share(ledger, lever)}."


def _for_whom(ledger: View, entry: Entry) -> str:
    """` (+1.87 in the tail, no measurable gain on cold items)`."""
    told = []
    for part, where in _PARTS:
        there = ledger.within(entry, ledger.parts().get(part, ""))
        if there is None:
            continue
        sure = ledger.verdict(there) != "unclear"
        told.append(f"{gained(*ledger.gain(there)) if sure else 'no measurable gain'} {where}")
    return f" ({', '.join(told)})" if told else ""


def _value(ledger: View, entry: Entry) -> str:
    return f"{entry.value:.{ledger.decimals()[entry.group]}f}"


def strongest(ledger: View, group: str | None = None) -> Entry | None:
    """The best of the controls in a group."""
    return max(controls(ledger, group), key=lambda one: ledger.gain(one)[0], default=None)


def _beaten(ledger: View, best: Entry | None) -> bool:
    """Whether a control is at least as good as the best system or, where none gains, gains
    itself.
    """
    control = strongest(ledger)
    if control is None:
        return False
    if best is None:
        return ledger.verdict(control) == "better"
    return ledger.gain(control)[0] >= ledger.gain(best)[0]


def _control(ledger: View, best: Entry | None) -> str:
    """The strongest control, after the best system, or before it where that does not beat it."""
    control, metric = strongest(ledger), clean(ledger.meta.metric)
    if control is None:
        return ""
    name, value = clean(control.variant), f"{metric} {_value(ledger, control)}"
    if _beaten(ledger, best):
        told = [f"{value} {_WHERE[control.group]}"]
        for part, where in _PARTS:
            if there := ledger.within(control, ledger.parts().get(part, "")):
                told.append(f"{_value(ledger, there)} {where}")
        return f"Best is a control that asks no model: {name}, {', '.join(told)}."
    above = _above(ledger, best, control) if best else ""
    return f"The strongest control, {name}, has {value} without a model{above}."


def _above(ledger: View, best: Entry, control: Entry) -> str:
    """The difference of the two with its interval, where it was measured."""
    for entry in ledger.of(best.group):
        if (entry.variant, entry.baseline) == (best.variant, control.variant):
            sure = "" if ledger.verdict(entry) == "better" else ", no measurable difference"
            return f"; the difference is {gain_text(ledger, entry, metric=False)}{sure}"
    return ""


def _own_control(ledger: View, entry: Entry) -> list[str]:
    """What a system gives over its own control, which is itself without its model, a choice by
    chance or the step below of a stack; and the cheapest system that it is not measurably above.
    """
    control, name = strongest(ledger), clean(entry.variant)
    told = {ledger.meta.base, entry.variant, *([control.variant] if control else [])}
    there, said = ledger.of(entry.group), list[str]()
    against = [e for e in there if e.variant == entry.variant and e.baseline not in told]
    for one in against:
        gain = gain_text(ledger, one, metric=False)
        said.append(
            f"Over {clean(one.baseline)}, {name} gives {gain}: {_SURE[ledger.verdict(one)]}."
        )
    alike = {one.baseline for one in against if ledger.verdict(one) != "better"}
    over = [e for e in there if e.baseline == entry.variant and ledger.verdict(e) != "worse"]
    if cheap := _cheapest(ledger, entry, alike | {one.variant for one in over}):
        value = f"{clean(ledger.meta.metric)} {_value(ledger, cheap)}"
        costs = f"{clean(cheap.variant)} costs less and is not measurably below {name}"
        said.append(f"{costs}: {value}, {cost(ledger, cheap)}.")
    return said


def _cheapest(ledger: View, entry: Entry, names: set[str]) -> Entry | None:
    """The one that takes the least of the systems of these names, if less than an entry takes."""
    its = ledger.extra(entry)
    costs = [
        (extra, one)
        for one in [*rungs(ledger), *levers(ledger)]
        if one.variant in names and (extra := ledger.extra(one)) is not None
    ]
    cheaper = [pair for pair in costs if its is not None and pair[0] < its]
    return min(cheaper, key=lambda pair: pair[0])[1] if cheaper else None


def _life(ledger: View) -> list[str]:
    """Which buy is the cheapest per gain, from how many answers on."""
    found, words = buys(ledger), ledger.words
    if not found:
        return []
    among = " among models" if _beaten(ledger, found[0].entry) else ""
    first = f"Per {words.one} the best buy{among} is {_named(found[0])}"
    later = [f"{_named(buy)} from about {roughly(buy.answers)}{between(buy)}" for buy in found[1:]]
    if not later:
        told = [f"{first}, for any number of answers from {FEWEST:,.0f} to {MOST:,.0f}."]
    else:
        told = [f"{first} for few answers, {', '.join(later)} answers on."]
    over = [
        f"{_named(buy)} from about {roughly(buy.answers)}{between(buy)}"
        for buy in overtaking(ledger, found)
    ]
    if over:
        told.append(f"Than {_named(found[0])} a better buy is {', '.join(over)} answers on.")
    return told


def _named(buy: Buy) -> str:
    return clean(buy.entry.variant)


def _elsewhere(ledger: View, entry: Entry) -> list[str]:
    """What a system gives in the tail and on cold items, and whether a control is better there."""
    told = []
    for part, where in _PARTS:
        there = ledger.within(entry, ledger.parts().get(part, ""))
        if there is None:
            continue
        sign = {"better": "", "worse": "a measurable loss, ", "unclear": "no measurable gain, "}
        said = f"{sign[ledger.verdict(there)]}{gain_text(ledger, there)}"
        said = f"{where.capitalize()} {clean(entry.variant)} gives {said} on {count(there.n)} items"
        control = strongest(ledger, there.group)
        if control and ledger.gain(control)[0] >= ledger.gain(there)[0]:
            values = f"{_value(ledger, control)} against {_value(ledger, there)}"
            said += f"; the control {clean(control.variant)} is better, {values}"
        told.append(f"{said}.")
    return told


def _judged(ledger: View, entry: Entry) -> list[str]:
    """What a second metric says of a choice that optimised the first one."""
    if not entry.optimised:
        return []
    name, metric = clean(entry.variant), clean(ledger.meta.metric)
    told = f"{name} ‡ chose its answers by {metric}, which judges them here"
    others = [ledger.within(entry, entry.group, other) for other in ledger.metrics[1:]]
    said = [
        f"by {clean(e.metric)} it gives {gain_text(ledger, e, metric=False)}" for e in others if e
    ]
    return [f"{told}; {', '.join(said) or 'no second metric was measured'}."]


def _base_in_parts(ledger: View) -> list[str]:
    """Where the base is of no use in the tail or on cold items, and of some in all."""
    told, name = [], clean(ledger.meta.base)
    if _warned(ledger):
        return []
    for part, where in _PARTS:
        base = base_of(ledger, ledger.parts().get(part, ""))
        if base and (why := useless(ledger, base)):
            told.append(f"{where.capitalize()} the base {name} {why}.")
    return told


def _next(ledger: View) -> list[str]:
    return [
        f"The next size up, {clean(size.variant)}, gains {gain_text(ledger, size)} "
        f"{cost(ledger, size)}."
        for size in rungs(ledger)[:1]
    ]


def _no_ladder(ledger: View) -> list[str]:
    nothing = "No ladder was measured, so nothing here says what a bigger model would have bought."
    return [] if rungs(ledger) else [nothing]


def _unknown(ledger: View) -> list[str]:
    """What could not be compared by cost, and what to do about it."""
    systems = [*rungs(ledger), *levers(ledger)]
    unknown = [entry for entry in systems if ledger.line(entry) is None]
    if not unknown:
        return []
    names = ", ".join(clean(entry.variant) for entry in unknown)
    sized = ledger.axis == "flops" and any(entry.lever == SCALE for entry in unknown)
    remedy = ": give the tokens it was trained on in the recipe's ladder" if sized else ""
    unit = ledger.words.one
    return [f"What making it took is not known, so no gain per {unit} is told of {names}{remedy}."]


def _warned(ledger: View) -> list[str]:
    """That differences from the base mean nothing, where its answers are of no use."""
    base = base_of(ledger, ledger.parts()["all"])
    why = useless(ledger, base) if base else ""
    nothing = "differences between answers of no use mean nothing"
    return [f"The base {clean(ledger.meta.base)} {why}: {nothing}."] if why else []


def _no_use(ledger: View, gaining: list[Entry]) -> list[str]:
    if not gaining:
        return []
    said = "; ".join(f"{_name(entry)} {useless(ledger, entry)}" for entry in gaining)
    return [f"Above the base, and of no use: {said}."]


def _losses(ledger: View) -> list[str]:
    tried = levers(ledger)
    said = [
        ("No measurable gain", [e for e in tried if ledger.verdict(e) == "unclear"]),
        (
            "Measurably worse than the base",
            [e for e in tried if ledger.verdict(e) == "worse"],
        ),
    ]
    return [
        f"{words}: {', '.join(_name(entry) for entry in entries)}."
        for words, entries in said
        if entries
    ]


def _name(entry: Entry) -> str:
    return f"{clean(entry.lever)} ({clean(entry.variant)})"


def _limits(ledger: View) -> list[str]:
    bounds = [e for e in ledger.of(ledger.parts()["all"]) if e.variant in ledger.meta.bounds]
    said = [f"{clean(entry.variant)} {gain_text(ledger, entry)}" for entry in bounds]
    return [f"Bounds that only the references could choose: {', '.join(said)}."] if said else []


def _compared(ledger: View) -> list[str]:
    tried = levers(ledger)
    if len(tried) < 2:
        return []
    corrected = any(entry.p_holm is not None for entry in tried)
    holm = ": p (Holm) is corrected for that" if corrected else ""
    return [
        f"{len(tried)} variants were compared; the intervals are not widened for choosing the "
        f"best of them{holm}."
    ]
