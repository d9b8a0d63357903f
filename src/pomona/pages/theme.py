"""How the charts look: a light and a dark configuration, so that a chart itself names styles and
never colours.
"""

from __future__ import annotations

from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
FONT = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation "
    "Sans', sans-serif"
)
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]


def light() -> dict[str, Any]:
    """Okabe and Ito's palette, the colours darkened where they carry text."""
    levers = ["#C2500A", "#0B6FAE", "#00805E", "#A4508A", "#8A6D00", "#3F8FC4"]
    return _config(
        paper="#ffffff",
        ink="#1c2420",
        soft="#5c6862",
        line="#e3e8e4",
        band="#f0ede2",
        scale="#3b4640",
        levers=levers,
        pale="#f4f5f2",
    )


def dark() -> dict[str, Any]:
    """The same hues, lighter."""
    levers = ["#FF9A5C", "#6DB9EE", "#3CC79C", "#E09AC6", "#E3C54A", "#A9D8F5"]
    return _config(
        paper="#151a17",
        ink="#eef2ef",
        soft="#a3aea8",
        line="#2c3430",
        band="#232820",
        scale="#c9d2cc",
        levers=levers,
        pale="#242b27",
    )


def _config(
    *,
    paper: str,
    ink: str,
    soft: str,
    line: str,
    band: str,
    scale: str,
    levers: list[str],
    pale: str,
) -> dict[str, Any]:
    words = {
        "labelColor": soft,
        "titleColor": soft,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    }
    return {
        "background": paper,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **words,
            "gridColor": line,
            "domainColor": line,
            "tickColor": line,
            "titlePadding": 10,
        },
        "title": {"color": ink, "fontSize": 15, "anchor": "start", "frame": "group", "offset": 14},
        "legend": {
            **words,
            "labelFontSize": 12,
            "labelColor": ink,
            "symbolSize": 90,
            "symbolStrokeWidth": 2,
            "symbolOpacity": 1,
        },
        "range": {
            "category": levers,
            "symbol": SHAPES,
            "diverging": [levers[0], pale, levers[1]],
            "heatmap": [pale, levers[0]],
        },
        "style": {
            "zero": {"color": soft, "strokeWidth": 1.2},
            "ladder": {"color": scale, "strokeWidth": 2},
            "ladder-bar": {"color": scale, "strokeWidth": 1.5},
            "ladder-point": {"color": scale},
            "ladder-label": {"color": scale},
            "control": {"color": soft, "strokeWidth": 1.4, "strokeDash": [6, 4]},
            "control-label": {"color": soft},
            "halo": {"color": paper, "stroke": paper, "strokeWidth": 4, "strokeJoin": "round"},
            "hollow": {"color": paper},
            "cell": {"color": ink},
            "tail-band": {"color": band},
            "tail-word": {"color": soft, "fontSize": 11, "fontStyle": "italic"},
        },
    }
