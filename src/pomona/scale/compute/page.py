"""The pages of a count and of the thresholds: pictures and tables. They carry no script."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pomona.files import check_into, write_into
from pomona.pages import (
    SCHEMA,
    UNKNOWN,
    clean,
    count,
    flops,
    nominal,
    parameters,
    picture,
    quantitative,
    render,
)
from pomona.scale.compute.results import ModelFlops, SizesFlops, times
from pomona.scale.compute.thresholds import Standing, Standings

NAME = "index.html"
_KIND = "a page of compute"
_WIDTH = 640
_STATES = ["in force", "not yet", "no more", "unknown"]
_RULES = nominal("rule", sort=None, title=None)
_COLOUR = nominal("state", title=None, sort=_STATES)
_PALE = {"condition": {"test": "datum.state === 'in force'", "value": 1}, "value": 0.4}
# Fonts differ between the drawing and the screen: labels need room beside what was measured
_FRAME = {
    "$schema": SCHEMA,
    "width": _WIDTH,
    "padding": {"left": 20, "right": 40, "top": 5, "bottom": 5},
}


def check_page(folder: Path) -> None:
    """Raise PomonaError where the page would replace what is none of ours."""
    check_into(folder, [NAME])


def write_page(result: ModelFlops | SizesFlops, folder: Path) -> None:
    """Write the page of a count into a folder."""
    sizes = result.sizes if isinstance(result, SizesFlops) else [result]
    trained = [(one.model, one.training.flops) for one in sizes if one.training is not None]
    standings = _furthest(sizes)
    sections = [
        ("Where a token's operations go", _modules(sizes), _module_table(sizes)),
        ("Four ways to count training", None, _convention_table(sizes)),
        ("Thresholds", _axis(standings, trained), _standing_table(standings)),
        ("When they held", _timeline(standings), None),
        ("Equivalents and energy", None, _equivalent_table(sizes)),
    ]
    notes = dict.fromkeys(note for one in sizes for note in one.notes)
    _write(folder, _headline(sizes), sections, [*notes, *standings.notes], result.signature)


def _furthest(sizes: Sequence[ModelFlops]) -> Standings:
    """Where the largest training stands."""
    return max(sizes, key=lambda one: one.thresholds.flop or 0).thresholds


def write_thresholds(standings: Standings, folder: Path) -> None:
    """Write the page of the thresholds into a folder."""
    trained = [] if standings.flop is None else [("the training", standings.flop)]
    held = sum(rule.in_force is True for rule in standings.rules)
    sections = [
        ("On the axis of compute", _axis(standings, trained), _standing_table(standings)),
        ("When they held", _timeline(standings), None),
    ]
    head = f"{held} of {len(standings.rules)} thresholds are in force on {standings.date}"
    _write(folder, head, sections, standings.notes, standings.signature)


def _write(
    folder: Path, headline: str, sections: Sequence[Any], notes: Sequence[str], signature: str
) -> None:
    told = [
        (title, None if chart is None else picture(chart), table)
        for title, chart, table in sections
    ]
    page = render(
        __package__ or "",
        "page.html.j2",
        headline=headline,
        sections=told,
        notes=notes,
        signature=signature,
    )
    write_into(folder, {NAME: page.text}, _KIND)


def _headline(sizes: Sequence[ModelFlops]) -> str:
    if len(sizes) > 1:
        return f"{len(sizes)} sizes, by module"
    one = sizes[0]
    return (
        f"{one.model}: {parameters(one.parameters['total'])} parameters, "
        f"{flops(one.forward_flops)} FLOPs a token at {count(one.context)} positions"
    )


def _modules(sizes: Sequence[ModelFlops]) -> dict[str, Any]:
    values = [
        {
            "model": clean(one.model),
            "module": row.module,
            "share": cost / total,
            "i": i,
        }
        for one in sizes
        for i, row in enumerate(one.modules)
        if (cost := row.forward_flops) and (total := sum(r.forward_flops for r in one.modules))
    ]
    return {
        **_FRAME,
        "data": {"values": values},
        "mark": {"type": "bar", "height": 22},
        "encoding": {
            "y": nominal("model", sort=None, title=None),
            "x": quantitative("share", title="share of a token's operations", axis={"format": "%"}),
            # A mixture with windows has nine modules, and the page's own colours are six.
            "color": nominal("module", sort=None, title=None, scale={"scheme": "tableau10"}),
            "order": {"field": "i"},
        },
        "height": {"step": 30},
    }


def _axis(standings: Standings, trained: Sequence[tuple[str, float]]) -> dict[str, Any]:
    rules = [
        {"flop": rule.flop, "rule": rule.name, "state": _state(rule)}
        for rule in standings.rules
        if rule.flop
    ]
    models = [{"flop": value, "name": clean(name)} for name, value in trained if value > 0]
    powers = [math.log10(one["flop"]) for one in [*rules, *models]]
    first, last = math.floor(min(powers) - 0.3), math.ceil(max(powers) + 0.3)
    step = 1 + (last - first) // 12
    across = quantitative(
        "flop",
        title="FLOP of training",
        scale={"type": "log", "domain": [10.0**first, 10.0**last]},
        axis={
            "values": [10.0**power for power in range(first, last + 1, step)],
            "labelExpr": "'1e' + round(log(datum.value) / LN10)",
        },
    )
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": rules},
            "mark": {"type": "point", "size": 90, "filled": True},
            "encoding": {"x": across, "y": _RULES, "color": _COLOUR, "opacity": _PALE},
        },
    ]
    if models:
        layers += [
            {
                "data": {"values": models},
                "mark": {"type": "rule", "style": "ladder"},
                "encoding": {"x": across},
            },
            {
                "data": {"values": models},
                "mark": {
                    "type": "text", "style": "ladder-label", "angle": 270, "align": "right",
                    "baseline": "bottom", "dx": -4, "dy": -3,
                },
                "encoding": {"x": across, "y": {"value": 0}, "text": {"field": "name"}},
            },
        ]  # fmt: skip
    return {**_FRAME, "layer": layers, "height": {"step": 26}}


def _state(rule: Standing) -> str:
    if rule.in_force is None:
        return "unknown"
    ended = rule.status.endswith(f"on {rule.to}")
    return "in force" if rule.in_force else "no more" if ended else "not yet"


def _timeline(standings: Standings) -> dict[str, Any]:
    last = max(standings.date, standings.checked, *(rule.start or "" for rule in standings.rules))
    room = min(dt.timedelta(days=120), dt.date.max - dt.date.fromisoformat(last))
    ends = (dt.date.fromisoformat(last) + room).isoformat()
    values = [
        {
            "rule": rule.name,
            "adopted": rule.adopted,
            "from": rule.start or rule.adopted,
            "to": rule.to or ends,
            "state": _state(rule),
        }
        for rule in standings.rules
    ]
    across = {"field": "from", "type": "temporal", "title": None}
    return {
        **_FRAME,
        "data": {"values": values},
        "layer": [
            {
                "mark": {"type": "rule", "strokeDash": [2, 3]},
                "encoding": {
                    "y": _RULES,
                    "x": {"field": "adopted", "type": "temporal", "title": None},
                    "x2": {"field": "from"},
                },
            },
            {
                "mark": {"type": "bar", "height": 9},
                "encoding": {
                    "y": _RULES,
                    "x": across,
                    "x2": {"field": "to"},
                    "color": _COLOUR,
                    "opacity": _PALE,
                },
            },
            {
                "data": {"values": [{"day": standings.date}]},
                "mark": {"type": "rule", "style": "ladder"},
                "encoding": {"x": {"field": "day", "type": "temporal"}},
            },
        ],
        "height": {"step": 26},
    }


Table = dict[str, Any]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> Table:
    return {
        "columns": list(columns),
        "rows": [{"cells": list(row), "verdict": ""} for row in rows],
        "names": names,
    }


def _module_table(sizes: Sequence[ModelFlops]) -> Table:
    columns = ["model", "module", "layers", "parameters", "a token meets", "forward", "training"]
    rows = [
        [
            one.model,
            row.module,
            *map(count, (row.layers, row.parameters, row.active)),
            *map(flops, (row.forward_flops, row.training_flops)),
        ]
        for one in sizes
        for row in one.modules
    ]
    return _table(columns, rows, 2)


def _convention_table(sizes: Sequence[ModelFlops]) -> Table:
    rows = [
        [one.model, way.convention, count(way.weights), flops(way.training_flops), times(way.ratio)]
        for one in sizes
        for way in one.conventions
    ]
    columns = ["model", "convention", "weights", "training FLOPs a token", "by exact"]
    return _table(columns, rows, 2)


def _standing_table(standings: Standings) -> Table:
    words = {True: "above", False: "not above", None: UNKNOWN}
    rows = [
        [
            rule.name,
            rule.status,
            _number(rule),
            words[rule.above],
            times(rule.ratio),
            rule.condition or "—",
            f"{rule.authority}: {rule.rule}",
            rule.source,
        ]
        for rule in standings.rules
    ]
    told = "the training" if standings.flop is None else f"{flops(standings.flop)} FLOP"
    columns = ["rule", f"on {standings.date}", "FLOP", told, "of it", "if", "text", "source"]
    return _table(columns, rows, len(columns))


def _number(rule: Standing) -> str:
    return flops(rule.flop) if rule.share is None else f"{rule.share:.0%} of the original's"


def _equivalent_table(sizes: Sequence[ModelFlops]) -> Table:
    rows = [[one.model, name, value] for one in sizes for name, value in one.facts()]
    return _table(["model", "", ""], rows, 3)
