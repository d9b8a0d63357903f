"""Who gains: one small chart per variant, a row per group from head to tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pomona.ledger.report.answer import SCALE, best_of_levers, levers, rungs
from pomona.ledger.report.numbers import clean, count, gained, interval, short
from pomona.ledger.report.picture import SCHEMA
from pomona.ledger.store import Entry, GroupCount, Ledger

_ROW, _WIDTH = 15, 200
_BARE: dict[str, Any] = {
    "title": None,
    "ticks": False,
    "domain": False,
    "grid": False,
    "labelLimit": 70,
    "labelOverlap": False,
}


def rows_of(ledger: Ledger, entry: Entry) -> list[Entry]:
    """The entries of one variant (given by any of its entries), a row per group of the header that
    was measured, head first.
    """
    key = (entry.lever, entry.variant, entry.baseline, entry.seed)
    same = {
        other.group: other
        for other in ledger.entries
        if (other.lever, other.variant, other.baseline, other.seed) == key
    }
    return [same[each.group] for each in ledger.meta.groups if each.group in same]


def split(ledger: Ledger) -> tuple[list[Entry], list[Entry]]:
    """Overall entries with measured groups: the next size up and the best variant of each lever,
    and then all the others.
    """
    first = [*rungs(ledger)[:1], *best_of_levers(ledger)]
    others = [
        entry
        for entry in [*rungs(ledger), *levers(ledger)]
        if not any(entry is shown for shown in first)
    ]
    return [entry for entry in first if rows_of(ledger, entry)], [
        entry for entry in others if rows_of(ledger, entry)
    ]


def span(ledger: Ledger, variants: Sequence[Entry]) -> tuple[float, float]:
    """The range of gains that holds every interval of these variants and zero, so that their charts
    can be compared.
    """
    ends = [
        end for entry in variants for row in rows_of(ledger, entry) for end in ledger.gain(row)[1:]
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = (high - low) * 0.04 or 1.0
    return low - margin, high + margin


def panel(ledger: Ledger, entry: Entry, reach: tuple[float, float]) -> dict[str, Any]:
    """A variant's gain in each group as a Vega-Lite specification; `reach` is the range of the
    gains' axis.
    """
    rows = rows_of(ledger, entry)
    counts = {each.group: each for each in ledger.meta.groups}
    levers_ = list(dict.fromkeys(clean(one.lever) for one in levers(ledger)))
    ladder = entry.lever == SCALE
    colour = (
        {}
        if ladder
        else {
            "color": {
                "field": "lever",
                "type": "nominal",
                "scale": {"domain": levers_},
                "legend": None,
            }
        }
    )
    style = {"style": "ladder-point"} if ladder else {}
    group = {
        "field": "group",
        "type": "nominal",
        "scale": {"domain": [clean(row.group) for row in rows], "paddingOuter": 0.2},
    }
    at = {"x": {"field": "x", "type": "quantitative"}, "y": {**group, "axis": None}}
    bar = {
        "x": {"field": "low", "type": "quantitative"},
        "x2": {"field": "high"},
        "y": {**group, "axis": _sizes(rows, counts)},
    }
    told = [
        {"field": name, "type": "nominal"}
        for name in ("group", "gain", "items", "training examples")
    ]
    mark = {"type": "point", "size": 42, "strokeWidth": 1.6, "opacity": 1}
    return {
        "$schema": SCHEMA,
        "description": (
            f"{clean(entry.variant)}: gain over {clean(entry.baseline)} in each "
            "group, from head to tail"
        ),
        "width": _WIDTH,
        "height": {"step": _ROW},
        "resolve": {"axis": {"y": "independent"}},
        "data": {"values": [_row(ledger, row, counts[row.group].train_examples) for row in rows]},
        "layer": [
            *_ground(ledger, rows, group, reach),
            {
                "mark": {"type": "rule", "strokeWidth": 1.4, "opacity": 0.7, **style},
                "encoding": {**bar, **colour},
            },
            {"mark": {**mark, "filled": True, "style": "hollow"}, "encoding": at},
            {
                "transform": [{"filter": "datum.sure"}],
                "mark": {**mark, "filled": True, **style},
                "encoding": {**at, **colour},
            },
            {
                "mark": {**mark, "filled": False, **style},
                "encoding": {**at, **colour, "tooltip": told},
            },
        ],
    }


_SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~g')"


def _row(ledger: Ledger, entry: Entry, train_examples: int) -> dict[str, Any]:
    gain, low, high = ledger.gain(entry)
    return {
        "x": gain,
        "low": low,
        "high": high,
        "sure": not low <= 0 <= high,
        "lever": clean(entry.lever),
        "group": clean(entry.group),
        "gain": f"{gained(gain, low, high)} {interval(low, high)}",
        "items": count(entry.n),
        "training examples": count(train_examples),
    }


def _sizes(rows: Sequence[Entry], counts: dict[str, GroupCount]) -> dict[str, Any]:
    """An axis on the right that shows the training examples of each row."""
    sizes = ", ".join(f"'{short(counts[row.group].train_examples)}'" for row in rows)
    return {
        **_BARE,
        "orient": "right",
        "labelExpr": f"[{sizes}][round(datum.index * {len(rows) - 1})]",
    }


def _ground(
    ledger: Ledger, rows: Sequence[Entry], group: dict[str, Any], reach: tuple[float, float]
) -> list[dict[str, Any]]:
    tail = {each.group for each in ledger.meta.groups if each.tail}
    shaded = [{"group": clean(row.group)} for row in rows if row.group in tail]
    gain = {
        "field": "x",
        "type": "quantitative",
        "scale": {"domain": list(reach), "nice": False, "zero": False},
        "axis": {
            "title": f"gain, {clean(ledger.meta.metric)[:24]}",
            "tickCount": 5,
            "labelExpr": _SIGNED,
            "titlePadding": 6,
        },
    }
    band = {"type": "bar", "style": "tail-band", "x": 0, "x2": _WIDTH, "height": {"band": 1.12}}
    word = {
        "type": "text",
        "style": "tail-word",
        "x": _WIDTH - 4,
        "align": "right",
        "text": "tail",
        "dy": 1,
    }
    zero = {"type": "rule", "style": "zero", "y": 0, "y2": "height"}
    return [
        {"data": {"values": shaded}, "mark": band, "encoding": {"y": {**group, "axis": _BARE}}},
        {"data": {"values": shaded[:1]}, "mark": word, "encoding": {"y": {**group, "axis": None}}},
        {"data": {"values": [{"x": 0}]}, "mark": zero, "encoding": {"x": gain}},
    ]
