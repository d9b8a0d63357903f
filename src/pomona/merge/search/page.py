"""Searches and leave-one-out merges as pages without scripts: pictures are drawn beforehand, one
for light and one for dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.merge.search.results import Gain, Matrix, Searched, decimals_of, number
from pomona.pages import SCHEMA, clean, count, flops, picture, render


def render_search(searched: Searched) -> str:
    """The page of a search: what the best merge buys on the test items, every trial, and the values
    found.
    """
    optimum, higher = searched.optimum, searched.higher_is_better
    gains = {
        name: {group: Gain.of(one, higher) for group, one in groups.items()}
        for name, groups in searched.contrasts.items()
    }
    said = [f"{gain['overall']} against {name}" for name, gain in gains.items()]
    values = ", ".join(f"{name} {value:g}" for name, value in optimum.best.values.items())
    best = optimum.best.value if optimum.best.value is not None else 0.0
    facts = [
        f"Best of {count(len(optimum.trials))} candidates on the validation items: "
        f"{searched.metric} {number(best)} at {values}.",
        f"The search took {flops(optimum.flops)} FLOPs and {number(optimum.seconds, 1)} CPU "
        "seconds; no candidate was written to disk.",
        *searched.notes,
    ]
    pictures = [
        _drawn(
            trials_chart(searched),
            "Trials",
            "Score of each trial on the validation items and the best so far",
        )
    ]
    if any(len(groups) > 1 for groups in gains.values()):
        pictures.append(
            _drawn(
                groups_chart(gains, searched.metric),
                "Gain by group",
                "Gain of the searched merge in each group with its interval",
            )
        )
    rows = [
        _row(
            [
                group,
                name,
                number(searched.contrasts[name][group].value),
                str(gain),
                count(searched.contrasts[name][group].n),
            ],
            gain,
        )
        for name, groups in gains.items()
        for group, gain in groups.items()
    ]
    columns = ["group", "against", searched.metric, "gain [95 %]", "items"]
    tables = [{"heading": "On the test items", "columns": columns, "rows": rows, "judged": [3]}]
    headline = (
        f"Searched merge, gain in {searched.metric} on the test items: {'; '.join(said)}"
        if said
        else "Searched merge"
    )
    return _page("Merge search", headline, facts, pictures, tables, searched.signature)


def render_matrix(matrix: Matrix) -> str:
    """The page of leave-one-out merges: what each expert brings to each group."""
    gains = matrix.gains()
    hurts = {
        expert: [group for group, gain in groups.items() if gain.verdict == "worse"]
        for expert, groups in gains.items()
    }
    said = [f"{expert} hurts {', '.join(groups)}" for expert, groups in hurts.items() if groups]
    headline = f"{len(gains)} experts, each left out once: " + (
        "; ".join(said) if said else "none hurts any group beyond chance"
    )
    rows = [
        _row(
            [
                group,
                expert,
                number(matrix.contrasts[expert][group].baseline_value),
                str(gain),
                gain.verdict,
            ],
            gain,
        )
        for expert, groups in gains.items()
        for group, gain in groups.items()
    ]
    columns = ["group", "expert", f"{matrix.metric} without it", "what it brings [95 %]", "verdict"]
    note = (
        "The full merge against the merge without the expert; a dot marks intervals that do "
        "not hold zero."
    )
    pictures = [
        _drawn(
            heat_chart(gains),
            "What each expert brings to each group",
            "Heat map; the table has the numbers",
            note,
        )
    ]
    tables = [{"heading": "Numbers", "columns": columns, "rows": rows, "judged": [3, 4]}]
    return _page("Leave one out", headline, list(matrix.notes), pictures, tables, matrix.signature)


def trials_chart(searched: Searched) -> dict[str, Any]:
    """Score of each trial and the best so far, as a Vega-Lite specification."""
    pairs = zip(searched.optimum.trials, searched.optimum.so_far(), strict=True)
    rows = [
        {"trial": place, "score": trial.value, "best": best}
        for place, (trial, best) in enumerate(pairs, 1)
        if trial.value is not None
    ]
    x = {
        "field": "trial",
        "type": "quantitative",
        "axis": {"grid": False, "tickMinStep": 1, "title": "trial"},
        "scale": {"nice": False},
    }
    title = (
        f"{searched.metric} on the validation items, "
        f"{'higher' if searched.higher_is_better else 'lower'} is better"
    )
    y = {"type": "quantitative", "title": title, "scale": {"zero": False}}
    return {
        "$schema": SCHEMA,
        "width": 640,
        "height": 260,
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "line", "interpolate": "step-after", "style": "ladder"},
                "encoding": {"x": x, "y": {"field": "best", **y}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 0.9},
                "encoding": {
                    "x": x,
                    "y": {"field": "score", **y},
                    "color": {"datum": "a trial", "type": "nominal", "legend": None},
                },
            },
        ],
    }


def groups_chart(gains: Mapping[str, Mapping[str, Gain]], metric: str) -> dict[str, Any]:
    """Gain with its interval in each group, one mark for each system compared with, as a Vega-Lite
    specification.
    """
    rows = [
        {
            "group": clean(group),
            "against": clean(name),
            "gain": gain.value,
            "low": gain.low,
            "high": gain.high,
        }
        for name, groups in gains.items()
        for group, gain in groups.items()
    ]
    names = {
        "field": "group",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "domain": False, "ticks": False, "labelLimit": 160},
    }
    domain = [clean(name) for name in gains]
    colour = {
        "field": "against",
        "type": "nominal",
        "scale": {"domain": domain},
        "legend": {"title": None, "orient": "top"},
    }
    offset = {"field": "against", "type": "nominal", "sort": domain}
    x = {
        "type": "quantitative",
        "title": f"gain in {metric} (95 % interval)",
        "scale": {"zero": True},
        "axis": {"tickCount": 8},
    }
    return {
        "$schema": SCHEMA,
        "width": 600,
        "height": {"step": 12, "for": "offset"},
        "data": {"values": rows},
        "layer": [
            {
                "data": {"values": [{"gain": 0}]},
                "mark": {"type": "rule", "style": "zero"},
                "encoding": {"x": {"field": "gain", **x}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.6},
                "encoding": {
                    "y": names,
                    "yOffset": offset,
                    "x": {"field": "low", **x},
                    "x2": {"field": "high"},
                    "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": {
                    "y": names,
                    "yOffset": offset,
                    "x": {"field": "gain", **x},
                    "color": colour,
                    "shape": colour,
                },
            },
        ],
    }


def heat_chart(gains: Mapping[str, Mapping[str, Gain]]) -> dict[str, Any]:
    """What each expert brings to each group as a heat map, a Vega-Lite specification."""
    decimals = decimals_of(
        max((abs(gain.value) for groups in gains.values() for gain in groups.values()), default=0)
    )
    rows = [
        {
            "expert": clean(expert),
            "group": clean(group),
            "gain": gain.value,
            "said": number(gain.value, decimals, signed=True)
            + (" •" if gain.verdict != "unclear" else ""),
        }
        for expert, groups in gains.items()
        for group, gain in groups.items()
    ]
    # so that no cell is too strong to read text on
    reach = 1.8 * max((abs(row["gain"]) for row in rows), default=0) or 1.0
    place = {
        "x": {
            "field": "expert",
            "type": "nominal",
            "sort": None,
            "axis": {"title": None, "orient": "top", "labelAngle": 0, "labelLimit": 150},
        },
        "y": {
            "field": "group",
            "type": "nominal",
            "sort": None,
            "axis": {"title": None, "labelLimit": 160},
        },
    }
    scale = {"domain": [-reach, 0, reach], "range": "diverging", "interpolate": "rgb"}
    colour = {
        "field": "gain",
        "type": "quantitative",
        "scale": scale,
        "legend": {"title": "gain", "gradientLength": 120},
    }
    return {
        "$schema": SCHEMA,
        "width": {"step": 110},
        "height": {"step": 24},
        "data": {"values": rows},
        "encoding": place,
        "layer": [
            {"mark": {"type": "rect"}, "encoding": {"color": colour}},
            {
                "mark": {"type": "text", "fontSize": 11, "style": "cell"},
                "encoding": {"text": {"field": "said", "type": "nominal"}},
            },
        ],
    }


def _row(cells: Sequence[str], gain: Gain) -> dict[str, Any]:
    return {"cells": list(cells), "verdict": gain.verdict}


def _page(
    title: str,
    headline: str,
    facts: Sequence[str],
    pictures: Sequence[Any],
    tables: Sequence[Any],
    signature: str,
) -> str:
    return render(
        "pomona.merge.search",
        "page.html.j2",
        title=title,
        headline=headline,
        facts=facts,
        pictures=pictures,
        tables=tables,
        signature=signature,
    ).text


def _drawn(chart: dict[str, Any], heading: str, words: str, note: str = "") -> dict[str, Any]:
    return {"heading": heading, "words": words, "note": note, "sources": picture(chart)}
