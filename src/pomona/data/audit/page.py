"""The audit as files: its numbers, and one small page without scripts, whose pictures are drawn
beforehand, one for light and one for dark.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pomona.data.audit.labels import read_key, read_labels
from pomona.data.audit.report import Group, Report, summed_up
from pomona.files import json_text, write_into
from pomona.pages import SCHEMA, clean, picture, render

_PERCENT = {"format": ".0%", "tickCount": 6}
_UNIT = {"domain": [0, 1], "nice": False}


def audit_report(folder: str | Path) -> Report:
    """Sum up the shares of correct and wrong rows, and write report.json and report.html.

    The label of a person goes before the pre-label, which stands in where nobody has labelled.
    After Kreutzer et al. 2022, §4 and Table 2; intervals of one share are Wilson's, those of
    averages combine them as Zou and Donner 2008 (MOVER).

    Args:
        folder: Folder of the audit.

    Raises:
        PomonaError: there is no audit in the folder, or its `labels.csv` is not what was sampled;
            see the error's file and line.
    """
    folder = Path(folder)
    about, key = read_key(folder)
    labels = read_labels(folder)
    report = summed_up(about, key, labels)
    files = {"report.json": json_text(asdict(report)), "report.html": _page(report)}
    write_into(folder, files)
    return report


def _page(report: Report) -> str:
    worst_first = sorted(report.groups, key=lambda group: (group.shares["C"].value, group.name))
    below = f"Share of groups below each threshold of correct rows, of {len(report.groups)} groups"
    correct = "Share of correct rows in each group with its interval; the table has the numbers"
    content = {
        "report": report,
        "groups": worst_first,
        "percent": percent,
        "pictures": [
            ("Groups below a threshold", picture(curve(report)), below),
            ("Correct rows by group", picture(bars(worst_first)), correct),
        ],
    }
    return render("pomona.data.audit", "report.html.j2", **content).text


def percent(share: float) -> str:
    """`29 %`; `<1 %` and `>99 %` are told from 0 and 100."""
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def curve(report: Report) -> dict[str, Any]:
    """The curve "fraction of groups below a quality threshold" as a Vega-Lite specification
    (Kreutzer et al. 2022, Figure 2).
    """
    title = f"share of groups ({clean(report.by)}) below it"
    return {
        "$schema": SCHEMA,
        "width": 640,
        "height": 280,
        "data": {
            "values": [
                {"threshold": threshold, "below": below} for threshold, below in report.curve
            ]
        },
        "mark": {"type": "line", "interpolate": "step-before", "style": "ladder"},
        "encoding": {
            "x": {
                "field": "threshold",
                "type": "quantitative",
                "scale": _UNIT,
                "axis": {**_PERCENT, "title": "share of correct rows (C)"},
            },
            "y": {
                "field": "below",
                "type": "quantitative",
                "scale": _UNIT,
                "axis": {**_PERCENT, "title": title},
            },
        },
    }


def bars(groups: list[Group]) -> dict[str, Any]:
    """C of each group with its interval, as a Vega-Lite specification."""
    values = [{"group": clean(group.name), **_ends(group)} for group in groups]
    names = {
        "field": "group",
        "type": "nominal",
        "sort": None,
        "axis": {
            "title": None,
            "domain": False,
            "ticks": False,
            "labelPadding": 10,
            "labelLimit": 160,
        },
    }
    x = {
        "type": "quantitative",
        "scale": _UNIT,
        "axis": {**_PERCENT, "title": "share of correct rows (C), 95 % interval"},
    }
    return {
        "$schema": SCHEMA,
        "width": 600,
        "height": {"step": 17},
        "data": {"values": values},
        "layer": [
            {
                "mark": {"type": "rule", "style": "ladder-bar", "opacity": 0.75},
                "encoding": {"y": names, "x": {"field": "low", **x}, "x2": {"field": "high"}},
            },
            {
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 50,
                    "opacity": 1,
                    "style": "ladder-point",
                },
                "encoding": {"y": names, "x": {"field": "c", **x}},
            },
        ],
    }


def _ends(group: Group) -> dict[str, float]:
    share = group.shares["C"]
    return {"c": share.value, "low": share.low, "high": share.high}
