"""What a merge measures on the way: for every layer the size of each task vector, their angles, and
where their signs conflict; and report.html, which shows it as heat maps for light and dark screens,
with all numbers in a table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.merge.methods.common import Loops
from pomona.merge.plan import MergePlan, TensorInput, TensorJob, inputs_of
from pomona.models.tensors import FLOATS, place_of
from pomona.pages import SCHEMA, clean, count as shown_count, render

PART = 8  # of every block, the first eighth is measured
LEAST = 1 << 12  # elements of a block that are measured at least


@dataclass(frozen=True)
class Layers:
    """What was measured. rows: a mapping for each layer, in the order of the result, with

    layer: its name. elements, measured: how many it has, and on how many the numbers rest.
    norms: by model, the norm of the task vector θ − base, or of θ without a base. relative: that
        over the norm of the base.
    cosines: by pair "A × B", between task vectors (or weights).
    conflicts: share of elements of which one task vector is positive and another negative; error:
        its standard error.
    """

    of: str  # "task vectors" or "weights"
    models: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def share(self) -> float:
        """Share of all elements that was measured."""
        return sum(row["measured"] for row in self.rows) / max(
            1, sum(row["elements"] for row in self.rows)
        )


class MergeSurvey:
    """Measures the jobs of a plan that have floats of at least one model beside the base."""

    def __init__(self, plan: MergePlan) -> None:
        self._plan = plan
        self.names = tuple(
            dict.fromkeys(
                _name(plan, item) for job in plan.jobs if _counts(job) for item in job.inputs
            )
        )

    def measure(self, job: TensorJob, start: int, blocks: Sequence[NDArray[Any]]) -> Any:
        """Of the first part of a block: elements, squared norm of the base, scalar products of all
        pairs, elements of unlike sign.
        """
        if not _counts(job):
            return None
        kinds = [item.dtype for item in inputs_of(job)]
        count = min(len(blocks[0]), max(LEAST, len(blocks[0]) // PART))
        return (
            count,
            *measure_block([block[:count] for block in blocks], kinds, job.base is not None),
        )

    def total(self, job: TensorJob, measured: Sequence[Any]) -> Any:
        """The sum over a tensor's blocks, as the journal keeps it; None when nothing was
        measured.
        """
        if not measured:
            return None
        count = sum(one[0] for one in measured)
        share = sum(one[3] for one in measured) / count
        spread = sum((one[3] - share * one[0]) ** 2 for one in measured) * (
            1 - count / max(count + 1, math.prod(job.shape))
        )
        products = [math.fsum(column) for column in zip(*(one[2] for one in measured), strict=True)]
        return [
            count,
            math.fsum(one[1] for one in measured),
            products,
            int(sum(one[3] for one in measured)),
            spread,
        ]

    def layers(self, done: Mapping[int, Any]) -> Layers | None:
        """The rows, from every tensor's sums; None when nothing was measured."""
        groups: dict[str, list[tuple[TensorJob, Any]]] = {}
        for number, job in enumerate(self._plan.jobs):
            if done.get(number) is not None:
                groups.setdefault(layer_of(job.name), []).append((job, done[number]))
        if not groups:
            return None
        based = any(job.base is not None for members in groups.values() for job, _ in members)
        rows = tuple(self._row(layer, members) for layer, members in groups.items())
        return Layers("task vectors" if based else "weights", self.names, rows)

    def _row(self, layer: str, members: Sequence[tuple[TensorJob, Any]]) -> dict[str, Any]:
        squares: dict[str, float] = {}
        products: dict[tuple[str, str], float] = {}
        base = elements = measured = conflicts = 0.0
        spread = 0.0
        for job, (count, own, gram, unlike, varied) in members:
            factor = math.prod(job.shape) / count  # a tensor counts as much as it has elements
            models = [_name(self._plan, item) for item in job.inputs]
            pairs = [(i, k) for i in range(len(models)) for k in range(i, len(models))]
            for (i, k), value in zip(pairs, gram, strict=True):
                if i == k:
                    squares[models[i]] = squares.get(models[i], 0.0) + value * factor
                else:
                    key = (models[i], models[k])
                    products[key] = products.get(key, 0.0) + value * factor
            base += own * factor
            elements += math.prod(job.shape)
            measured += count
            conflicts += unlike * factor
            spread += varied * factor**2
        norms = {model: math.sqrt(max(0.0, value)) for model, value in squares.items()}
        scale = math.sqrt(base)
        return {
            "layer": layer,
            "elements": int(elements),
            "measured": int(measured),
            "norms": norms,
            "relative": {model: norm / scale for model, norm in norms.items()} if scale else {},
            "cosines": {
                f"{one} × {other}": products[one, other] / (norms[one] * norms[other])
                for one, other in combinations(norms, 2)
                if (one, other) in products and norms[one] and norms[other]
            },
            "conflicts": conflicts / elements if len(norms) > 1 else None,
            "error": math.sqrt(spread) / elements,
        }


def layer_of(name: str) -> str:
    """The layer a tensor belongs to, such as "model.layers.3"; outside layers its own name without
    "weight" or "bias".
    """
    place = place_of(name)
    return f"{place.stack}.{place.layer}" if place else name.rsplit(".", 1)[0]


def _counts(job: TensorJob) -> bool:
    return (
        bool(job.inputs)
        and job.method != "copy"
        and all(item.dtype in FLOATS for item in job.inputs)
    )


def _name(plan: MergePlan, item: Any) -> str:
    return item.identity or plan.models[item.model].name


def measure_block(
    blocks: Sequence[NDArray[Any]], kinds: Sequence[str], based: bool
) -> tuple[float, list[float], int]:
    """Sizes, angles and conflicts of task vectors τ = θ − θ_0, or of θ itself without a base, over
    one block.

    blocks: flat and contiguous, as stored, the base's first if `based`; kinds: their types ("BF16",
        …).
    Returns the base's squared norm (0 without a base); the scalar products of all pairs i ≤ k in
    the order (0, 0), (0, 1), …; and the number of elements of which one τ is positive and another
    negative. Sums of several blocks are sums of these. Raises PomonaError when a block holds NaN or
    infinity; `where` is its place.
    """
    inputs = tuple(TensorInput(place, "", kind) for place, kind in enumerate(kinds))
    loops = Loops(
        TensorJob(
            "", (blocks[0].size,), "F32", "linear", inputs[based:], inputs[0] if based else None
        )
    )
    products, signs = np.zeros(loops.count * (loops.count + 1) // 2), np.zeros(2)
    loops.call("gram", blocks, loops.based, max(1, blocks[0].size), 0, products, signs)
    return float(signs[1]), products.tolist(), int(signs[0])


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
    what = f"Norm of the {layers.of}"
    note = "Euclidean norm over all elements of a layer."
    show: Callable[[float], str] = "{:.3g}".format
    if relative:
        what = "Norm of each task vector, as a share of the base's norm"
        note = "How far each model has moved from the base."
        show = partial(_percent, decimals=2)
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
        heading = f"Cosine between {layers.of}"
        maps.append(Map(heading, words, cosines, _signed, -bound, bound))
        unlike = {"all models": [row["conflicts"] for row in rows]}
        words = "Share of elements that one model moves up and another down."
        if layers.of == "weights":
            words = "Share of elements that one model wants larger than zero and another smaller."
        maps.append(Map("Sign conflicts", words, unlike, _percent, 0.0, _most(unlike)))
    return maps


def _percent(value: float, decimals: int = 1) -> str:
    return f"{value:.{decimals}%}".replace("%", " %")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


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
    elements = sum(row["elements"] for row in layers.rows)
    errors = [row["error"] for row in layers.rows]
    if layers.share > 0.999:
        return f"Measured on all {shown_count(elements)} elements."
    return (
        f"Measured on {layers.share:.0%} of {shown_count(elements)} elements, the first part of "
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
