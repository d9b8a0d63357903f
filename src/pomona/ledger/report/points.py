"""What the picture shows and where: entries as points, the ranges of its axes, and what it has to
leave out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pomona.ledger.report.answer import CONTROL, SCALE, levers, rungs
from pomona.ledger.store import Entry, Ledger
from pomona.pages import clean, gained, interval

_APART = 9.0


@dataclass(frozen=True)
class Point:
    """An entry in the picture: `x` in FLOPs as drawn, a little off `extra` where several points
    share one place.
    """

    entry: Entry
    extra: float
    x: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Frame:
    """The ranges of both axes and the size of the drawing in pixels."""

    left: float
    right: float
    bottom: float
    top: float
    width: float
    height: float

    def x(self, value: float) -> float:
        """Pixels from the left of an amount of compute."""
        return self.width * math.log(value / self.left) / math.log(self.right / self.left)

    def y(self, value: float) -> float:
        """Pixels from the top of a gain."""
        return self.height * (self.top - value) / (self.top - self.bottom)


def drawn(ledger: Ledger) -> list[Point]:
    """The levers and the larger sizes that take extra compute: what a logarithmic axis can show."""
    points = []
    for entry in [*rungs(ledger), *levers(ledger)]:
        extra = ledger.extra(entry)
        if extra is not None and extra >= 1:
            gain, low, high = ledger.gain(entry)
            points.append(Point(entry, extra, extra, gain, low, high))
    return points


def left_out(ledger: Ledger) -> list[str]:
    """One sentence for every overall entry that is not in the picture, with the reason."""
    shown = {id(point.entry) for point in drawn(ledger)}
    larger = {entry.variant for entry in rungs(ledger)}
    sentences = []
    for entry in ledger.of("overall"):
        if id(entry) in shown or entry.variant == ledger.meta.base:
            continue
        gain, low, high = ledger.gain(entry)
        said = f"{gained(gain, low, high)} {interval(low, high)}"
        if entry.variant in ledger.meta.bounds:
            why = "a bound that only the references could choose"
        elif entry.lever == CONTROL:
            why = "a control, which asks no model"
        elif entry.baseline != ledger.meta.base:
            why = f"measured against {clean(entry.baseline)}"
        elif entry.lever == SCALE and entry.variant not in larger:
            why = "not a size above the base"
        elif entry.flops_once is None:
            why = "what making it took is not known"
        elif entry.flops_once > 0:
            why = "its cheaper answers save more than making it took"
        else:
            why = "takes no extra compute"
        sentences.append(f"{clean(entry.variant)} ({clean(entry.lever)}): {said}; {why}.")
    return sentences


def frame_of(points: Sequence[Point], width: int, height: int) -> Frame:
    """A frame that holds every interval and zero, with a margin."""
    extras = [point.extra for point in points]
    low = min(0.0, *(point.low for point in points))
    high = max(0.0, *(point.high for point in points))
    margin = (high - low) * 0.06 or 1.0
    span = max(extras) / min(extras) if max(extras) > min(extras) * 1.5 else 100.0
    side = span ** (24 / (width - 48))
    return Frame(min(extras) / side, max(extras) * side, low - margin, high + margin, width, height)


def set_apart(points: Sequence[Point], frame: Frame) -> list[Point]:
    """Points of the same compute would hide each other's bars: set them side by side around where
    they belong.
    """
    moved: list[Point] = []
    cluster: list[Point] = []
    ordered = sorted(points, key=lambda point: point.extra)
    for point, following in zip(ordered, [*ordered[1:], None], strict=True):
        cluster.append(point)
        if following is None or frame.x(following.extra) - frame.x(point.extra) >= _APART:
            middle = sum(frame.x(member.extra) for member in cluster) / len(cluster)
            for place_, member in enumerate(cluster):
                at = middle + (place_ - (len(cluster) - 1) / 2) * _APART
                x = frame.left * (frame.right / frame.left) ** (at / frame.width)
                moved.append(replace(member, x=x))
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
