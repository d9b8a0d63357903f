"""report.html: heat maps of what a merge measured, layer by layer, for light and dark screens, with
all their numbers in a table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pomona.merge.checkpoints.names import place_of
from pomona.pages import SCHEMA, clean, count, render

if TYPE_CHECKING:
    from pomona.merge.report.survey import Layers


@dataclass(frozen=True)
class Map:
    """One heat map: its heading and note, names of rows, and a value (or None) for each row and
    layer.
    """

    heading: str
    note: str
    values: Mapping[str, Sequence[float | None]]
    show: Callable[[float], str]
    least: float
    most: float


def page(title: str, signature: str, layers: Layers) -> str:
    """The page as HTML text. Names come from recipes and files, so they are escaped and cannot
    steer the text's direction.
    """
    maps = _maps(layers)
    names = [row["layer"] for row in layers.rows]
    columns = _columns(layers)
    return render(
        "pomona.merge.report",
        "heatmap.html.j2",
        charts={f"map-{place}": _chart(one, names) for place, one in enumerate(maps, 1)},
        title=title,
        signature=signature,
        headline=_headline(layers),
        measured=_measured(layers),
        maps=maps,
        columns=list(columns),
        rows=[{"cells": [cell(row) for cell in columns.values()]} for row in layers.rows],
    ).text


def _maps(layers: Layers) -> list[Map]:
    rows = layers.rows
    relative = any(row["relative"] for row in rows)
    norms = {
        model: [row["relative" if relative else "norms"].get(model) for row in rows]
        for model in layers.models
    }
    what = (
        "Norm of each task vector, as a share of the base's norm"
        if relative
        else f"Norm of the {layers.of}"
    )
    note = (
        "How far each model has moved from the base."
        if relative
        else "Euclidean norm over all elements of a layer."
    )
    show: Callable[[float], str] = (
        (lambda value: f"{value:.2%}".replace("%", " %"))
        if relative
        else (lambda value: f"{value:.3g}")
    )
    maps = [Map(what, note, norms, show, 0.0, _most(norms))]
    pairs = list(dict.fromkeys(pair for row in rows for pair in row["cosines"]))
    if pairs:
        cosines = {pair: [row["cosines"].get(pair) for row in rows] for pair in pairs}
        words = (
            "Orange: they point the same way; blue: against each other; pale: they are independent."
        )
        bound = max(
            0.1, *(abs(value) for line in cosines.values() for value in line if value is not None)
        )
        maps.append(
            Map(
                f"Cosine between {layers.of}",
                words,
                cosines,
                lambda value: f"{value:+.3f}".replace("-", "−"),
                -bound,
                bound,
            )
        )
        unlike = {"all models": [row["conflicts"] for row in rows]}
        words = (
            "Share of elements that one model wants larger than zero and another smaller."
            if layers.of == "weights"
            else ("Share of elements that one model moves up and another down.")
        )
        maps.append(
            Map(
                "Sign conflicts",
                words,
                unlike,
                lambda value: f"{value:.1%}".replace("%", " %"),
                0.0,
                _most(unlike),
            )
        )
    return maps


def _most(values: Mapping[str, Sequence[float | None]]) -> float:
    return (
        max((value for line in values.values() for value in line if value is not None), default=0.0)
        or 1.0
    )


def _chart(one: Map, layers: Sequence[str]) -> dict[str, Any]:
    """A cell for each name and layer as a Vega-Lite specification."""
    rows = [
        {
            "at": place,
            "layer": clean(layers[place]),
            "name": clean(name),
            "value": value,
            "said": one.show(value),
        }
        for name, values in one.values.items()
        for place, value in enumerate(values)
        if value is not None
    ]
    signed = one.least < 0
    colour = {
        "field": "value",
        "type": "quantitative",
        "scale": {
            "domain": [one.least, 0, one.most] if signed else [0, one.most],
            "range": "diverging" if signed else "heatmap",
            "reverse": signed,
            "interpolate": "rgb",
        },
        "legend": {
            "title": None,
            "orient": "bottom",
            "direction": "horizontal",
            "gradientLength": 250,
            "values": [one.least, one.most],
            "labelExpr": f"datum.value == {one.least} ? '{one.show(one.least)}' : "
            f"'{one.show(one.most)}'",
        },
    }
    words = [_on_axis(name) for name in layers]
    axis = {"title": None, "domain": False, "ticks": False, "labelOverlap": True}
    x = {
        "field": "at",
        "type": "ordinal",
        "scale": {"domain": list(range(len(layers)))},
        "axis": {**axis, "labelExpr": f"{json.dumps(words)}[datum.value]", "labelAngle": -35},
    }
    names = [clean(name) for name in one.values]
    shown = [_short(name, 28) for name in names]
    cut = f"{json.dumps(shown)}[indexof({json.dumps(names)}, datum.value)]"
    y = {
        "field": "name",
        "type": "nominal",
        "scale": {"domain": names},
        "axis": {**axis, "labelExpr": cut, "labelLimit": 200},
    }
    told = [{"field": name, "type": "nominal"} for name in ("layer", "name", "said")]
    return {
        "$schema": SCHEMA,
        "width": 840,
        "height": {"step": 24},
        "data": {"values": rows},
        "mark": {"type": "rect", "stroke": None},
        "encoding": {
            "x": x,
            "y": y,
            "color": colour,
            "tooltip": [*told[:2], {**told[2], "title": "value"}],
        },
    }


def _on_axis(layer: str) -> str:
    """The number of a layer, or the last part of its name."""
    placed = place_of(f"{layer}.x")
    return str(placed.layer) if placed else _short(clean(layer.rsplit(".", 1)[-1]), 14)


def _short(name: str, most: int) -> str:
    """A name cut to `most` letters; of paths the end tells more."""
    return name if len(name) <= most else "…" + name[-(most - 1) :]


def _headline(layers: Layers) -> str:
    counted = [row for row in layers.rows if row["conflicts"] is not None]
    if not counted:
        return (
            f"{len(layers.rows)} layers, {len(layers.models)} "
            f"model{'s' if len(layers.models) > 1 else ''}"
        )
    elements = sum(row["elements"] for row in counted)
    share = sum(row["conflicts"] * row["elements"] for row in counted) / elements
    least, most = (end(counted, key=lambda row: row["conflicts"]) for end in (min, max))
    range_ = (
        f"from {least['conflicts']:.0%} in {least['layer']} to {most['conflicts']:.0%} in "
        f"{most['layer']}"
    )
    said = "want unlike signs for" if layers.of == "weights" else "pull in opposite directions on"
    return f"The {len(layers.models)} models {said} {share:.0%} of the elements, {range_}".replace(
        "%", " %"
    )


def _measured(layers: Layers) -> str:
    elements, errors = (
        sum(row["elements"] for row in layers.rows),
        [row["error"] for row in layers.rows],
    )
    if layers.share > 0.999:
        return f"Measured on all {count(elements)} elements."
    return (
        f"Measured on {layers.share:.0%} of {count(elements)} elements, the first part of "
        "every block; "
        f"the standard error of a layer's share of sign conflicts is at most {max(errors):.2%}."
    ).replace("%", " %")


def _columns(layers: Layers) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """The columns of the table, and what each shows of a layer."""
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "layer": lambda row: row["layer"],
        "elements": lambda row: f"{row['elements']:,}",
    }
    for model in layers.models:
        columns[f"norm {model}"] = lambda row, model=model: _number(row["norms"].get(model))
    for pair in dict.fromkeys(pair for row in layers.rows for pair in row["cosines"]):
        columns[f"cosine {pair}"] = lambda row, pair=pair: _number(row["cosines"].get(pair))
    columns["sign conflicts"] = lambda row: _number(row["conflicts"])
    return columns


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"
