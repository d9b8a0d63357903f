"""Pages of published tables: curves over time with every flag, returns, growth. No scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pomona.files import check_into, write_into
from pomona.pages import (
    SCHEMA,
    UNKNOWN,
    change,
    clean,
    count,
    nominal,
    parameters,
    picture,
    quantitative,
    render,
    within,
)
from pomona.places import check_outputs
from pomona.records import Where, read
from pomona.scale.tables.results import CURVES, QUANTITIES

if TYPE_CHECKING:
    from pomona.scale.tables.columns import Published
    from pomona.scale.tables.fits import Estimate
    from pomona.scale.tables.results import (
        DoublingGain,
        Frontier,
        Growth,
        Overcome,
        SizeReturns,
        Trend,
    )

NAME = "index.html"
_MOST = 4000  # points of a picture
_FEW = 5  # larger models
Table = tuple[str, str, list[str], list[dict[str, Any]], int]


def check_page(folder: Path, *sources: Where | None) -> None:
    """Raise PomonaError where the page would replace a table, or what is none of ours."""
    given = [one for one in sources if one is not None and not isinstance(one, pa.Table)]
    paths = [path for one in given for path in read(one).paths]
    check_outputs({"--page": folder}, paths, folders=["--page"])
    check_into(folder, [NAME])


def _write(folder: Path, command: str, **content: Any) -> None:
    page = render("pomona.scale.tables", "page.html.j2", command=command, **content)
    write_into(folder, {NAME: page.text}, "a page of a published table")


def write_frontier(result: Frontier, folder: Path) -> None:
    """The page of a frontier: four curves over time, what size explains, and every flag."""
    last = result.months[-1]
    known = {n.replace("_", " "): c for n, c in last.curves.items() if c.share is not None}
    told = [f"{_percent(c.share)} of {count(c.larger)} ({name})" for name, c in known.items()]
    headline = (
        f"By {result.metric} the best model of at most {parameters(result.small)} parameters beats "
        + ("; ".join(told) if told else "none that is larger: there are none")
    )
    lines = []
    for name, curve in last.curves.items():
        if curve.overcome is not None:
            lines.append(f"{name.replace('_', ' ')}: {_overcome(curve.overcome)}")
    pictures = []
    shares, explained = _over_time(result), _explained(result)
    if any(month.until for month in result.months) and shares["data"]["values"]:
        words = f"Share of larger models that the best small one beats, by {result.metric}. "
        words += f"Months with fewer than {_FEW} larger ones are not drawn. "
        words += "; ".join(f"{name.replace('_', ' ')}: {said}" for name, said in CURVES.items())
        pictures.append(("Small against larger over time", picture(shares), words))
    if any(month.until for month in result.months) and explained["data"]["values"]:
        words = f"Share of the variance of {result.metric} that a line on the logarithm of size "
        words += "explains, with 95 % intervals."
        pictures.append(("What size explains", picture(explained), words))
    _write(
        folder,
        "frontier",
        name=result.name,
        headline=headline,
        lines=lines,
        pictures=pictures,
        tables=[_months(result), _pairs(result), _flags(result)],
        notes=result.notes,
        signature=result.signature,
    )


def _overcome(one: Overcome) -> str:
    smaller, larger = (
        f"{model.model} ({parameters(model.params)}, {model.score:g})"
        for model in (one.smaller, one.larger)
    )
    return f"{smaller} beats {larger}, {one.ratio:.3g} times its size"


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def _row(*cells: object) -> dict[str, Any]:
    return {"cells": [str(cell) for cell in cells], "verdict": ""}


def _months(result: Frontier) -> Table:
    rows = [
        _row(
            month.month or "all",
            name.replace("_", " "),
            "none" if curve.best is None else curve.best.model,
            "" if curve.best is None else parameters(curve.best.params),
            "" if curve.best is None else f"{curve.best.score:g}",
            count(curve.larger),
            count(curve.beaten),
            _percent(curve.share),
            *(_estimate(curve.r2.get(axis)) for axis in ("params", "flop")),
        )
        for month in result.months
        for name, curve in month.curves.items()
    ]
    columns = ["until", "curve", "best small model", "parameters", result.metric, "larger"]
    columns += ["beaten", "share", "R² parameters", "R² compute"]
    words = f"small: at most {parameters(result.small)}; bases: {result.bases}"
    return "Months", words, columns, rows, 3


def _estimate(one: Estimate | None, digits: int = 3, scale: float = 1) -> str:
    return UNKNOWN if one is None else within(one.value, one.low, one.high, scale, digits)


def _pairs(result: Frontier) -> Table:
    rows = [
        _row(name.replace("_", " "), axis, which, count(one.n), _estimate(one, 2, 100))
        for name, curve in result.months[-1].curves.items()
        for axis, shares in curve.discordant.items()
        for which, one in shares.items()
    ]
    words = f"Pairs in which the smaller model has the higher {result.metric}, at the last date."
    return "Pairs in the wrong order", words, ["curve", "by", "apart", "pairs", "%"], rows, 3


def _flags(result: Frontier) -> Table:
    rows = [
        _row(
            flag.row,
            flag.model,
            flag.kind,
            flag.reason,
            ", ".join(flag.left_out).replace("_", " ") or "none",
        )
        for flag in result.flags
    ]
    words = "Rows that contradict themselves, and the curves that they are left out of."
    return "Flags", words, ["row", "model", "flag", "reason", "left out of"], rows, 5


def _chart(values: Sequence[Mapping[str, Any]], layers: list[dict[str, Any]], **more: Any) -> Any:
    return {"$schema": SCHEMA, "data": {"values": list(values)}, **more, "layer": layers}


_COLOUR = nominal("curve", title=None, sort=None, legend={"orient": "top"})


def _over_time(result: Frontier) -> Any:
    values = [
        {"until": month.until, "curve": name.replace("_", " "), "share": 100 * curve.share}
        for month in result.months
        for name, curve in month.curves.items()
        if curve.share is not None and curve.larger >= _FEW
    ]
    encoding = {
        "x": nominal("until", title=None, axis={"labelAngle": -45}),
        "y": quantitative("share", title="% of larger models beaten", scale={"domain": [0, 100]}),
        "color": _COLOUR,
        "shape": nominal("curve", sort=None, legend=None),
    }
    layer = {"mark": {"type": "line", "point": {"size": 50}}, "encoding": encoding}
    return _chart(values, [layer], width=720, height=300)


def _explained(result: Frontier) -> Any:
    values = [
        {
            "until": month.until,
            "curve": name.replace("_", " "),
            "r2": curve.r2["params"].value,
            "low": curve.r2["params"].low,
            "high": curve.r2["params"].high,
        }
        for month in result.months
        for name, curve in month.curves.items()
        if curve.r2["params"].low is not None and name in ("all", "bases")
    ]
    across = nominal("until", title=None, axis={"labelAngle": -45})
    layers = [
        {
            "mark": {"type": "rule", "opacity": 0.5},
            "encoding": {
                "x": across,
                "y": quantitative("low", title="R² on log parameters"),
                "y2": {"field": "high"},
                "color": _COLOUR,
            },
        },
        {
            "mark": {"type": "line", "point": {"size": 40}},
            "encoding": {"x": across, "y": quantitative("r2"), "color": _COLOUR},
        },
    ]
    return _chart(values, layers, width=720, height=220)


def write_returns(result: SizeReturns, published: Published, folder: Path) -> None:
    """The page of returns: a scatter for each metric, and what a doubling buys."""
    first = result.metrics[0]
    points = first.overall.points
    headline = (
        f"A doubling of parameters buys {change(points.value, points.low, points.high)} points of "
        f"{first.metric}"
    )
    lines = []
    if (error := first.overall.error) is not None:
        lines.append(f"It takes away {_estimate(error, 1, 100)} % of the error (100 − score).")
    for one in result.contrasts:
        shift = change(one.points.value, one.points.low, one.points.high)
        lines.append(f"{one.metric}: {shift} points more a doubling than {one.against}.")
    words = "Each point is a model; the line joins models that no smaller one beats."
    told = picture(_scatter(result, published))
    _write(
        folder,
        "returns",
        name=result.name,
        headline=headline,
        lines=lines,
        pictures=[(f"{first.metric} by size", told, words)],
        tables=_returns_tables(result),
        notes=result.notes,
        signature=result.signature,
    )


def _returns_tables(result: SizeReturns) -> list[Table]:
    rows = [
        _row(metric.metric, name, one.n, *_gains(one))
        for metric in result.metrics
        for name, one in (
            ("all models", metric.overall),
            *([("within families", metric.within)] if metric.within else []),
            *metric.bands.items(),
            *metric.families.items(),
        )
    ]
    columns = ["metric", "models of", "n", "points", "error gone, %", "R² points", "R² error"]
    said = "What a doubling buys, in points and as the share of the error that goes, with 95 % "
    steps = [
        _row(m.metric, s.smaller, s.larger, f"{s.ratio:.2f}", f"{s.gain:+.2f}", f"{s.points:.2f}")
        for m in result.metrics
        for s in m.steps
    ]
    step_columns = ["metric", "from", "to", "times the size", "points", "points a doubling"]
    return [
        ("Doublings", f"{said}intervals.", columns, rows, 2),
        ("Steps", "From the best model of its size to the next.", step_columns, steps, 3),
    ]


def _gains(one: DoublingGain) -> list[str]:
    points = change(one.points.value, one.points.low, one.points.high)
    fits = [UNKNOWN if fit is None else f"{fit:.3f}" for fit in (one.fit_points, one.fit_error)]
    return [points, _estimate(one.error, 1, 100), *fits]


def _scatter(result: SizeReturns, published: Published) -> Any:
    metric = result.metrics[0]
    best = {step.smaller for step in metric.steps} | {step.larger for step in metric.steps}
    params, score = published.numbers["params"], published.numbers["score"]
    values = [
        {
            "params": float(params[row]),
            "score": published.factor() * float(score[row]),
            "best": model in best,
        }
        for row, model in enumerate(published.models)
        if params[row] == params[row] and score[row] == score[row]
    ][:_MOST]
    # Billions are B here as everywhere, and not the G of the format. Only ones, twos and fives have
    # labels: of labels in each other's way any others might stay.
    first = "indexof('125', substring(format(datum.value, '.0e'), 0, 1)) < 0"
    told = f"{first} ? '' : replace(format(datum.value, '~s'), 'G', 'B')"
    across = quantitative(
        "params",
        title="parameters",
        scale={"type": "log", "nice": False, "padding": 10},
        axis={"labelExpr": told, "labelOverlap": True},
    )
    up = quantitative("score", title=clean(metric.metric), scale={"zero": False})
    layers = [
        {
            "mark": {"type": "point", "filled": True, "size": 18, "opacity": 0.4},
            "encoding": {"x": across, "y": up},
        },
        {
            "transform": [{"filter": "datum.best"}],
            "mark": {"type": "line", "point": {"size": 40}, "style": "ladder"},
            "encoding": {"x": across, "y": up, "order": {"field": "params"}},
        },
    ]
    return _chart(values, layers, width=720, height=340)


def write_growth(result: Growth, points: list[dict[str, Any]], folder: Path) -> None:
    """The page of growth: sizes over time, and who made the models."""
    told = [
        f"{QUANTITIES[name]} {_months_of(quantity.overall)}"
        for name, quantity in result.quantities.items()
    ]
    words = f"Each point is a model; the legend tells those among the {result.top} largest of all "
    pictures = [("Growth", picture(_grown(points)), f"{words}until their day.")]
    if result.makers:
        said = "Share of models by who made them, of those whose makers are known."
        pictures.append(("Makers", picture(_makers(result)), said))
    rows = [
        _row(
            QUANTITIES[name],
            which,
            trend.n,
            trend.first or UNKNOWN,
            trend.last or UNKNOWN,
            _months_of(trend),
            _estimate(trend.r2),
        )
        for name, quantity in result.quantities.items()
        for which, trend in (("all", quantity.overall), (f"top {result.top}", quantity.frontier))
    ]
    columns = ["what", "models", "n", "from", "to", "doubles in months", "R²"]
    shares = [
        _row(
            one.year,
            one.n,
            one.known,
            *(_estimate(x, 1, 100) for x in (one.academia, one.industry, one.both, one.other)),
        )
        for one in result.makers
    ]
    names = ["year", "models", "known", "academia, %", "industry, %", "both, %", "other, %"]
    said = "Of the models whose makers are known, with Wilson's intervals."
    _write(
        folder,
        "growth",
        name=result.name,
        headline=f"Doubling times in months: {'; '.join(told)}",
        lines=[],
        pictures=pictures,
        tables=[
            ("Doubling times", "Lines of the logarithm on the date.", columns, rows, 2),
            ("Who made them", said, names, shares, 1),
        ],
        notes=result.notes,
        signature=result.signature,
    )


def _months_of(trend: Trend) -> str:
    if trend.why:
        return f"{UNKNOWN} ({trend.why})"
    if trend.months.value is None:
        return "do not grow"
    return _estimate(trend.months, 1)


def _grown(points: list[dict[str, Any]]) -> Any:
    values = [{**point, "model": clean(point["model"])} for point in points]
    layer = {
        "mark": {"type": "point", "filled": True, "size": 16, "opacity": 0.7},
        "encoding": {
            "x": {"field": "date", "type": "temporal", "title": None},
            "y": quantitative("value", title=None, scale={"type": "log"}, axis={"format": ".0e"}),
            "color": nominal("frontier", title="among the largest", legend={"orient": "top"}),
        },
    }
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "facet": nominal("quantity", title=None, sort=None),
        "columns": 1,
        "spec": {"width": 720, "height": 200, **layer},
        "resolve": {"scale": {"y": "independent"}},
    }


def _makers(result: Growth) -> Any:
    values = [
        {"year": str(one.year), "who": name, "share": 100 * share.value}
        for one in result.makers
        for name, share in (
            ("academia", one.academia),
            ("industry", one.industry),
            ("both", one.both),
            ("other", one.other),
        )
        if share.value is not None
    ]
    layer = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": nominal("year", title=None, axis={"labelAngle": -45, "labelOverlap": True}),
            "y": quantitative("share", title="% of models", scale={"domain": [0, 100]}),
            "color": nominal("who", title=None, sort=None, legend={"orient": "top"}),
        },
    }
    return _chart(values, [layer], width=720, height=240)
