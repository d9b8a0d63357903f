"""The pages of curves: a metric's along sizes beside another's, and levers from size to size. They
carry no script.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pomona.files import check_into, write_into
from pomona.pages import (
    SCHEMA,
    UNKNOWN,
    clean,
    count,
    flops,
    nominal,
    p_value,
    picture,
    quantitative,
    render,
    short,
)
from pomona.scale.curves.results import (
    RANKED,
    UNITS,
    Curve,
    Decision,
    Decisions,
    Inflection,
    Method,
    RankFigure,
    shown,
)
from pomona.scale.curves.scores import OVERALL

NAME = "index.html"
_MOST = 12  # curves, or levers, that a picture holds


def check_page(folder: Path) -> None:
    """Raise PomonaError where the page would replace what is none of ours."""
    check_into(folder, [NAME])


def write_inflection(result: Inflection, folder: Path) -> Path:
    """Write the page of curves into a folder; its path."""
    shown = [curve for curve in result.curves if curve.group == OVERALL] or list(result.curves)
    words = "Points with 95 % intervals as far as they are known, and the shape that predicts best."
    pictures = [("Curves by metric", picture(_curves(shown[:_MOST], result.along)), words)]
    rest = [curve for curve in result.curves if curve.group != OVERALL][:_MOST]
    if rest and len(shown) < len(result.curves):
        drawn = picture(_curves(rest, result.along))
        pictures.append(("By group", drawn, "The first groups; the table has all."))
    return _write("curves along sizes", result, pictures, [("Shapes", *_inflection_table(result))],
                  [f"{name}: {told}." for name, told in UNITS.items()], folder)  # fmt: skip


def write_decisions(result: Decisions, folder: Path) -> Path:
    """Write the page of rankings into a folder; its path."""
    first = result.decisions[0]
    pictures = [
        (
            "Levers from size to size",
            picture(_slopes(first, result.sizes)),
            "The rank of each lever by its value, the best on top. Lines that cross are pairs that "
            "a smaller size orders otherwise.",
        )
    ]
    tables = [(f"{one.metric}, {one.group}", *_decision_table(one)) for one in result.decisions]
    notes = [f"{name}: {told}." for name, told in RANKED.items()]
    return _write("levers at several sizes", result, pictures, tables, notes, folder)


def _write(
    kind: str,
    result: Inflection | Decisions,
    pictures: list[tuple[str, dict[str, str], str]],
    tables: list[tuple[str, list[str], list[dict[str, Any]]]],
    notes: list[str],
    folder: Path,
) -> Path:
    text = render(
        __package__ or "",
        "page.html.j2",
        kind=kind,
        headline=result.headline(),
        pictures=pictures,
        tables=tables,
        notes=[*result.notes, *notes],
        signature=result.signature,
    ).text
    write_into(folder, {NAME: text}, f"a page of {kind}")
    return folder / NAME


def _inflection_table(result: Inflection) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the curves."""
    columns = ["metric", "items", "sizes", "verdict", "broken − smooth", "p", "p (Holm)", "shape"]
    columns += ["turns at", "breakthrough", "what to know"]
    rows = []
    for one in result.curves:
        cells = [one.name, one.group, count(len(one.sizes)), one.verdict]
        cells += [one.ahead(), p_value(one.p_value), p_value(one.p_holm), one.shape or UNKNOWN]
        cells += ["—" if one.turn is None else short(one.turn)]
        known = one.breakthrough is not None
        cells += [f"{one.breakthrough:.1f}" if known else UNKNOWN, one.note]
        rows.append({"cells": cells, "verdict": ""})
    return columns, rows


def _decision_table(one: Decision) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the ways to rank levers."""
    columns = ["ranked by", "levers", "pairs ordered alike", "of decided pairs", "Kendall's tau"]
    columns += ["Spearman's rho", "takes", "regret", "FLOPs", "of the largest's", "what to know"]
    rows = []
    for method in one.methods:
        cells = [method.name, count(method.levers), *_figures(method)]
        rows.append({"cells": [*cells, method.note], "verdict": ""})
    return columns, rows


def _figures(method: Method) -> list[str]:
    """What is known of a way to rank levers, in words."""
    told = _told(method.decided_accuracy, percent=True)
    share = method.flops_share
    return [
        _told(method.accuracy, percent=True),
        f"{told} of {method.decided}" if method.decided else UNKNOWN,
        _told(method.kendall),
        _told(method.spearman),
        method.chosen or "—",
        _told(method.regret),
        flops(method.flops),
        UNKNOWN if share is None else f"{share:.0%}",
    ]


def _told(one: RankFigure | None, *, percent: bool = False) -> str:
    return UNKNOWN if one is None else one.told(percent=percent)


def _curves(curves: list[Curve], along: str) -> dict[str, Any]:
    values, lines, panels = [], [], []
    for one in curves:
        where = "" if one.group == OVERALL else f", {one.group}"
        panel = clean(f"{one.name}{where}: {one.verdict}")
        panels.append(panel)
        ends = zip(one.lows, one.highs, strict=True)
        for size, value, (low, high) in zip(one.sizes, one.values, ends, strict=True):
            known = {} if low is None or high is None else {"low": low, "high": high}
            values.append({"panel": panel, "size": size, "value": value, **known})
        if one.fitted is not None:
            pairs = zip(one.sizes, one.fitted, strict=True)
            lines += [{"panel": panel, "size": size, "shape": fitted} for size, fitted in pairs]
    across = quantitative(
        "size",
        title=along,
        scale={"type": "log"},
        axis={"format": "~s", "tickCount": 4, "labelSeparation": 12},
    )
    layers = [
        {
            "transform": [{"filter": "isValid(datum.shape)"}],
            "mark": {"type": "line", "style": "ladder"},
            "encoding": {
                "x": across,
                "y": quantitative("shape", title=None, scale={"zero": False}),
            },
        },
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "style": "ladder-bar"},
            "encoding": {"x": across, "y": quantitative("low"), "y2": {"field": "high"}},
        },
        {
            "transform": [{"filter": "isValid(datum.value)"}],
            "mark": {"type": "point", "filled": True, "size": 46, "style": "ladder-point"},
            "encoding": {"x": across, "y": quantitative("value")},
        },
    ]
    return {
        "$schema": SCHEMA,
        "data": {"values": [*values, *lines]},
        "facet": nominal("panel", sort=panels, title=None, header={"labelFontSize": 13}),
        "columns": 3,
        "resolve": {"scale": {"y": "independent", "x": "independent"}},
        "spec": {"width": 270, "height": 200, "layer": layers},
    }


def _slopes(one: Decision, sizes: Any) -> dict[str, Any]:
    sign = 1 if one.higher_is_better else -1
    last = one.values
    names = sorted(last, key=lambda lever: -sign * _known(last[lever][one.largest]))[:_MOST]
    values = []
    for size in sizes:
        there = [name for name in names if last[name][size] is not None]
        order = sorted(there, key=lambda name: -sign * _known(last[name][size]))
        for rank, name in enumerate(order, 1):
            values.append({"lever": clean(name), "size": shown(size), "rank": rank})
    across = nominal("size", sort=None, title=None, axis={"labelAngle": 0})
    down = quantitative("rank", scale={"reverse": True, "nice": False, "zero": False}, title="rank",
                        axis={"tickMinStep": 1, "format": "d"})  # fmt: skip
    colour = nominal("lever", legend=None)
    ends = {"transform": [{"filter": {"field": "size", "equal": one.judge}}]}
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "width": max(320, 170 * (len(list(sizes)) - 1)),
        "height": max(160, 26 * len(names)),
        "padding": {"left": 5, "top": 5, "bottom": 5, "right": 80},  # names beside the last size
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 60}},
                "encoding": {"x": across, "y": down, "color": colour},
            },
            {
                **ends,
                "mark": {"type": "text", "align": "left", "dx": 10, "fontSize": 12},
                "encoding": {"x": across, "y": down, "color": colour, "text": {"field": "lever"}},
            },
        ],
    }


def _known(value: float | None) -> float:
    return -np.inf if value is None else value
