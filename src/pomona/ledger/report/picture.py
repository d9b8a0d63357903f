"""The picture of the product: what each lever gains over the base against the extra compute it
takes, beside the ladder, with names where they hide nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.files import write_text
from pomona.ledger.report.answer import SCALE, SIGNED, answer, best_of_levers
from pomona.ledger.report.points import Frame, Point, drawn, frame_of, set_apart, ticks
from pomona.ledger.store import Ledger
from pomona.pages import (
    SCHEMA,
    clean,
    count,
    flops,
    gained,
    interval,
    nominal,
    quantitative,
    svg,
)

_LETTER, _LINE = 6.8, 15.0
Box = tuple[float, float, float, float]


def write_picture(ledger: Ledger, path: str | Path) -> None:
    """Write the main picture as SVG with the answer as its title.

    Raises PomonaError if no variant is known to take extra compute, or if a baseline has no entry.
    """
    text = picture_text(ledger)
    if text is None:
        message = "no variant is known to take extra compute, so there is nothing to draw"
        remedy = "print the ledger as a table"
        raise PomonaError(message, where=path, remedy=remedy)
    write_text(path, text)


def picture_text(ledger: Ledger) -> str | None:
    """The main picture as SVG; None where there is nothing to draw."""
    chart = picture(ledger, width=760, height=400)
    if chart is None:
        return None
    chart["title"] = textwrap.wrap(answer(ledger).headline, 84)
    return svg(chart)


def picture(ledger: Ledger, width: int, height: int) -> dict[str, Any] | None:
    """The picture as a Vega-Lite specification with a drawing of `width` × `height` pixels; None
    when there is nothing to draw.
    """
    points = drawn(ledger)
    if not points:
        return None
    frame = frame_of(points, width, height)
    order = dict.fromkeys(clean(one.entry.lever) for one in points if one.entry.lever != SCALE)
    points = set_apart(points, frame)
    ladder = [point for point in points if point.entry.lever == SCALE]
    others = [point for point in points if point.entry.lever != SCALE]
    legend = {"title": None, "orient": "top", "direction": "horizontal"}
    legend["columns"] = 3 if width < 500 else 0
    colour = nominal("lever", scale={"domain": list(order)}, legend=legend)
    return {
        "$schema": SCHEMA,
        "width": width,
        "height": height,
        "layer": [
            *_ground(ledger, frame),
            *_ladder(ladder),
            *_levers(others, colour),
            *_labels(ledger, points, colour, frame),
        ],
    }


def _ground(ledger: Ledger, frame: Frame) -> list[dict[str, Any]]:
    meta, narrow = ledger.meta, frame.width < 500
    values = ticks(frame.left, frame.right, 4 if narrow else 8)
    names = ", ".join(f"'{flops(tick).removeprefix('1×')}'" for tick in values)
    better = "" if meta.higher_is_better else ", lower being better"
    x = quantitative(
        "x",
        title=f"extra FLOPs to make it and answer {count(meta.serve_items)} items",
        scale={"type": "log", "domain": [frame.left, frame.right], "nice": False},
        axis={
            "values": values,
            "labelExpr": f"[{names}][indexof({values}, datum.value)]",
            "grid": False,
            "titleFontSize": 11 if narrow else 12,
        },
    )
    title = [f"gain over {_cut(meta.base)}, {_cut(meta.metric)}{better}", "(95 % interval)"]
    y = quantitative(
        "y",
        title=title if narrow else " ".join(title),
        scale={"domain": [frame.bottom, frame.top], "nice": False, "zero": False},
        axis={"tickCount": 6, "labelExpr": SIGNED},
    )
    zero = {
        "data": {"values": [{"x": frame.left, "y": 0}]},
        "mark": {"type": "rule", "style": "zero", "x": 0, "x2": frame.width},
    }
    return [
        {**zero, "encoding": {"y": y}},
        {
            **zero,
            "mark": {"type": "point", "opacity": 0, "tooltip": None},
            "encoding": {"x": x, "y": y},
        },
    ]


_X, _Y = quantitative("x"), quantitative("y")
_BAR = {"x": _X, "y": quantitative("low"), "y2": {"field": "high"}}
_TOLD = [
    nominal(name)
    for name in ("variant", "lever", "gain", "extra FLOPs", "items", "scale-equivalent")
]


def _row(point: Point) -> dict[str, Any]:
    entry = point.entry
    return {
        "x": point.x,
        "y": point.gain,
        "low": point.low,
        "high": point.high,
        "sure": not point.low <= 0 <= point.high,
        "variant": clean(entry.variant),
        "lever": clean(entry.lever),
        "gain": f"{gained(point.gain, point.low, point.high)} {interval(point.low, point.high)}",
        "extra FLOPs": flops(point.extra),
        "items": count(entry.n),
        "scale-equivalent": str(entry.scale_equivalent) if entry.scale_equivalent else "—",
    }


def _ladder(points: Sequence[Point]) -> list[dict[str, Any]]:
    if not points:
        return []
    data = {"values": [_row(point) for point in sorted(points, key=lambda point: point.extra)]}
    place_ = {"x": _X, "y": _Y}
    line = {"type": "line", "style": "ladder"}
    spot = {"type": "point", "filled": True, "size": 80, "opacity": 1, "style": "ladder-point"}
    return [
        {"data": data, "mark": line, "encoding": {**place_, "order": _X}},
        {"data": data, "mark": {"type": "rule", "style": "ladder-bar"}, "encoding": _BAR},
        {"data": data, "mark": spot, "encoding": {**place_, "tooltip": _TOLD}},
    ]


def _levers(points: Sequence[Point], colour: dict[str, Any]) -> list[dict[str, Any]]:
    if not points:
        return []
    data = {"values": [_row(point) for point in points]}
    mark = {"type": "point", "size": 95, "strokeWidth": 2, "opacity": 1}
    encoding = {"x": _X, "y": _Y, "color": colour, "shape": colour, "tooltip": _TOLD}
    return [
        {
            "data": data,
            "mark": {"type": "rule", "strokeWidth": 1.6, "opacity": 0.75},
            "encoding": {**_BAR, "color": colour},
        },
        {
            "data": data,
            "mark": {**mark, "filled": True, "style": "hollow"},
            "encoding": {"x": _X, "y": _Y, "shape": colour},
        },
        {
            "data": data,
            "transform": [{"filter": "datum.sure"}],
            "mark": {**mark, "filled": True},
            "encoding": encoding,
        },
        {"data": data, "mark": {**mark, "filled": False}, "encoding": encoding},
    ]


def _labels(
    ledger: Ledger, points: Sequence[Point], colour: dict[str, Any], frame: Frame
) -> list[dict[str, Any]]:
    best = {id(entry) for entry in best_of_levers(ledger)}
    spots = []
    for point in points:
        name, lever = _cut(point.entry.variant), clean(point.entry.lever)
        rank = 0 if point.entry.lever == SCALE else 1 if id(point.entry) in best else 2
        y, top, bottom = (frame.y(value) for value in (point.gain, point.high, point.low))
        spots.append(Spot(name, lever, frame.x(point.x), y, top, bottom, rank))
    labels = place(spots, frame.width, frame.height, _clear(points, frame))
    layers = [_leaders([label for label in labels if label.far], colour)]
    for align in ("left", "right", "center"):
        rows = [
            {"px": one.x, "py": one.y, "name": one.spot.name, "lever": one.spot.lever}
            for one in labels
            if one.align == align
        ]
        for ladder in (True, False):
            chosen = [row for row in rows if (row["lever"] == SCALE) is ladder]
            if chosen:
                layers += _text(chosen, align, None if ladder else colour)
    return layers


def _leaders(labels: Sequence[NamePlace], colour: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {"x": one.spot.x, "y": one.y + 7, "y2": one.spot.top - 2, "lever": one.spot.lever}
        for one in labels
    ]
    at = {name: quantitative(name, scale=None) for name in ("x", "y")}
    mark = {"type": "rule", "strokeWidth": 1, "strokeDash": [2, 2]}
    encoding = {**at, "y2": {"field": "y2"}, "color": colour}
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


def _text(
    rows: list[dict[str, Any]], align: str, colour: dict[str, Any] | None
) -> list[dict[str, Any]]:
    at = {name: quantitative(f"p{name}", scale=None) for name in ("x", "y")}
    mark = {"type": "text", "align": align, "baseline": "middle", "fontSize": 12}
    mark["fontWeight"] = "bold"
    said = {**at, "text": nominal("name")}
    coloured = (
        {"mark": mark, "encoding": {**said, "color": colour}}
        if colour
        else {"mark": {**mark, "style": "ladder-label"}, "encoding": said}
    )
    return [
        {"data": {"values": rows}, "mark": {**mark, "style": "halo"}, "encoding": said},
        {"data": {"values": rows}, **coloured},
    ]


def _clear(points: Sequence[Point], frame: Frame) -> list[Box]:
    """Small boxes along the ladder's line, and one along zero."""
    ladder = [point for point in points if point.entry.lever == SCALE]
    sizes = sorted(ladder, key=lambda point: point.extra)
    boxes = [(0.0, frame.y(0) - 2, frame.width, frame.y(0) + 2)]
    for one, other in pairwise(sizes):
        for step in range(41):
            x = frame.x(one.x) + (frame.x(other.x) - frame.x(one.x)) * step / 40
            y = frame.y(one.gain) + (frame.y(other.gain) - frame.y(one.gain)) * step / 40
            boxes.append((x - 4, y - 4, x + 4, y + 4))
    return boxes


def _cut(name: str) -> str:
    name = clean(name)
    return name if len(name) <= 24 else name[:23] + "…"


@dataclass(frozen=True)
class Spot:
    """A point in pixels from the top left with the ends of its bar; a `rank` of zero is placed
    first.
    """

    name: str
    lever: str
    x: float
    y: float
    top: float
    bottom: float
    rank: int


@dataclass(frozen=True)
class NamePlace:
    """Where a spot's name goes: `x` and `y` of its anchor in pixels, and how it is aligned
    there.
    """

    spot: Spot
    x: float
    y: float
    align: str

    @property
    def far(self) -> bool:
        """Whether a line has to lead from the bar up to the name."""
        return self.y < self.spot.top - 12


def place(
    spots: Sequence[Spot], width: float, height: float, lines: Iterable[Box] = ()
) -> list[NamePlace]:
    """Labels for as many spots as fit in a picture of `width` × `height` pixels; `lines` are
    further boxes to keep clear.
    """
    taken = [*lines]
    for spot in spots:
        taken.append((spot.x - 6, spot.y - 6, spot.x + 6, spot.y + 6))
        taken.append((spot.x - 2, spot.top, spot.x + 2, spot.bottom))
    labels = []
    for spot in sorted(spots, key=lambda spot: spot.rank):
        for label, box in _candidates(spot, width):
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                labels.append(label)
                break
    return labels


def _candidates(spot: Spot, width: float) -> Iterable[tuple[NamePlace, Box]]:
    """Beside the point, then beside it a little higher or lower, then over and under its bar,
    pushed inside the picture.
    """
    long = len(spot.name) * _LETTER
    inside = min(max(spot.x, long / 2), width - long / 2)
    sides = (("left", spot.x + 10), ("right", spot.x - 10))
    beside = [(align, x, spot.y + dy) for align, x in sides for dy in (0, -10, 10)]
    tiers = [spot.top - 9, spot.bottom + 9]
    if spot.rank < 2:
        tiers += [spot.top - 24, spot.top - 37, spot.top - 50]
    ends = [("center", x, y) for y in tiers for x in (inside, inside - long / 3, inside + long / 3)]
    for align, x, y in sorted(beside, key=lambda one: abs(one[2] - spot.y)) + ends:
        left = {"left": x, "right": x - long, "center": x - long / 2}[align]
        yield NamePlace(spot, x, y, align), (left, y - _LINE / 2, left + long, y + _LINE / 2)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
