"""What a gain costs, in words; and over the life of a model: which buy is the cheapest per gain,
from how many answers on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pomona.ledger.entry import Entry
from pomona.ledger.systems import SCALE, View, levers, rungs, useless
from pomona.pages import clean, count

FEWEST, MOST = 1e3, 1e7  # answers in the life of a model, where costs are shown


@dataclass(frozen=True)
class Buy:
    """What is the cheapest per gain from so many answers on, until the next one is.

    `low` and `high` are a 95 % interval of `answers`, from those of both gains; None where the
    change does not depend on a gain, and an infinite `high` where it may never come.
    """

    entry: Entry
    answers: float
    low: float | None = None
    high: float | None = None


def cost(ledger: View, entry: Entry) -> str:
    """The extra cost of an entry, as it ends a sentence about what the entry gains."""
    extra, line, words = ledger.extra(entry), ledger.line(entry), ledger.words
    if extra is None or line is None:
        return "at a cost that is not known"
    once, each = line
    if extra > 0:
        return f"for {words.write(extra)} extra {words.unit}"
    if once > 0:
        within = f"within {roughly(once / -each)} answers"
        return f"for {words.write(once)} {words.unit} once, which its cheaper answers save {within}"
    return f"at no extra {words.whole}"


def share(ledger: View, entry: Entry) -> str:
    """The extra cost of an entry as a share of that of the largest size of the ladder; as a plain
    cost where that is not known, or is its own.
    """
    extra, words = ledger.extra(entry), ledger.words
    rung = next((one for one in reversed(rungs(ledger)) if (ledger.extra(one) or 0) > 0), None)
    if extra is None or extra <= 0 or rung is None or rung.variant == entry.variant:
        return cost(ledger, entry)
    part = extra / (ledger.extra(rung) or math.inf)
    of = f"{clean(rung.variant)}'s extra {words.whole}"
    if part >= 2:
        return f"for {part:.2g} times {of}"
    percent = part * 100
    told = "less than 0.1" if percent < 0.1 else f"{percent:.{0 if percent >= 9.5 else 1}f}"
    return f"for {told.removesuffix('.0')}\u00a0% of {of}"


def worth(ledger: View, entry: Entry, answers: float | None = None) -> tuple[bool, float]:
    """What orders buys: those that take nothing extra by their gain, then the others by their gain
    per cost, those of unknown cost last. For as many answers as the ledger counts unless given.
    """
    gain, line = ledger.gain(entry)[0], ledger.line(entry)
    if line is None:
        return False, -math.inf
    extra = line[0] + line[1] * (ledger.meta.serve_items if answers is None else answers)
    return (True, gain) if extra <= 0 else (False, gain / extra)


def candidates(ledger: View) -> list[Entry]:
    """Larger sizes and levers with a measurable gain that is of use, of which costs are known."""
    return [
        entry
        for entry in [*rungs(ledger), *levers(ledger)]
        if ledger.verdict(entry) == "better"
        and not useless(ledger, entry)
        and ledger.line(entry) is not None
    ]


def buys(ledger: View) -> list[Buy]:
    """What is the cheapest per gain, from the fewest answers to the most; nothing where nothing
    gains.

    The price of a gain is a straight line in the number of answers: what making it took and what
    each answer takes beyond the base, over the gain as it was estimated. So the best one is the
    lower envelope of these lines, which is walked from crossing to crossing.
    """
    entries = candidates(ledger)
    if not entries:
        return []
    at, most = (end(ledger.meta.serve_items) for end in (_fewest, _most))
    found = [Buy(max(entries, key=lambda one: worth(ledger, one, at)), at)]
    while at < most:
        at = min((n for n in _changes(ledger, found[-1].entry, entries) if at < n), default=most)
        after = max(entries, key=lambda one: worth(ledger, one, at * (1 + 1e-9)))
        if at < most and after is not found[-1].entry:
            found.append(Buy(after, at, *_interval(ledger, found[-1].entry, after)))
    return found


def overtaking(ledger: View, found: Sequence[Buy]) -> list[Buy]:
    """The larger sizes that are never the best buy, and from some number of answers on a better one
    than the first.
    """
    if not found or found[0].entry.lever == SCALE:
        return []
    first, most = found[0].entry, _most(ledger.meta.serve_items)
    over, best = [], {id(buy.entry) for buy in found}
    for size in rungs(ledger):
        if id(size) in best or size not in candidates(ledger):
            continue
        answers = _crossing(ledger, first, size, 1.0)
        if FEWEST < answers < most and worth(ledger, size, most) > worth(ledger, first, most):
            over.append(Buy(size, answers, *_interval(ledger, first, size)))
    return sorted(over, key=lambda buy: buy.answers)


def _fewest(counted: int) -> float:
    return min(FEWEST, max(1, counted))


def _most(counted: int) -> float:
    return max(MOST, counted)


def _changes(ledger: View, best: Entry, entries: Sequence[Entry]) -> list[float]:
    """Numbers of answers where `best` may be no longer the best: another has its price, or has
    nothing to pay any more.
    """
    changes = [_crossing(ledger, best, other, 1.0) for other in entries]
    for other in entries:
        once, each = ledger.line(other) or (0.0, 0.0)
        changes.append(-once / each if each else math.nan)
    return [n for n in changes if n > 0]


def _crossing(ledger: View, before: Entry, after: Entry, times: float) -> float:
    """Answers from which `after` is cheaper per gain than `before`, if the ratio of their gains
    were so many times what it was estimated; not above 0, or not a number, where it never changes.
    """
    ratio = times * ledger.gain(before)[0] / ledger.gain(after)[0]
    (once, each), (its_once, its_each) = (ledger.line(e) or (0.0, 0.0) for e in (before, after))
    rising = each - ratio * its_each
    return (ratio * its_once - once) / rising if rising else math.nan


def _interval(ledger: View, before: Entry, after: Entry) -> tuple[float, float] | tuple[None, None]:
    """What the intervals of two gains leave open of the number of answers where `after` takes over.

    The interval of the ratio of the gains is recovered from both (MOVER, Zou & Donner 2008, on
    logarithms), as if they were independent: since both are over one base on the same items it is
    rather too wide. The crossing rises with that ratio, from 0 to no end.
    """
    (once, each), (its_once, its_each) = (ledger.line(e) or (0.0, 0.0) for e in (before, after))
    if min(once, its_once) < 0 or min(each, its_each) < 0 or its_once * each <= once * its_each:
        return None, None
    gains = [ledger.gain(entry) for entry in (before, after)]
    (mine, low, high), (its, its_low, its_high) = (tuple(map(math.log, gain)) for gain in gains)
    down = math.exp(-math.hypot(mine - low, its_high - its))
    up = math.exp(math.hypot(high - mine, its - its_low))
    least, most = (_crossing(ledger, before, after, times) for times in (down, up))
    return max(0.0, least), most if most > 0 else math.inf


def between(buy: Buy) -> str:
    """The interval of a number of answers: ` [150,000, 390,000]`."""
    if buy.low is None or buy.high is None:
        return ""
    low = "0" if buy.low < 1 else roughly(buy.low)
    high = "no end" if math.isinf(buy.high) else roughly(buy.high)
    return f" [{low}, {high}]"


def roughly(value: float) -> str:
    """`240,000`: two digits of a number that rests on estimates, and at least 1."""
    digits = 1 - math.floor(math.log10(value)) if value >= 1 else 0
    return count(max(1, round(value, digits)))
