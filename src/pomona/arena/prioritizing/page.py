"""The pages of a queue and of a replay: pictures and tables without a script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pomona.arena.prioritizing.results import (
    CHOSEN,
    Measured,
    PilotFit,
    Priorities,
    Replay,
)
from pomona.files import check_into, write_into
from pomona.pages import SCHEMA, nominal, picture, quantitative, render
from pomona.places import check_outputs

NAME = "index.html"
_ROWS = 50
# A browser's letters may be wider than those that the picture was laid out with.
_ROOM = {"left": 24, "right": 40, "top": 5, "bottom": 5}


def check_page(
    folder: Path | None, inputs: Sequence[str | Path], outputs: Mapping[str, str | Path | None]
) -> None:
    """Raise PomonaError where the page would replace what is none of ours, or outputs are inputs or
    each other.
    """
    check_outputs({**outputs, "--page": folder}, inputs, folders=["--page"])
    if folder is not None:
        check_into(folder, [NAME])


def write_page(result: Priorities, folder: Path) -> Path:
    """Write the page of a queue into a folder; its path."""
    pictures: list[tuple[str, dict[str, str], str]] = []
    if len(result.path) > 1:
        words = (
            "Expected half-width of the widest 95 % interval of a rating that matters, in Elo, as "
            "votes come in."
        )
        pictures.append(("What votes are expected to buy", picture(_path(result)), words))
    if result.pilot is not None:
        words = (
            "Held-out votes in groups by what was said of them, with 95 % intervals: on the line, "
            "as many are ties as were said to be."
        )
        pictures.append(("P(tie), said and come", picture(_reliability(result.pilot)), words))
    if any(one.largest for one in result.measures):
        pictures.append(_signs(result.measures))
    tables = [
        ("The first pairs", 4, *_table(result.cells(_ROWS))),
        ("Ratings", 1, *_cells(result.ratings)),
        ("Measures", 2, *_cells(result.measures)),
    ]
    return _write("queue", result.headline(), pictures, tables, result, folder)


def write_replay(result: Replay, folder: Path) -> Path:
    """Write the page of a replay into a folder; its path."""
    words = (
        "Kendall's tau to the ranking of a held-out half of the pairs, averaged over pilots. "
        "Dashed: with the prior that the answers suggest."
    )
    pictures = [("Votes and rankings", picture(_curves(result)), words), _signs(result.measures)]
    tables = [
        ("Ties among the fifth that is said to have fewest", 1, *_cells(result.ties)),
        ("Votes for the same ranking", 2, *_cells(result.rankings)),
        ("Measures", 2, *_cells(result.measures)),
    ]
    return _write("replay", result.headline(), pictures, tables, result, folder)


def _write(
    kind: str,
    told: str,
    pictures: Sequence[Any],
    tables: Sequence[Any],
    result: Priorities | Replay,
    folder: Path,
) -> Path:
    page = render(
        __package__ or "",
        "page.html.j2",
        kind=kind,
        headline=told,
        pictures=pictures,
        tables=[one for one in tables if one[3]],
        notes=result.notes,
        signature=result.signature,
    )
    write_into(folder, {NAME: page.text})
    return folder / NAME


def _table(rows: Iterable[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    found = list(rows)
    columns = list(found[0]) if found else []
    return columns, [{"cells": [str(cell) for cell in row.values()]} for row in found]


def _cells(of: Iterable[Any]) -> tuple[list[str], list[dict[str, Any]]]:
    return _table(one.cells() for one in of)


def _path(result: Priorities) -> dict[str, Any]:
    values = [{"votes": one.votes, "half": one.half_width, "by": result.by} for one in result.path]
    layer: list[Any] = [{"mark": {"type": "line", "strokeWidth": 2.5}}]
    if result.at_random is not None:
        values.append({"votes": result.at_random, "half": result.path[-1].half_width,
                       "by": "at random"})  # fmt: skip
        layer.append({"transform": [{"filter": "datum.by == 'at random'"}],
                      "mark": {"type": "point", "filled": True, "size": 90}})  # fmt: skip
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "padding": _ROOM,
        "width": 560,
        "height": 240,
        "encoding": {
            "x": quantitative("votes", title="votes"),
            "y": quantitative("half", title="± Elo", scale={"zero": False}),
            "color": nominal("by", title=None),
        },
        "layer": layer,
    }


def _reliability(pilot: PilotFit) -> dict[str, Any]:
    values = [
        {"said": one.said, "came": one.came, "low": one.ci_low, "high": one.ci_high}
        for one in pilot.reliability
    ]
    whole = {"domain": [0, 1]}
    across = quantitative("said", title="said", scale=whole)
    return {
        "$schema": SCHEMA,
        "width": 320,
        "height": 320,
        "layer": [
            {
                "data": {"values": [{"said": 0, "came": 0}, {"said": 1, "came": 1}]},
                "mark": {"type": "line", "style": "control"},
                "encoding": {"x": across, "y": quantitative("came", scale=whole)},
            },
            {
                "data": {"values": values},
                "mark": {"type": "rule", "style": "ladder-bar"},
                "encoding": {
                    "x": across,
                    "y": quantitative("low", title="ties that came"),
                    "y2": {"field": "high"},
                },
            },
            {
                "data": {"values": values},
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {"x": across, "y": quantitative("came")},
            },
        ],
    }


def _signs(measures: Sequence[Measured]) -> tuple[str, dict[str, str], str]:
    values = [
        {"measure": one.name, "where it is": side, "change": of[0], "low": of[1], "high": of[2]}
        for one in measures
        for side, of in (("largest", one.largest), ("smallest", one.smallest))
        if of is not None
    ]
    down = nominal("measure", sort=[one.name for one in measures], title=None)
    beside = {"field": "where it is", "type": "nominal"}
    shared = {"y": down, "yOffset": beside, "color": nominal("where it is", title="where it is")}
    axis = {"format": "+.0%"}
    chart = {
        "$schema": SCHEMA,
        "data": {"values": values},
        "padding": _ROOM,
        "width": 480,
        "height": {"step": 13},
        "layer": [
            {
                "mark": {"type": "rule", "style": "zero"},
                "encoding": {"x": {"datum": 0, "type": "quantitative"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {
                    **shared,
                    "x": quantitative("low", title="change in ties", axis=axis),
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 50},
                "encoding": {**shared, "x": quantitative("change", axis=axis)},
            },
        ],
    }
    words = (
        "Ties among the fifth of the pairs where a measure is largest, and where it is smallest, "
        "against all, with 95 % intervals: which sign helps is not given."
    )
    return "Measures, both signs", picture(chart), words


def _curves(result: Replay) -> dict[str, Any]:
    values = [
        {
            "votes": votes,
            "tau": tau,
            "chosen": CHOSEN[one.chosen, one.known],
            "rated": one.rated,
        }
        for one in result.rankings
        for votes, tau in zip(one.votes, one.tau, strict=True)
    ]
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "padding": _ROOM,
        "width": 560,
        "height": 300,
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {
            "x": quantitative("votes", title="votes"),
            "y": quantitative("tau", title="Kendall's tau", scale={"zero": False}),
            "color": nominal("chosen", title=None),
            "strokeDash": nominal("rated", title="rated by", sort=["votes", "believed"]),
        },
    }
