"""How `pomona arena fit` shows ratings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.command import Made
from pomona.cli.output import Out
from pomona.pages import UNKNOWN, change, clean, within

if TYPE_CHECKING:
    from pomona.arena import RatedModel, Ratings

COLUMNS = {
    "columns": Made(
        "pomona.arena:VoteColumns",
        {
            "Columns of the votes": "model_a model_b winner prompt voter item category n "
            "completion_a completion_b time id"
        },
    )
}


def show_ratings(show: Out, result: Ratings, given: Mapping[str, Any]) -> None:
    """A row a model, and what the ratings rest on. JSON is the rows alone, notes go to stderr."""
    if show.format == "json":
        show.json(result.to_json())
        for note in result.notes:
            sys.stderr.write(f"note: {clean(note)}\n")
        return
    told = "rank: 1 + models whose lower bound is above one's upper bound; whole board and ranks: "
    told += f"intervals that all hold at once, and the ranks they leave ({result.level:.0%})"
    show.table([_row(row, result) for row in result.rows], caption=told)
    for row in result.rows:
        if row.why:
            show.line(f"not rated: {clean(row.model)} {row.why}")
    for one in result.style:
        show.line(
            f"{clean(one.name)}: {change(one.points, one.low, one.high)} points for a standard "
            "deviation more than the other answer"
        )
    for name, one in result.categories.items():
        show.table(
            [_row(row, result) for row in one.rows], caption=f"category {clean(name)}: n {one.n:,}"
        )
    show.rest(*result.lines(), *map(clean, result.notes), result.signature, page=given.get("page"))


def _row(row: RatedModel, result: Ratings) -> dict[str, Any]:
    told: dict[str, Any] = {"model": clean(row.model)}
    if any(one.organisation or one.licence for one in result.rows):
        told |= {"organisation": row.organisation and clean(row.organisation)}
        told |= {"licence": row.licence and clean(row.licence)}
    told |= {
        "rank": row.rank,
        "rating": within(row.rating, row.ci_low, row.ci_high, decimals=0),
        "whole board": _ends(row.simultaneous_low, row.simultaneous_high),
        "ranks": row.ranks,
    }
    if any(one.bootstrap_low is not None for one in result.rows):
        told["bootstrap"] = _ends(row.bootstrap_low, row.bootstrap_high)
    if result.style:
        told["style rank"] = row.style_rank
        told["style rating"] = within(row.style_rating, row.style_low, row.style_high, decimals=0)
    return {**told, "votes": row.votes}


def _ends(low: float | None, high: float | None) -> str:
    return UNKNOWN if low is None or high is None else f"[{low:.0f}, {high:.0f}]"
