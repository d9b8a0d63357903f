"""The page of an audit: what the judge prefers, its ratings beside people's, and every table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.arena.judging.results import Estimate, JudgeAudit
from pomona.arena.judging.tables import judge_lines, judge_tables
from pomona.files import check_into, write_into
from pomona.pages import SCHEMA, nominal, picture, quantitative, render

_NAME = "index.html"
_MOST = 100  # models that are drawn
_WORDS_PREFERENCES = (
    "The mean value of one side by the judge and by people, with 95 % intervals; at 0.5 nothing is "
    "preferred."
)
_WORDS_RATINGS = "Each model's rating by the judge and by people, in Elo, with 95 % intervals."


def check_page(folder: Path) -> None:
    """Raise PomonaError where the page would replace what is none of ours."""
    check_into(folder, [_NAME])


def write_page(audit: JudgeAudit, folder: Path) -> None:
    """Write the page of an audit into a folder."""
    pictures = [("What it prefers", picture(_preferences(audit)), _WORDS_PREFERENCES)]
    if any(one.people.value is not None and one.tie.value is not None for one in audit.models):
        pictures.append(("Ratings beside people's", picture(_ratings(audit)), _WORDS_RATINGS))
    tables = [
        {
            "heading": one.heading,
            "columns": list(one.rows[0]) if one.rows else [],
            "rows": [{"cells": list(map(_cell, row.values())), "verdict": ""} for row in one.rows],
            "caption": one.caption,
        }
        for one in judge_tables(audit)
    ]
    page = render(
        __package__ or "",
        "page.html.j2",
        judge=audit.judge,
        lines=judge_lines(audit),
        tables=tables,
        pictures=pictures,
        notes=audit.notes,
        signature=audit.signature,
    )
    write_into(folder, {_NAME: page.text}, "a page of a judge")


def _cell(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _bar(one: Estimate) -> dict[str, float]:
    value = one.value or 0.0
    return {
        "value": value,
        "low": value if one.ci_low is None else one.ci_low,
        "high": value if one.ci_high is None else one.ci_high,
    }


def _preferences(audit: JudgeAudit) -> dict[str, Any]:
    values = [
        {"side": one.what, "who": who, **_bar(told)}
        for one in audit.preferences
        for who, told in (("judge", one.judge), ("people", one.people))
        if told.value is not None
    ]
    y = nominal("side", title=None, sort=None)
    x = quantitative("value", title="value of that side", scale={"domain": [0, 1]})
    return {
        "$schema": SCHEMA,
        "width": 560,
        "height": {"step": 22},
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "rule", "style": "zero"}, "encoding": {"x": {"datum": 0.5}}},
            {"mark": "rule", "encoding": _across(y, {"x": {**x, "field": "low"}})},
            {
                "mark": {"type": "point", "filled": True, "size": 50},
                "encoding": {"y": y, "yOffset": {"field": "who"}, "x": x, "color": _WHO},
            },
        ],
    }


_WHO = nominal("who", title=None, legend={"orient": "top"}, sort=["judge", "people"])


def _across(y: dict[str, Any], x: dict[str, Any]) -> dict[str, Any]:
    return {"y": y, "yOffset": {"field": "who"}, **x, "x2": {"field": "high"}, "color": _WHO}


def _ratings(audit: JudgeAudit) -> dict[str, Any]:
    values = [
        {
            "model": one.model,
            **{f"people_{name}": value for name, value in _bar(one.people).items()},
            **{f"judge_{name}": value for name, value in _bar(one.tie).items()},
        }
        for one in audit.models[:_MOST]
        if one.people.value is not None and one.tie.value is not None
    ]
    flat = {"zero": False}
    x = quantitative("people_value", title="by people", scale=flat)
    y = quantitative("judge_value", title="by the judge", scale=flat)
    bars = [
        {
            "mark": {"type": "rule", "opacity": 0.35},
            "encoding": {
                "x": {**x, "field": "people_low"},
                "x2": {"field": "people_high"},
                "y": y,
            },
        },
        {
            "mark": {"type": "rule", "opacity": 0.35},
            "encoding": {"x": x, "y": {**y, "field": "judge_low"}, "y2": {"field": "judge_high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 40},
            "encoding": {"x": x, "y": y},
        },
    ]
    if len(values) <= 25:
        mark = {"type": "text", "align": "left", "dx": 6, "dy": -6}
        bars.append({"mark": mark, "encoding": {"x": x, "y": y, "text": nominal("model")}})
    data = {"values": values}
    return {"$schema": SCHEMA, "width": 560, "height": 400, "data": data, "layer": bars}
