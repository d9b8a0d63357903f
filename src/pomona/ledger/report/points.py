"""What the picture shows and where: entries as points, the ranges of its axes, and what it has to
leave out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pomona.ledger.entry import Entry
from pomona.ledger.systems import (
    SCALE,
    STACK,
    View,
    controls,
    is_random,
    levers,
    on_request,
    rungs,
)
from pomona.pages import clean, gained, interval

_APART = 9.0
_LANE, _NARROW, _ROOM = 168.0, 92.0, 0.45  # of the lane: pixels where it has room, at most a share
_BELOW = 0.5  # how far below zero the picture goes at most, as a share of how far above


@dataclass(frozen=True)
class Point:
    """An entry in the picture: `x` is its extra cost as drawn, a little off `extra` where several
    points share one place; `sure` where the difference is measurable.
    """

    entry: Entry
    extra: float
    x: float
    gain: float
    low: float
    high: float
    sure: bool

    @property
    def free(self) -> bool:
        """Whether it takes no more than the base, which no logarithmic axis can show."""
        return self.extra <= 1e-9


@dataclass(frozen=True)
class Frame:
    """The ranges of both axes and the size of the drawing in pixels, of which the first `lane` are
    for what takes no more than the base.
    """

    left: float
    right: float
    bottom: float
    top: float
    width: float
    height: float
    lane: float = 0.0

    def x(self, value: float) -> float:
        """Pixels from the left of an amount of compute."""
        share = math.log(value / self.left) / math.log(self.right / self.left)
        return self.lane + (self.width - self.lane) * share

    def value(self, x: float) -> float:
        """The amount that is drawn so many pixels from the left, in the lane as well: there it is
        no cost but a place, on the axis as it would go on.
        """
        return self.left * (self.right / self.left) ** ((x - self.lane) / (self.width - self.lane))

    def y(self, value: float) -> float:
        """Pixels from the top of a gain."""
        return self.height * (self.top - value) / (self.top - self.bottom)


def drawn(ledger: View, *, asked: bool = False) -> list[Point]:
    """The levers and the larger sizes of known cost, as far as they are not far below the base.
    With `asked` also bounds and random choices, and all that is far below.
    """
    points, lowest = [], -math.inf if asked else _floor(ledger)
    others = on_request(ledger) if asked else []
    for entry in [*rungs(ledger), *levers(ledger), *others]:
        extra, (gain, low, high) = ledger.extra(entry), ledger.gain(entry)
        if extra is not None and gain >= lowest:
            sure = ledger.verdict(entry) != "unclear"
            points.append(Point(entry, extra, extra, gain, low, high, sure))
    return points


def lines(ledger: View, *, asked: bool = False) -> list[Entry]:
    """The controls in the picture, the best one first."""
    lowest = -math.inf if asked else _floor(ledger)
    there = [entry for entry in controls(ledger) if ledger.gain(entry)[0] >= lowest]
    return sorted(there, key=lambda entry: -ledger.gain(entry)[0])


def _floor(ledger: View) -> float:
    """The lowest gain in the picture: what is far below the base would flatten all others."""
    gains = [ledger.gain(e)[0] for e in [*rungs(ledger), *levers(ledger), *controls(ledger)]]
    top = max(gains, default=0.0)
    return -_BELOW * top if top > 0 else -math.inf


def _before(ledger: View) -> dict[str, str]:
    """The step of a stack on which another one stands."""
    return {
        entry.variant: entry.baseline
        for entry in ledger.of(ledger.parts()["all"])
        if entry.lever == STACK and entry.baseline not in (ledger.meta.base, entry.variant)
    }


def paths(ledger: View, points: Sequence[Point]) -> list[list[Point]]:
    """The stacks, each as the points of its systems in the order in which one was made from the
    other.
    """
    before, found = _before(ledger), []
    there = {point.entry.variant: point for point in points}
    for last in before:
        if last in before.values():
            continue
        names = [last]
        while (name := before.get(names[-1])) is not None and name not in names:
            names.append(name)
        path = [there[name] for name in reversed(names) if name in there]
        if len(path) > 1:
            found.append(path)
    return found


def added(ledger: View, entry: Entry) -> str:
    """The name of a point: of a step of a stack what it adds, where its name begins with that of
    the step before.
    """
    before = _before(ledger).get(entry.variant) if entry.lever == STACK else None
    more = entry.variant.removeprefix(before).strip(" +") if before else entry.variant
    return entry.variant if more == entry.variant else f"+ {more}"


def shortened(name: str, most: int = 24) -> str:
    """A name in at most so many letters, its begin and its end."""
    name = clean(name)
    if len(name) <= most:
        return name
    head = most // 2
    return f"{name[:head].rstrip()}…{name[len(name) - (most - head - 1) :].lstrip()}"


def left_out(ledger: View) -> list[str]:
    """One sentence for every variant that is not in the picture, with the reason."""
    entries = ledger.of(ledger.parts()["all"])
    shown = {point.entry.variant for point in drawn(ledger)}
    shown |= {entry.variant for entry in lines(ledger)} | {ledger.meta.base}
    larger, sentences = {entry.variant for entry in rungs(ledger)}, []
    against = {entry.variant for entry in entries if entry.baseline == ledger.meta.base}
    for entry in entries:
        twice = entry.baseline != ledger.meta.base and entry.variant in against
        if entry.variant in shown or twice:
            continue
        gain, low, high = ledger.gain(entry)
        said = f"{gained(gain, low, high)} {interval(low, high)}"
        why = _why(ledger, entry, larger)
        sentences.append(f"{clean(entry.variant)} ({clean(entry.lever)}): {said}; {why}.")
    return sentences


def _why(ledger: View, entry: Entry, larger: set[str]) -> str:
    meta = ledger.meta
    cases = [
        (entry.baseline != meta.base, f"measured against {clean(entry.baseline)}"),
        (entry.variant in meta.bounds, "a bound that only the references could choose"),
        (is_random(entry), "a choice by chance"),
        (entry.lever == SCALE and entry.variant not in larger, "not a size above the base"),
        (ledger.line(entry) is None, "what making it took is not known"),
        (True, "far below the base"),
    ]
    return next(why for holds, why in cases if holds)


def frame_of(
    ledger: View,
    points: Sequence[Point],
    controls_: Sequence[Entry],
    *,
    size: tuple[int, int],
    asked: bool,
) -> Frame:
    """A frame for a drawing of `size` pixels that holds every point, control and zero, with a
    margin; and every interval as far as nothing far below the base is asked for. Where something
    takes no more than the base, it has a lane at the left, with room for its heading.
    """
    width, height = size
    extras = [point.extra for point in points if not point.free] or [1.0]
    lane = _lane(width, len([point for point in points if point.free]))
    level = [ledger.gain(entry)[0] for entry in controls_]
    low = min([0.0, *level, *(point.low for point in points)])
    low = low if asked else max(low, _floor(ledger))
    high = max([0.0, *level, *(point.high for point in points)])
    margin = (high - low) * 0.06 or 1.0
    span = max(extras) / min(extras) if max(extras) > min(extras) * 1.5 else 100.0
    side = span ** (24 / (width - lane - 48))
    low, high = low - margin, high + margin
    if lane:
        above = heading(width)[1] + 18  # a name fits between it and the highest bar
        high += (high - low) * above / (height - above)
    return Frame(min(extras) / side, max(extras) * side, low, high, width, height, lane)


def _lane(width: float, places: int) -> float:
    """How wide the lane is that holds so many points."""
    wanted = max(_NARROW if width < 500 else _LANE, _APART * (places + 2))
    return min(wanted, _ROOM * width) if places else 0.0


def heading(width: float) -> tuple[list[str], float]:
    """What the lane is headed, in lines, and the pixels that they take."""
    said = ["no more", "than the base"] if width < 500 else ["no more than the base"]
    return said, 14.0 * len(said) + 6


def set_apart(points: Sequence[Point], frame: Frame) -> list[Point]:
    """Points of the same compute would hide each other's bars: set them side by side around where
    they belong; and what takes no more than the base side by side in its lane.
    """
    cluster: list[Point] = []
    everything = sorted(points, key=lambda point: point.extra)
    free = [point for point in everything if point.free]
    ordered = everything[len(free) :]
    step = min(_LANE / 6, (frame.lane - 2 * _APART) / max(1, len(free) - 1))
    first = (frame.lane - step * (len(free) - 1)) / 2
    moved = [replace(each, x=frame.value(first + step * i)) for i, each in enumerate(free)]
    for point, following in zip(ordered, [*ordered, None][1:], strict=True):
        cluster.append(point)
        if following is None or frame.x(following.extra) - frame.x(point.extra) >= _APART:
            middle = sum(frame.x(member.extra) for member in cluster) / len(cluster)
            for place_, member in enumerate(cluster):
                at = middle + (place_ - (len(cluster) - 1) / 2) * _APART
                moved.append(replace(member, x=frame.value(at)))
            cluster = []
    return moved


def ticks(left: float, right: float, most: int) -> list[float]:
    """Round numbers from `left` to `right` on a logarithmic axis, about `most` of them."""
    decades = range(math.floor(math.log10(left)), math.ceil(math.log10(right)) + 1)
    for steps in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
        values = [
            step * 10.0**decade
            for decade in decades
            for step in steps
            if left <= step * 10.0**decade <= right
        ]
        if len(values) <= most:
            break
    return values
