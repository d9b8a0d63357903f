"""The pages of a fit and of a plan: pictures with every band, and tables. They carry no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pomona.files import check_into, write_into
from pomona.pages import (
    SCHEMA,
    UNKNOWN,
    amount,
    clean,
    nominal,
    p_value,
    picture,
    quantitative,
    render,
    short,
)
from pomona.places import check_outputs
from pomona.records import files_at
from pomona.scale.laws.budget import Budget
from pomona.scale.laws.results import Allocation, ScalingFit

NAME = "index.html"
_POINTS = 41
_WITHIN = 0.01
_MOST = 2000  # runs that are drawn
_LOG = {"type": "log"}
_POWERS = {"format": "~e", "labelOverlap": True, "tickCount": 6}
_WORDS_BAND = (
    "Runs by compute, and the loss of the best model for it with the band of one more training, up "
    "to ten times the largest run."
)
_WORDS_SIZES = (
    "The loss over parameters at several budgets in FLOPs: thick where it is within 1 % of the "
    "best."
)
_WORDS_RESIDUALS = "How far each run is above the law, by compute."
_ALONE = (
    "A and B are not to be read alone: ln A and alpha go together over the resamples. Intervals "
    "and bands cover 95 %."
)
_PLAIN = {"zero": False}


def check_page(folder: Path, runs: Any) -> None:
    """Raise PomonaError where the page would replace one of the runs, or what is none of ours."""
    several = runs if isinstance(runs, list | tuple) else [runs]
    named = [one for one in several if isinstance(one, str | Path)]
    inputs = [file for one in named for file in files_at(one)]
    check_outputs({"--page": folder}, inputs, folders=["--page"])
    check_into(folder, [NAME])


def write_page(result: ScalingFit, folder: Path) -> None:
    """Write the page of a fit into a folder."""
    pictures = [
        (heading, picture(draw(result)), words)
        for heading, draw, words in (
            ("The law and its band", _compute, _WORDS_BAND),
            ("Sizes at one compute", _isoflops, _WORDS_SIZES),
            ("Residuals", _residuals, _WORDS_RESIDUALS),
        )
    ]
    if result.multiverse is not None:
        words = "The exponent by every choice that somebody might defend, with 95 % intervals."
        pictures.append(("Choices", picture(_choices(result)), words))
    columns = ["", "value", "95 % interval"]
    rows = [
        {"cells": [name, amount(value), _ends(result.intervals[name])], "verdict": ""}
        for name, value in result.told.items()
    ]
    told = [_ALONE, *_families(result)]
    told += [
        note for note in (result.held_out.note, result.lack_of_fit.note, *result.notes) if note
    ]
    told += [f"under-tuned: {one.place}: {one.reason}" for one in result.untuned]
    _write(
        folder,
        "a page of a fit",
        _headline(result),
        pictures,
        (columns, rows),
        told,
        result.signature,
    )


def write_plan(result: Allocation, folder: Path) -> None:
    """Write the page of a plan into a folder."""
    words = "The loss over parameters at the budget, and where serving leaves any, at a tenth and "
    words += "ten times of it."
    pictures = [("Sizes at the budget", picture(_lines(result.curve, None)), words)]
    rows = [
        {"cells": [name, amount(value), _ends(result.intervals.get(name)), within], "verdict": ""}
        for name, value, within in (
            ("params", result.params, _ends(result.params_within)),
            ("tokens", result.tokens, _ends(result.tokens_within)),
            ("loss", result.loss, "—"),
        )
    ]
    columns = ["", "best", "95 % interval", "within 1 % of the best loss"]
    near = " to ".join(map(short, result.params_within))
    headline = (
        f"{short(result.params)} parameters, {short(result.tokens)} tokens",
        f"The best for {result.flops:.3g} FLOPs by {result.law}. Models of {near} parameters are "
        "as good within 1 %.",
    )
    _write(
        folder,
        "a page of a plan",
        headline,
        pictures,
        (columns, rows),
        result.notes,
        result.signature,
    )


def _write(
    folder: Path,
    kind: str,
    headline: tuple[str, str],
    pictures: Sequence[Any],
    table: tuple[list[str], list[Any]],
    notes: Sequence[str],
    signature: str,
) -> None:
    page = render(
        __package__ or "",
        "page.html.j2",
        headline=headline,
        pictures=pictures,
        columns=table[0],
        rows=table[1],
        notes=notes,
        signature=signature,
    )
    write_into(folder, {NAME: page.text}, kind)


def _headline(result: ScalingFit) -> tuple[str, str]:
    exponent, ends = result.told["exponent"], result.intervals["exponent"]
    if exponent is None:
        head = "The runs do not tell how parameters should grow with compute"
    else:
        head = f"Parameters grow with compute to the power {exponent:.2f} {_ends(ends)}"
    held = result.held_out
    if held.error is None:
        return head, f"{result.n} runs, {result.form}."
    told = f"{result.n} runs, {result.form}. The {held.n} of the largest compute are predicted "
    told += f"{held.error:.2%} off by the others"
    if held.coverage is not None:
        told += f", {held.coverage:.0%} of them inside the band of 95 %"
    return head, f"{told}."


def _families(result: ScalingFit) -> list[str]:
    """A line for each family, and whether they are the same."""
    if (families := result.families) is None:
        return []
    told = [
        f"{name}: {one.n} runs, exponent {amount(one.exponent)} "
        f"{_ends(one.intervals.get('exponent'))}"
        for name, one in families.laws.items()
    ]
    same = f"p {p_value(families.p_alpha_beta)} that all families have the same alpha and beta, "
    same += f"{p_value(families.p_exponent)} the same exponent"
    return [*told, families.note or same]


def _ends(ends: tuple[float | None, float | None] | None) -> str:
    if ends is None or None in ends:
        return f"interval {UNKNOWN}"
    return f"[{amount(ends[0])}, {amount(ends[1])}]"


def _layered(layers: list[dict[str, Any]], height: int = 300) -> dict[str, Any]:
    return {"$schema": SCHEMA, "width": 620, "height": height, "layer": layers}


def _drawn(result: ScalingFit) -> list[dict[str, Any]]:
    runs, flagged = result.runs, {one.place for one in result.untuned}
    step = max(1, len(runs) // _MOST)
    return [
        {
            "flops": float(runs.flops[row]),
            "loss": float(runs.loss[row]),
            "residual": 100 * float(np.expm1(result.fitted.residuals[row])),
            "kind": "under-tuned" if runs.places[row] in flagged else "run",
        }
        for row in range(0, len(runs), step)
    ]


def _points(values: list[dict[str, Any]], y: dict[str, Any]) -> dict[str, Any]:
    kinds = ["run", "under-tuned"]
    return {
        "data": {"values": values},
        "mark": {
            "type": "point",
            "filled": True,
            "size": 30,
            "strokeWidth": 1.2,
            "strokeOpacity": 1,
        },
        "encoding": {
            "x": quantitative("flops", title="training FLOPs", scale=_LOG, axis=_POWERS),
            "y": y,
            "color": nominal("kind", title=None, legend={"orient": "top"}, sort=kinds),
            "shape": nominal("kind", title=None, legend=None, sort=kinds),
        },
    }


def _compute(result: ScalingFit) -> dict[str, Any]:
    law, runs = result.law, result.runs
    values = []
    for flops in np.geomspace(runs.flops.min(), 10 * runs.flops.max(), _POINTS):
        budget = Budget(float(flops))
        best = budget.best(law.form, law.values[None])
        at = np.exp(best), budget.tokens(best)
        told, low, high = result.predict(*at)
        ends = (told, told) if low is None or high is None else (low, high)
        values.append(
            {
                "flops": float(flops),
                "loss": float(told[0]),
                "low": float(ends[0][0]),
                "high": float(ends[1][0]),
            }
        )
    x = quantitative("flops", title="training FLOPs", scale=_LOG, axis=_POWERS)
    y = quantitative("loss", title="loss, nats a token", scale=_PLAIN)
    band = {
        "data": {"values": values},
        "mark": {"type": "area", "opacity": 0.25, "style": "ladder"},
        "encoding": {
            "x": x,
            "y": quantitative("low", scale=_PLAIN, title="loss, nats a token"),
            "y2": {"field": "high"},
        },
    }
    line = {
        "data": {"values": values},
        "mark": {"type": "line", "style": "ladder"},
        "encoding": {"x": x, "y": y},
    }
    return _layered([band, _points(_drawn(result), y), line])


def _residuals(result: ScalingFit) -> dict[str, Any]:
    zero = {"mark": {"type": "rule", "style": "zero"}, "encoding": {"y": {"datum": 0}}}
    y = quantitative("residual", title="above the law, %")
    return _layered([zero, _points(_drawn(result), y)], 220)


def _isoflops(result: ScalingFit) -> dict[str, Any]:
    law, flops = result.law, result.runs.flops
    values, best = [], []
    for each in np.geomspace(flops.min(), 10 * flops.max(), 5):
        budget = Budget(float(each))
        middle = float(budget.best(law.form, law.values[None])[0])
        low, high = budget.within(law.form, law.values, middle, _WITHIN)
        name = f"{each:.1e}"
        reach = 1.5 * max(high - middle, middle - low)
        grid = np.linspace(middle - reach, middle + reach, _POINTS)
        losses = budget.losses(law.form, law.values[None], grid)[0]
        values += [
            {
                "params": float(np.exp(n)),
                "loss": float(y),
                "flops": name,
                "near": bool(low <= n <= high),
            }
            for n, y in zip(grid, losses, strict=True)
        ]
        at = budget.losses(law.form, law.values[None], np.array([middle]))[0, 0]
        best.append({"params": float(np.exp(middle)), "loss": float(at), "flops": name})
    return _lines(values, best)


def _lines(values: Sequence[Any], best: Sequence[Any] | None) -> dict[str, Any]:
    told = [{**one, "flops": f"{float(one['flops']):.1e}"} for one in values]
    x = quantitative("params", title="parameters", scale=_LOG, axis=_POWERS)
    y = quantitative("loss", title="loss, nats a token", scale=_PLAIN)
    colour = nominal("flops", title="FLOPs", sort=None, legend={"orient": "top"})
    line = {
        "data": {"values": told},
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {"x": x, "y": y, "color": colour},
    }
    layers = [line]
    if best is not None:
        near = [one for one in told if one["near"]]
        thick = {
            **line,
            "data": {"values": near},
            "mark": {"type": "line", "strokeWidth": 5, "opacity": 0.45},
        }
        point = {
            "data": {"values": list(best)},
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour},
        }
        layers = [thick, line, point]
    return _layered(layers)


def _choices(result: ScalingFit) -> dict[str, Any]:
    assert result.multiverse is not None
    cells = result.multiverse.cells
    parts = [(c.counting, c.measure, c.runs, f"{c.checkpoints} checkpoints") for c in cells]
    varied = [place for place, one in enumerate(zip(*parts, strict=True)) if len(set(one)) > 1]
    values = [
        {
            "universe": clean(", ".join(part[place] for place in varied) or "all"),
            "loss": cell.loss,
            "exponent": cell.exponent,
            "low": cell.exponent if cell.exponent_low is None else cell.exponent_low,
            "high": cell.exponent if cell.exponent_high is None else cell.exponent_high,
        }
        for cell, part in zip(cells, parts, strict=True)
        if cell.exponent is not None
    ]
    place = {
        "y": nominal("universe", title=None, sort=None, axis={"labelLimit": 420}),
        "yOffset": {"field": "loss", "type": "nominal"},
        "color": nominal("loss", title="least", legend={"orient": "top"}, sort=None),
    }
    ends = {
        "x": quantitative("low", title="exponent", scale=_PLAIN),
        "x2": {"field": "high"},
    }
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": {**place, **ends}},
        {
            "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
            "encoding": {**place, "x": quantitative("exponent", scale=_PLAIN)},
        },
    ]
    rows = len({one["universe"] for one in values})
    told = _layered(layers, max(80, 48 * rows))
    # Names are measured in another font than the reader's
    return {**told, "data": {"values": values}, "width": 400, "padding": {"left": 60, "right": 5}}
