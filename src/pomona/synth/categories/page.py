"""The page of an annotation: categories, and what people said beside them. It carries no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.errors import quantity
from pomona.files import write_into
from pomona.pages import SCHEMA, clean, nominal, picture, quantitative, render
from pomona.synth.categories.results import Annotated, written

NAME = "index.html"
_WORDS = "Rows by what people said (down) and what was annotated (across)."


def write_page(result: Annotated, folder: Path) -> None:
    """Write the page into a folder."""
    told = result.agreement
    lines = []
    if told is not None:
        lines.append(
            f"Cohen's κ with people {written(told.kappa)}; both say the same of "
            f"{written(told.agree)}; {quantity(told.labels, 'label')}"
            f", {told.open:,} of rows without a "
            f"category, {told.unmatched:,} of rows that are not here."
        )
    pictures = []
    if told is not None and told.confusion is not None and result.confusion_rows():
        pictures.append(("What people say", picture(_confusion(result)), _WORDS))
    tables = [("Categories", "Rows in each.", *_cells(result.count_rows()), 1)]
    if told is not None:
        words = "Each category against all others, with the interval of κ."
        tables.append(("Agreement", words, *_cells(result.agreement_rows()), 1))
        tables.append(("Confusion", _WORDS, *_cells(result.confusion_rows()), 1))
        examples = [
            {"text": clean(text), "by people": clean(label), "annotated": clean(found)}
            for text, label, found in told.examples
        ]
        tables.append(("Where they differ", "The first of them.", *_cells(examples), 3))
    page = render(
        "pomona.pages",
        "figures.html.j2",
        eyebrow="Pomona categories",
        headline=result.headline(),
        lines=lines,
        pictures=pictures,
        tables=[one for one in tables if one[3]],
        notes=[*result.error_lines(), *result.notes],
        signature=result.signature,
    )
    write_into(folder, {NAME: page.text}, "a page of categories")


def _cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    shown = [
        {
            "cells": [f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()],
            "verdict": "",
        }
        for row in rows
    ]
    return list(rows[0]) if rows else [], shown


def _confusion(result: Annotated) -> dict[str, Any]:
    told = result.agreement
    assert told is not None and told.confusion is not None
    names = [clean(name)[:40] for name in told.names]
    rows = [
        {"people": names[one], "annotated": names[other], "rows": count, "share": count / total}
        for one, counts in enumerate(told.confusion)
        if (total := sum(counts))
        for other, count in enumerate(counts)
    ]
    x = nominal("annotated", sort=names, title="annotated", axis={"orient": "top"})
    y = nominal("people", sort=names, title="by people")
    shade = quantitative("share", title="share of the line", scale={"domain": [0, 1]})
    size = {"fontSize": 12}
    text_colour = {"condition": {"test": "datum.share > 0.5", "value": "white"}, "value": "black"}
    return {
        "$schema": SCHEMA,
        "width": {"step": 72},
        "height": {"step": 32},
        "data": {"values": rows},
        "encoding": {"x": x, "y": y},
        "layer": [
            {"mark": {"type": "rect"}, "encoding": {"color": shade}},
            {
                "mark": {"type": "text", **size},
                "encoding": {"text": quantitative("rows"), "color": text_colour},
            },
        ],
    }
