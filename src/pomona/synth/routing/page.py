"""The page of a routing: who is asked in which language, and what each policy is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pomona.errors import quantity
from pomona.files import write_into
from pomona.pages import clean, forest, picture, render
from pomona.synth.routing.results import EVERY, Routes, Routing

PAGE = "index.html"
Table = tuple[str, str, list[str], list[dict[str, Any]], int]


def write_page(result: Routing, folder: Path) -> None:
    """Write the page into a folder."""
    routes = result.routes
    page = render(
        "pomona.pages",
        "figures.html.j2",
        eyebrow="Pomona routing",
        headline=result.headline(),
        lines=result.lines(),
        pictures=[] if routes is None else _pictures(routes),
        tables=[*([] if routes is None else _standings(routes)), _fixed(result)],
        notes=[],
        signature=result.signature,
    )
    write_into(folder, {PAGE: page.text}, "a page of a routing")


def _pictures(routes: Routes) -> list[tuple[str, dict[str, str], str]]:
    own = sorted((one for one in routes.standings if one.group == EVERY), key=lambda o: -o.value)
    rows = [
        {"name": clean(one.policy), "value": one.value, "low": one.low, "high": one.high}
        for one in own
    ]
    words = "The judge's value of what each policy keeps, with intervals over clusters of sources."
    return [("Policies", picture(forest(rows, routes.judge_name, zero=False)), words)]


def _standings(routes: Routes) -> list[Table]:
    tables: list[Table] = []
    for group in routes.groups:
        cells = routes.cells(group)
        first = routes.of(routes.standings[0].policy, group)
        words = f"{quantity(first.rows, 'row')} of {quantity(first.sources, 'source')}."
        rows = [{"cells": list(each.values()), "verdict": ""} for each in cells]
        tables.append((clean(group), words, list(cells[0]), rows, 1))
    return tables


def _fixed(result: Routing) -> Table:
    rows = [
        {"cells": [clean(group), ", ".join(map(clean, names))], "verdict": ""}
        for group, names in result.fixed.table.items()
    ]
    words = "As measured on the answers that were learned from, the best first."
    return ("The table of the fixed policy", words, ["language", "teachers"], rows, 2)
