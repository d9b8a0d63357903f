"""The page of an audit: pictures with every interval, and tables. It carries no script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pomona.files import check_into, write_into
from pomona.forget.auditing.results import Audit, LevelAudit
from pomona.forget.auditing.slices import Rate, Slice
from pomona.pages import (
    SCHEMA,
    UNKNOWN,
    change,
    clean,
    count,
    nominal,
    p_value,
    picture,
    quantitative,
    render,
)

NAME = "index.html"
_MOST = 60  # groups whose rates are drawn, the smallest first


def check_page(folder: Path) -> None:
    """Raise PomonaError where the page would replace what is none of ours."""
    check_into(folder, [NAME])


def write_page(audit: Audit, folder: Path) -> Path:
    """Write the page into a folder; its path."""
    write_into(folder, {NAME: render_page(audit)}, "a page of an audit")
    return folder / NAME


def render_page(audit: Audit) -> str:
    """The page as one HTML text that loads nothing."""
    pictures = [
        (
            "Above the floor",
            picture(_floor(audit)),
            "The excess over what dense models differ by among themselves, by level.",
        ),
        (
            "Groups",
            picture(_groups(audit)),
            "What each group lost or gained, by "
            + ("training rows" if _by_resource(audit) else "what dense models score on it")
            + "; pale where nothing is known of the error.",
        ),
    ]
    if any(one.rates for level in audit.levels for one in level.groups.values()):
        words = "Change of false positives and negatives; groups of few items have wide intervals."
        pictures.append(("Errors of groups", picture(_rates(audit)), words))
    return render(
        __package__ or "",
        "page.html.j2",
        audit=audit,
        headline=audit.headline(),
        pictures=pictures,
        levels=_level_table(audit),
        groups=[_group_table(level, audit.scale) for level in audit.levels],
    ).text


def _excess_scale(audit: Audit, level: LevelAudit) -> float:
    return 100 if level.measure == "exemplars" else audit.scale


def _slices(level: LevelAudit) -> Iterator[tuple[str, Slice]]:
    yield "all items", level.overall
    yield from ((f"part {name}", one) for name, one in level.parts.items())
    yield from ((f"{name} third of training rows", one) for name, one in level.thirds.items())


def _level_table(audit: Audit) -> dict[str, Any]:
    rows = []
    for level in audit.levels:
        unit = _excess_scale(audit, level)
        for name, one in _slices(level):
            published = one.shift if one.exemplars is None else one.exemplars
            numbers = [published, one.at, one.floor]
            told = [UNKNOWN if x is None else f"{unit * x:.2f}" for x in numbers]
            score = one.score
            cells = [level.level, name, count(score.n), f"{audit.scale * score.dense:.1f}"]
            cells.append(change(score.difference, score.ci_low, score.ci_high, audit.scale))
            cells += [*told, change(one.excess, one.excess_low, one.excess_high, unit)]
            rows.append({"cells": [*cells, p_value(one.p_excess)], "verdict": ""})
    columns = ["level", "items", "n", "dense", "difference", "published", "at", "floor"]
    return {"columns": [*columns, "excess", "p"], "rows": rows}


def _group_table(level: LevelAudit, scale: float) -> tuple[str, list[str], list[dict[str, Any]]]:
    rates = dict.fromkeys(name for one in level.groups.values() for name in one.rates)
    columns = ["group", "items", "dense", "difference", *(name.replace("_", " ") for name in rates)]
    columns += ["p as published", "p (Holm)", "p (BH)", "what to know"]
    rows = []
    for name, one in sorted(level.groups.items(), key=lambda named: named[1].score.difference):
        score = one.score
        cells = [name, count(score.n), f"{scale * score.dense:.1f}"]
        cells.append(change(score.difference, score.ci_low, score.ci_high, scale))
        for rate in rates:
            told: Rate = one.rates[rate]
            cells.append(change(told.difference, told.ci_low, told.ci_high, 100))
        cells += [p_value(p) for p in (one.p_published, one.p_holm, one.p_bh)]
        rows.append({"cells": [*cells, score.note or ""], "verdict": ""})
    return f"{level.level}: groups", columns, rows


def _chart(values: list[dict[str, Any]], layers: list[dict[str, Any]], **more: Any) -> Any:
    return {"$schema": SCHEMA, "data": {"values": values}, **more, "layer": layers}


def _floor(audit: Audit) -> dict[str, Any]:
    values = [
        {
            "level": clean(level.level),
            **{
                name: None if value is None else _excess_scale(audit, level) * value
                for name, value in (
                    ("excess", level.overall.excess),
                    ("low", level.overall.excess_low),
                    ("high", level.overall.excess_high),
                )
            },
        }
        for level in audit.levels
        if level.overall.excess is not None
    ]
    across = nominal("level", sort=None, title=None, axis={"labelAngle": 0})
    return _chart(
        values,
        [
            {
                "mark": {"type": "rule", "style": "zero"},
                "encoding": {"y": {"datum": 0, "type": "quantitative"}},
            },
            {
                "mark": {"type": "rule", "style": "ladder-bar"},
                "encoding": {
                    "x": across,
                    "y": quantitative("low", title="excess over the floor"),
                    "y2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "style": "ladder-point"},
                "encoding": {"x": across, "y": quantitative("excess")},
            },
        ],
        width=max(240, 90 * len(values)),
        height=220,
    )


def _by_resource(audit: Audit) -> bool:
    return bool(audit.resource)


def _groups(audit: Audit) -> dict[str, Any]:
    rows = _by_resource(audit)
    values = [
        {
            "level": clean(level.level),
            "at": 1 + audit.resource[name] if rows else audit.scale * one.score.dense,
            "difference": audit.scale * one.score.difference,
            "low": audit.scale * _known(one.score.ci_low, one.score.difference),
            "high": audit.scale * _known(one.score.ci_high, one.score.difference),
            "known": one.score.ci_low is not None,
        }
        for level in audit.levels
        for name, one in level.groups.items()
    ]
    title = "training rows" if rows else "dense score"
    scale = {"type": "log"} if rows else {"zero": False}
    across = quantitative("at", title=title, scale=scale)
    layers = [
        {"mark": {"type": "rule", "style": "zero"}, "encoding": {"y": {"datum": 0}}},
        {
            "mark": {"type": "rule", "opacity": 0.35, "style": "ladder-bar"},
            "encoding": {
                "x": across,
                "y": quantitative("low", title="compressed − dense"),
                "y2": {"field": "high"},
            },
        },
        {
            "mark": {
                "type": "point",
                "size": 26,
                "filled": True,
                "opacity": 1,
                "style": "ladder-point",
            },
            "encoding": {
                "x": across,
                "y": quantitative("difference"),
                "opacity": {"condition": {"test": "datum.known", "value": 1}, "value": 0.35},
            },
        },
    ]
    return _facets(values, layers, 3)


def _known(end: float | None, value: float) -> float:
    return value if end is None else end


def _facets(values: list[dict[str, Any]], layers: list[dict[str, Any]], columns: int) -> Any:
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "facet": nominal("level", sort=None, title=None),
        "columns": columns,
        "spec": {"width": 220, "height": 180, "layer": layers},
    }


def _rates(audit: Audit) -> dict[str, Any]:
    sizes = {name: one.score.n for name, one in audit.levels[0].groups.items()}
    smallest = sorted(sizes, key=lambda name: sizes[name])[:_MOST]
    values = [
        {
            "level": clean(level.level),
            "group": f"{clean(name)} ({count(sizes[name])})",
            "rate": rate.replace("_", " "),
            "difference": 100 * told.difference,
            "low": 100 * told.ci_low,
            "high": 100 * told.ci_high,
        }
        for level in audit.levels
        for name in smallest
        for rate, told in level.groups[name].rates.items()
        if rate != "error" and told.ci_low is not None and told.ci_high is not None
    ]
    down = nominal("group", sort=None, title=None)
    offset = {"field": "rate", "type": "nominal"}
    colour = nominal("rate", title=None, legend={"orient": "top"})
    layers = [
        {"mark": {"type": "rule", "style": "zero"}, "encoding": {"x": {"datum": 0}}},
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {
                "y": down,
                "yOffset": offset,
                "color": colour,
                "x": quantitative("low", title="points"),
                "x2": {"field": "high"},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 30},
            "encoding": {
                "y": down,
                "yOffset": offset,
                "color": colour,
                "x": quantitative("difference"),
            },
        },
    ]
    told = _facets(values, layers, 2)
    told["spec"]["height"] = 24 * len(smallest)
    return told
