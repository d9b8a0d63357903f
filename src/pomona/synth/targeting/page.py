"""The page of a plan: heat maps of cells and the tables behind them. It carries no script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pomona.files import write_into
from pomona.pages import SCHEMA, clean, nominal, picture, quantitative, render
from pomona.synth.targeting.results import Cell, Plan

NAME = "index.html"
_GROUPS, _COLUMNS = 60, 24  # of a heat map
_STEP = 64


def write_page(plan: Plan, folder: Path) -> None:
    """Write the page into a folder."""
    tables = [("Cells that want most", "With 95 % intervals.", *_table(plan.shown()), len(plan.by))]
    page = render(
        "pomona.pages",
        "figures.html.j2",
        eyebrow="Pomona targets",
        headline=plan.headline(),
        lines=[],
        pictures=_pictures(plan),
        tables=[one for one in tables if one[3]],
        notes=[*([plan.rest()] if plan.rest() else []), *plan.notes],
        signature=plan.signature,
    )
    write_into(folder, {NAME: page.text}, "a page of targets")


def _table(rows: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    def cell(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) else str(value)

    shown = [{"cells": list(map(cell, row.values())), "verdict": ""} for row in rows]
    return list(rows[0]) if rows else [], shown


def _pictures(plan: Plan) -> list[tuple[str, dict[str, str], str]]:
    maps: list[tuple[str, str, Callable[[Cell], float | None], str]] = [
        ("What there is", "Rows of the training data.", lambda c: c.rows, ",d"),
        ("What is asked for", "Rows to ask for.", lambda c: c.asked, ",d"),
    ]
    if any(cell.far is not None for cell in plan.cells):
        words = "The share of the demand that is far from the training data."
        maps.append(("What is far", words, lambda c: c.far, ".0%"))
    if plan.metric is not None:
        words = f"{plan.metric} of the answers; {plan.overall:.1f} over all."
        maps.append(("How good answers are", words, lambda c: c.value, ".1f"))
    return [
        (heading, picture(_heat(plan, value, form)), words) for heading, words, value, form in maps
    ]


def _heat(plan: Plan, value: Callable[[Cell], float | None], form: str) -> dict[str, Any]:
    groups = list(dict.fromkeys(cell.values[0] for cell in plan.cells))[:_GROUPS]
    names = list(dict.fromkeys(_rest(cell) for cell in plan.cells))[:_COLUMNS]
    rows = [
        {"group": clean(cell.values[0]), "cell": _rest(cell), "value": value(cell)}
        for cell in plan.cells
        if cell.values[0] in groups and _rest(cell) in names
    ]
    most = max((abs(row["value"]) for row in rows if row["value"] is not None), default=0) or 1
    for row in rows:
        row["dark"] = (row["value"] or 0) > most / 2
    x = nominal("cell", sort=names, title=None, axis={"orient": "top", "labelAngle": -40})
    y = nominal("group", sort=[clean(group) for group in groups], title=plan.by[0])
    text = {"condition": {"test": "datum.dark", "value": "white"}, "value": "black"}
    return {
        "$schema": SCHEMA,
        "width": {"step": _STEP},
        "height": {"step": 20},
        "data": {"values": [row for row in rows if row["value"] is not None]},
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "mark": {"type": "rect"},
                "encoding": {"color": quantitative("value", legend=None)},
            },
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {"text": quantitative("value", format=form), "color": text},
            },
        ],
    }


def _rest(cell: Cell) -> str:
    return clean(" · ".join(cell.values[1:]))[:40] or "rows"
