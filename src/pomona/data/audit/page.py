"""The audit as one small page without scripts: its pictures are drawn beforehand, one for light and
one for dark.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from pomona.ledger.report.numbers import clean, count
from pomona.ledger.report.picture import SCHEMA
from pomona.ledger.report.theme import dark, light

if TYPE_CHECKING:
    from pomona.data.audit.report import Group, Report

_PERCENT = {"format": ".0%", "tickCount": 6}
_UNIT = {"domain": [0, 1], "nice": False}


def render(report: Report) -> str:
    """The whole HTML text. It holds no script and loads nothing."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pomona.data.audit", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"clean": clean, "count": count, "percent": percent}
    worst_first = sorted(report.groups, key=lambda group: (group.shares["C"].value, group.name))
    pictures = [
        (
            _picture(curve(report)),
            f"Share of groups below each threshold of correct rows, of {len(report.groups)} groups",
        ),
        (
            _picture(bars(worst_first)),
            "Share of correct rows in each group with its interval; the table has the numbers",
        ),
    ]
    return environment.get_template("report.html.j2").render(
        report=report, groups=worst_first, pictures=pictures
    )


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


def _picture(chart: dict[str, Any]) -> dict[str, str]:
    import vl_convert

    drawn = {}
    for name, config in (("light", light()), ("dark", dark())):
        svg = vl_convert.vegalite_to_svg(chart, config=config, allowed_base_urls=[])
        drawn[name] = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    return drawn
