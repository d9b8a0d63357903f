"""The page of ratings: intervals, who beats whom, how firm ranks are. It carries no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.arena.ratings.results import RatedModel, Ratings
from pomona.arena.votes import Votes
from pomona.files import check_into, write_into
from pomona.pages import (
    SCHEMA,
    UNKNOWN,
    clean,
    count,
    nominal,
    picture,
    quantitative,
    render,
    within,
)
from pomona.places import check_outputs
from pomona.records import Records, read

NAME = "index.html"
_MOST = 80  # models of the picture of intervals
_SQUARE = 30  # models of a matrix
_LABEL = {"labelLimit": 260, "labelPadding": 6}


def check_page(folder: Path, *sources: Any) -> None:
    """Raise PomonaError where the page would replace a table, or what is none of ours."""
    given = [one for one in sources if one is not None and not isinstance(one, pa.Table | Votes)]
    paths = [
        path for one in given for path in (one.paths if isinstance(one, Records) else _paths(one))
    ]
    check_outputs({"--page": folder}, paths, folders=["--page"])
    check_into(folder, [NAME])


def _paths(source: Any) -> list[str]:
    # A JSON list is no table of records, and is its own path.
    return [str(source)] if str(source).endswith((".json", ".json.gz")) else read(source).paths


def write_page(result: Ratings, folder: Path) -> None:
    """Write the page into a folder."""
    page = render(
        "pomona.arena.ratings",
        "page.html.j2",
        headline=_headline(result),
        lines=_lines(result),
        pictures=_pictures(result),
        tables=_tables(result),
        notes=result.notes,
        signature=result.signature,
    )
    write_into(folder, {NAME: page.text}, "a page of ratings")


def _headline(result: Ratings) -> str:
    first = [row for row in result.rows if row.rank_low == 1]
    best = result.rows[0]
    if not first:
        return f"{best.model} has the highest rating"
    if len(first) == 1:
        return f"{best.model} is first, as far as the votes can tell"
    return f"{best.model} has the highest rating; {len(first)} models may be first"


def _lines(result: Ratings) -> list[str]:
    told = [
        f"{count(result.n)} votes on {len(result.rows)} models. Ratings are points, 400 to a "
        f"factor of ten in the odds; intervals hold with {result.level:.0%}, each by itself, and "
        "those of the whole board all at once."
    ]
    return [*told, *result.lines()]


def _pictures(result: Ratings) -> list[tuple[str, dict[str, str], str]]:
    rated = [row for row in result.rows if row.rating is not None]
    shown = rated[:_MOST]
    words = "Ratings with intervals: thick for each model by itself, thin for the whole board."
    if len(rated) > _MOST:
        words += f" The first {_MOST} of {len(rated)}."
    pictures = [("Ratings", picture(_forest(result, shown)), words)]
    few = rated[:_SQUARE]
    of = f" The first {_SQUARE} of {len(rated)}." if len(rated) > _SQUARE else ""
    order = [list(result.names).index(row.model) for row in few]
    wins = result.wins()[np.ix_(order, order)]
    words = f"How often the row's model beats the column's, in percent, ties being neither.{of}"
    names = [row.model for row in few]
    pictures.append(("Who beats whom", picture(_square(names, names, wins, diagonal=False)), words))
    if not np.isnan(result.stability).any():
        words = "In how many percent of resamples the row's model has the rank of the column"
        words += f"{', by the distribution of the ratings' if not _resampled(result) else ''}.{of}"
        ranks = [str(place + 1) for place in range(len(few))]
        firm = result.stability[: len(few), : len(few)]
        pictures.append(("How firm ranks are", picture(_square(names, ranks, firm)), words))
    return pictures


def _resampled(result: Ratings) -> bool:
    return any(row.bootstrap_low is not None for row in result.rows)


def _forest(result: Ratings, rows: list[RatedModel]) -> dict[str, Any]:
    names = _distinct([row.model for row in rows])
    values = [
        {
            "model": name,
            "rating": row.rating,
            "low": row.ci_low,
            "high": row.ci_high,
            "all_low": row.simultaneous_low,
            "all_high": row.simultaneous_high,
            "style": row.style_rating,
        }
        for name, row in zip(names, rows, strict=True)
    ]
    y = nominal("model", sort=names, title=None, axis=_LABEL)
    scale = {"zero": False, "nice": True}

    def x(field: str) -> dict[str, Any]:
        return quantitative(field, title="rating", scale=scale)

    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1},
            "encoding": {"y": y, "x": x("all_low"), "x2": {"field": "all_high"}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 5, "opacity": 0.4},
            "encoding": {"y": y, "x": x("low"), "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 40},
            "encoding": {"y": y, "x": x("rating")},
        },
    ]
    if any(row.style_rating is not None for row in rows):
        layers.append(
            {
                "mark": {"type": "point", "shape": "diamond", "size": 40},
                "encoding": {"y": y, "x": x("style")},
            }
        )
    return {
        "$schema": SCHEMA,
        "padding": {"left": 24, "right": 24, "top": 5, "bottom": 5},
        "width": 520,
        "height": {"step": 18},
        "data": {"values": values},
        "layer": layers,
    }


def _distinct(names: list[str]) -> list[str]:
    """Names as charts show them, which must differ there too."""
    found: list[str] = []
    for name in map(clean, names):
        short = name if len(name) <= 48 else f"{name[:47]}…"
        while short in found:
            short += " "
        found.append(short)
    return found


def _square(
    rows: list[str], columns: list[str], shares: NDArray[np.float64], *, diagonal: bool = True
) -> dict[str, Any]:
    down, across = _distinct(rows), _distinct(columns)
    values = [
        {
            "row": down[i],
            "column": across[j],
            "percent": 100 * share,
            "said": f"{100 * share:.0f}" if share >= 0.005 else "",
        }
        for i in range(len(down))
        for j in range(len(across))
        if (share := float(shares[i, j])) is not None and (diagonal or i != j)
    ]
    angle = 0 if all(name.isdigit() for name in across) else -60
    axis = {"orient": "top", "labelAngle": angle, **_LABEL}
    encoding = {
        "x": nominal("column", sort=across, title=None, axis=axis),
        "y": nominal("row", sort=down, title=None, axis=_LABEL),
    }
    # Up to more than there can be, so that no cell is too strong to read text on.
    colour = quantitative("percent", scale={"domain": [0, 180]}, legend=None)
    text = {**encoding, "text": {"field": "said"}}
    return {
        "$schema": SCHEMA,
        "padding": {"left": 24, "right": 24, "top": 5, "bottom": 5},
        "width": {"step": 24},
        "height": {"step": 20},
        "data": {"values": values},
        "layer": [
            {"mark": "rect", "encoding": {**encoding, "color": colour}},
            {"mark": {"type": "text", "fontSize": 10, "style": "cell"}, "encoding": text},
        ],
    }


def _tables(result: Ratings) -> list[tuple[str, str, list[str], list[dict[str, Any]], int]]:
    styled = any(row.style_rating is not None for row in result.rows)
    makers = any(row.organisation or row.licence for row in result.rows)
    columns = ["model", *(["organisation", "licence"] if makers else []), "rank", "rating"]
    columns += ["whole board", "ranks", *(["style rank", "style rating"] if styled else [])]
    columns += ["votes"]
    words = "Rank: 1 + models whose lower bound is above one's upper bound. Ranks: those that the "
    words += "intervals of the whole board leave."
    told = [
        {"cells": _cells(row, styled=styled, makers=makers), "verdict": ""} for row in result.rows
    ]
    tables = [("Table", words, columns, told, 3 if makers else 1)]
    if result.style:
        rows = [
            {"cells": [one.name, within(one.points, one.low, one.high, decimals=1)], "verdict": ""}
            for one in result.style
        ]
        words = "Points for a standard deviation more of it than the other answer has."
        tables.append(("What style is worth", words, ["style", "points"], rows, 1))
    for name, one in result.categories.items():
        rows = [
            {"cells": _cells(row, styled=styled, makers=makers), "verdict": ""} for row in one.rows
        ]
        tables.append(
            (f"Category: {name}", f"{count(one.n)} votes.", columns, rows, 3 if makers else 1)
        )
    return tables


def _cells(row: RatedModel, *, styled: bool, makers: bool) -> list[str]:
    cells = [row.model, *([row.organisation or UNKNOWN, row.licence or UNKNOWN] if makers else [])]
    cells += [_number(row.rank), rating(row.rating, row.ci_low, row.ci_high)]
    cells += [rating(row.rating, row.simultaneous_low, row.simultaneous_high), row.ranks]
    if styled:
        cells += [_number(row.style_rank), rating(row.style_rating, row.style_low, row.style_high)]
    return [*cells, count(row.votes)]


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def rating(value: float | None, low: float | None, high: float | None) -> str:
    """`1206 [1180, 1231]`."""
    return within(value, low, high, decimals=0)
