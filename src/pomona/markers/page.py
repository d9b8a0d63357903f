"""The page of a report: of how many rows each marker is known, by what, and its values. It carries
no script.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pomona.errors import quantity
from pomona.files import write_into
from pomona.markers.results import PAGE, Coverage, Report
from pomona.pages import SCHEMA, clean, nominal, picture, quantitative, render

_MOST = 40  # values of a marker that are shown


def write_page(told: Report, folder: Path) -> None:
    """Write the page into a folder."""
    known = [one for one in told.markers if one.known]
    words = "Share of the rows of which each marker is known, by what said it."
    pictures = [("Known", picture(_by_what(told)), words)] if known else []
    tables = [("Markers", "How surely they are known.", *_table(told.rows()), 1)]
    for one in known:
        if one.values:
            about = (
                f"{quantity(one.known, 'row')}"
                f"; less than {told.tail_share:.0%} of them is in the tail."
            )
            tables.append((clean(one.marker), about, *_table(list(_values(one))), 1))
    page = render(
        "pomona.pages",
        "figures.html.j2",
        eyebrow="Pomona markers",
        headline=f"{len(known)} of {len(told.markers)} markers are known of some of "
        f"{quantity(told.rows_in, 'row')}",
        lines=told.cost_lines(),
        pictures=pictures,
        tables=tables,
        notes=[],
        signature=told.signature,
    )
    write_into(folder, {PAGE: page.text}, "a page of markers")


def _values(one: Coverage) -> Iterator[dict[str, Any]]:
    """The most frequent values, and the rest in a row."""
    shown = list((one.values or {}).items())[:_MOST]
    for value, count in shown:
        tail = "yes" if value in one.tail else ""
        yield {
            "value": value,
            "rows": count,
            "share": f"{count / one.known:.1%}",
            "in the tail": tail,
        }
    if left := one.known - sum(count for _, count in shown):
        yield {
            "value": "others",
            "rows": left,
            "share": f"{left / one.known:.1%}",
            "in the tail": "",
        }


def _table(rows: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """Column names and rows as the template of tables has them."""
    cells = [["" if v is None else f"{v:,}" if isinstance(v, int) else clean(str(v))
              for v in row.values()] for row in rows]  # fmt: skip
    return list(rows[0]) if rows else [], [{"cells": one, "verdict": ""} for one in cells]


def _by_what(told: Report) -> dict[str, Any]:
    names = [clean(one.marker)[:40] for one in told.markers]
    rows = [
        {"marker": name, "by": what, "share": count / told.rows_in}
        for name, one in zip(names, told.markers, strict=True)
        for what, count in one.by.items()
    ]
    y = nominal("marker", sort=names, title=None)
    x = quantitative("share", title="share of the rows", scale={"domain": [0, 1]})
    return {
        "$schema": SCHEMA,
        "width": 420,
        "padding": {"left": 16, "right": 4, "top": 4, "bottom": 4},
        "height": {"step": 24},
        "data": {"values": rows},
        "mark": {"type": "bar"},
        "encoding": {"y": y, "x": x, "color": nominal("by", title="said by")},
    }
