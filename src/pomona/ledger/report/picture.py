"""The picture of the product: what each lever gains over the base against the extra compute it
takes, beside the ladder, with names where they hide nothing.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.files import write_text
from pomona.ledger.entry import Axis, Entry
from pomona.ledger.report.answer import answer
from pomona.ledger.report.points import (
    Frame,
    Point,
    added,
    drawn,
    frame_of,
    heading,
    lines,
    paths,
    set_apart,
    shortened,
    ticks,
)
from pomona.ledger.store import Ledger
from pomona.ledger.systems import SCALE, SIGNED, STACK, View, best_of_levers
from pomona.pages import (
    SCHEMA,
    clean,
    count,
    gained,
    interval,
    nominal,
    quantitative,
    svg,
)

_LETTER, _LINE = 7.6, 15.0  # of the widest fonts that a reader may have
_SHORT = 14  # letters of an important name that has no room as it is
_NAMED = 40  # spots for whose names a place is looked for: more than a picture holds
Box = tuple[float, float, float, float]


def write_picture(
    ledger: Ledger, path: str | Path, *, bounds: bool = False, axis: Axis | None = None
) -> None:
    """Write the main picture as SVG with the answer as its title; with `bounds` also what only
    references and what chance could choose. `axis` as in `republish`.

    Raises PomonaError if there is no variant of known cost, or if a baseline has no entry.
    """
    text = picture_text(View(ledger, axis), asked=bounds)
    if text is None:
        message = "no variant of known cost is near or above the base: there is nothing to draw"
        remedy = "print the ledger as a table"
        raise PomonaError(message, where=path, remedy=remedy)
    write_text(path, text)


def picture_text(ledger: View, *, asked: bool = False) -> str | None:
    """The main picture as SVG; None where there is nothing to draw."""
    chart = picture(ledger, width=760, height=400, asked=asked)
    if chart is None:
        return None
    chart["title"] = textwrap.wrap(answer(ledger).headline, 84)
    return svg(chart)


def picture(ledger: View, width: int, height: int, *, asked: bool = False) -> dict[str, Any] | None:
    """The picture as a Vega-Lite specification with a drawing of `width` × `height` pixels; None
    when there is nothing to draw. With `asked` it has bounds and random choices as well.
    """
    points, controls = drawn(ledger, asked=asked), lines(ledger, asked=asked)
    if not points:
        return None
    frame = frame_of(ledger, points, controls, size=(width, height), asked=asked)
    there = {clean(one.entry.lever) for one in points}
    order = ledger.order
    points = set_apart(points, frame)
    ladder = [point for point in points if point.entry.lever == SCALE]
    others = [point for point in points if point.entry.lever != SCALE]
    legend = {"title": None, "orient": "top", "direction": "horizontal"}
    legend["columns"] = 3 if width < 500 else 0
    legend["values"] = [name for name in order if name in there]
    colour = nominal("lever", scale={"domain": order}, legend=legend)
    return {
        "$schema": SCHEMA,
        "width": width,
        "height": height,
        "layer": [
            *_lane(frame),
            *_ground(ledger, frame, priced=any(not point.free for point in points)),
            *_controls(ledger, controls),
            *_ladder(ledger, ladder),
            *_stacks(paths(ledger, points), colour),
            *_levers(ledger, others, colour),
            *_labels(ledger, points, controls, colour, frame),
        ],
    }


def _lane(frame: Frame) -> list[dict[str, Any]]:
    """A band behind what takes no more than the base, with its heading."""
    if not frame.lane:
        return []
    one, said = {"data": {"values": [{}]}}, heading(frame.width)[0]
    band = {"type": "rect", "style": "tail-band", "x": 0, "x2": frame.lane, "tooltip": None}
    band |= {"y": 0, "y2": frame.height}
    text = {"type": "text", "style": "tail-word", "text": said, "x": frame.lane / 2, "y": 4}
    text |= {"align": "center", "baseline": "top", "lineHeight": 14}
    return [{**one, "mark": band}, {**one, "mark": text}]


def _ground(ledger: View, frame: Frame, *, priced: bool) -> list[dict[str, Any]]:
    meta, narrow = ledger.meta, frame.width < 500
    values = ticks(frame.left, frame.right, 3 if narrow and frame.lane else 4 if narrow else 8)
    values = values if priced else []
    names = ", ".join(f"'{ledger.write_tick(tick)}'" for tick in values)
    better = "" if meta.higher_is_better else ", lower being better"
    x = quantitative(
        "x",
        title=f"extra {ledger.words.unit} to make it and answer {count(meta.serve_items)} items",
        scale={
            "type": "log",
            "domain": [frame.left, frame.right],
            "range": [frame.lane, frame.width],
            "nice": False,
        },
        axis={
            "values": values,
            "labelExpr": f"[{names}][indexof({values}, datum.value)]",
            "grid": False,
            "titleFontSize": 11 if narrow else 12,
        },
    )
    title = [
        f"gain over {shortened(meta.base)}, {shortened(meta.metric)}{better}",
        "(95 % interval)",
    ]
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
    nominal(name) for name in ("variant", "lever", "gain", "extra", "items", "scale-equivalent")
]


def _row(ledger: View, point: Point) -> dict[str, Any]:
    entry = point.entry
    return {
        "x": point.x,
        "y": point.gain,
        "low": point.low,
        "high": point.high,
        "sure": point.sure,
        "variant": clean(entry.variant),
        "lever": clean(entry.lever),
        "gain": f"{gained(point.gain, point.low, point.high)} {interval(point.low, point.high)}",
        "extra": f"{ledger.write_cost(point.extra)} {ledger.words.unit}",
        "items": count(entry.n),
        "scale-equivalent": str(entry.scale_equivalent) if entry.scale_equivalent else "—",
    }


def _controls(ledger: View, controls: Sequence[Entry]) -> list[dict[str, Any]]:
    if not controls:
        return []
    rows = [{"y": ledger.gain(entry)[0], "variant": clean(entry.variant)} for entry in controls]
    mark = {"type": "rule", "style": "control"}
    return [{"data": {"values": rows}, "mark": mark, "encoding": {"y": _Y}}]


def _stacks(paths: Sequence[Sequence[Point]], colour: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "data": {
                "values": [
                    {"x": point.x, "y": point.gain, "at": at, "lever": STACK}
                    for at, point in enumerate(path)
                ]
            },
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"x": _X, "y": _Y, "order": quantitative("at"), "color": colour},
        }
        for path in paths
    ]


def _ladder(ledger: View, points: Sequence[Point]) -> list[dict[str, Any]]:
    if not points:
        return []
    data = {
        "values": [_row(ledger, point) for point in sorted(points, key=lambda point: point.extra)]
    }
    place_ = {"x": _X, "y": _Y}
    line = {"type": "line", "style": "ladder"}
    spot = {"type": "point", "filled": True, "size": 80, "opacity": 1, "style": "ladder-point"}
    return [
        {"data": data, "mark": line, "encoding": {**place_, "order": _X}},
        {
            "data": data,
            "mark": {"type": "rule", "style": "ladder-bar", "clip": True},
            "encoding": _BAR,
        },
        {"data": data, "mark": spot, "encoding": {**place_, "tooltip": _TOLD}},
    ]


def _levers(ledger: View, points: Sequence[Point], colour: dict[str, Any]) -> list[dict[str, Any]]:
    if not points:
        return []
    data = {"values": [_row(ledger, point) for point in points]}
    mark = {"type": "point", "size": 95, "strokeWidth": 2, "opacity": 1}
    encoding = {"x": _X, "y": _Y, "color": colour, "shape": colour, "tooltip": _TOLD}
    return [
        {
            "data": data,
            "mark": {"type": "rule", "strokeWidth": 1.6, "opacity": 0.75, "clip": True},
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
    ledger: View,
    points: Sequence[Point],
    controls: Sequence[Entry],
    colour: dict[str, Any],
    frame: Frame,
) -> list[dict[str, Any]]:
    best = {id(e) for e in best_of_levers(ledger)}
    most = {max((p.gain for p in points if p.free is free), default=0.0) for free in (True, False)}
    best |= {id(point.entry) for point in points if point.free and point.sure}
    spots = []
    for point in points:
        name, lever = shortened(added(ledger, point.entry)), clean(point.entry.lever)
        first = id(point.entry) in best or lever == STACK
        rank = 0 if lever == SCALE or point.gain in most else 1 if first else 2
        y, top, bottom = (frame.y(value) for value in (point.gain, point.high, point.low))
        # A name that reached across would seem to be that of another point.
        reach = (9.0, frame.width / 2) if point.free else (frame.lane, frame.width)
        spots.append(Spot(name, lever, frame.x(point.x), y, top, bottom, rank, reach))
    levels = [
        (f"{shortened(entry.variant)}, no model", frame.y(ledger.gain(entry)[0]))
        for entry in controls
    ]
    clear = _clear(ledger, points, frame) + [(0.0, y - 2, frame.width, y + 2) for _, y in levels]
    clear += [(0.0, 0.0, frame.lane, heading(frame.width)[1])] if frame.lane else []
    named, taken = along(levels, [*clear, *_bars(spots)], frame)
    labels = place(spots, frame.width, frame.height, [*clear, *taken])
    far = [label for label in labels if label.far]
    layers = [_leaders(far, colour)] if far else []
    layers += _text(named, "left", {"style": "control-label"}) if named else []
    for align in ("left", "right", "center"):
        rows = [
            {"px": one.x, "py": one.y, "name": one.spot.name, "lever": one.spot.lever}
            for one in labels
            if one.align == align
        ]
        for ladder in (True, False):
            chosen = [row for row in rows if (row["lever"] == SCALE) is ladder]
            if chosen:
                layers += _text(chosen, align, {"style": "ladder-label"} if ladder else colour)
    return layers


def along(
    levels: Sequence[tuple[str, float]], taken: Sequence[Box], frame: Frame
) -> tuple[list[dict[str, Any]], list[Box]]:
    """Names of horizontal lines, given with their heights, where they hide nothing: above or below
    the line, as far to the left as they can beside the lane. The names as rows of a chart, and
    their boxes.
    """
    rows, boxes = [], []
    for name, y in levels:
        long = len(name) * _LETTER
        steps = range(int(max(0, frame.width - frame.lane - long - 8) // 12) + 1)
        spots = [(frame.lane + 4 + 12 * step, y + up * 10) for step in steps for up in (-1, 1)]
        for x, middle in spots:
            box = (x, middle - _LINE / 2, x + long, middle + _LINE / 2)
            inside = box[1] >= 0 and box[3] <= frame.height
            if inside and not any(_overlap(box, other) for other in [*taken, *boxes]):
                rows.append({"px": x, "py": middle, "name": name})
                boxes.append(box)
                break
    return rows, boxes


def _leaders(labels: Sequence[NamePlace], colour: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {"x": one.spot.x, "y": one.y + 7, "y2": one.spot.top - 2, "lever": one.spot.lever}
        for one in labels
    ]
    at = {name: quantitative(name, scale=None) for name in ("x", "y")}
    mark = {"type": "rule", "strokeWidth": 1, "strokeDash": [2, 2]}
    encoding = {**at, "y2": {"field": "y2"}, "color": colour}
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


def _text(rows: list[dict[str, Any]], align: str, look: dict[str, Any]) -> list[dict[str, Any]]:
    """Names with a halo; `look` is a style or a channel of colours."""
    at = {name: quantitative(f"p{name}", scale=None) for name in ("x", "y")}
    mark = {"type": "text", "align": align, "baseline": "middle", "fontSize": 12}
    mark["fontWeight"] = "bold"
    said = {**at, "text": nominal("name")}
    coloured = (
        {"mark": {**mark, **look}, "encoding": said}
        if "style" in look
        else {"mark": mark, "encoding": {**said, "color": look}}
    )
    return [
        {"data": {"values": rows}, "mark": {**mark, "style": "halo"}, "encoding": said},
        {"data": {"values": rows}, **coloured},
    ]


def _clear(ledger: View, points: Sequence[Point], frame: Frame) -> list[Box]:
    """Small boxes along the ladder's line and those of stacks, and one along zero."""
    ladder = [point for point in points if point.entry.lever == SCALE]
    sizes = sorted(ladder, key=lambda point: point.extra)
    boxes = [(0.0, frame.y(0) - 2, frame.width, frame.y(0) + 2)]
    for path in (sizes, *paths(ledger, points)):
        for one, other in pairwise(path):
            for step in range(41):
                x = frame.x(one.x) + (frame.x(other.x) - frame.x(one.x)) * step / 40
                y = frame.y(one.gain) + (frame.y(other.gain) - frame.y(one.gain)) * step / 40
                boxes.append((x - 4, y - 4, x + 4, y + 4))
    return boxes


def _bars(spots: Iterable[Spot]) -> list[Box]:
    """What a point with its bar takes."""
    return [
        box
        for spot in spots
        for box in (
            (spot.x - 6, spot.y - 6, spot.x + 6, spot.y + 6),
            (spot.x - 2, spot.top, spot.x + 2, spot.bottom),
        )
    ]


@dataclass(frozen=True)
class Spot:
    """A point in pixels from the top left with the ends of its bar; a `rank` of zero is placed
    first. Its name stays between the ends of `reach`.
    """

    name: str
    lever: str
    x: float
    y: float
    top: float
    bottom: float
    rank: int
    reach: tuple[float, float] = (0.0, math.inf)


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
    taken, labels = [*lines, *_bars(spots)], []
    for spot in sorted(spots, key=lambda spot: spot.rank)[:_NAMED]:
        short = replace(spot, name=shortened(spot.name, _SHORT))
        tried = [spot] if spot.rank > 1 or short.name == spot.name else [spot, short]
        for label, box in chain.from_iterable(_candidates(one, width) for one in tried):
            inside = box[0] >= spot.reach[0] and box[2] <= min(width, spot.reach[1])
            inside &= box[1] >= 0 and box[3] <= height
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append((box[0] - 10, box[1], box[2] + 10, box[3]))
                labels.append(label)
                break
    return labels


def _candidates(spot: Spot, width: float) -> Iterable[tuple[NamePlace, Box]]:
    """Beside the point, then beside it a little higher or lower, then over and under its bar,
    pushed inside the picture.
    """
    long = len(spot.name) * _LETTER
    least, most = spot.reach[0], min(width, spot.reach[1])
    inside = min(max(spot.x, least + long / 2), most - long / 2)
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
