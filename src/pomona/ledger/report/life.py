"""The price of a gain over the life of a model: a small chart from a thousand answers to ten
million, and its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pomona.ledger.entry import Entry
from pomona.ledger.report.costs import FEWEST, MOST, between, buys, candidates, overtaking, roughly
from pomona.ledger.report.points import shortened, ticks
from pomona.ledger.systems import SCALE, View, rungs
from pomona.pages import SCHEMA, clean, nominal, quantitative

_STEPS, _SHOWN, _LINE = 40, 8, 15.0


@dataclass(frozen=True)
class Price:
    """What a point of gain costs by a system, after how many answers."""

    entry: Entry
    once: float
    each: float

    def at(self, answers: float) -> float:
        """The price for so many answers; not above 0 where nothing is left to pay."""
        return self.once + self.each * answers


def prices(ledger: View) -> list[Price]:
    """The systems that are worth comparing: those that are the best buy at some number of answers,
    the larger sizes, and then the others by their gain, as many as a small chart has room for.
    """
    there = candidates(ledger)
    first = [buy.entry for buy in buys(ledger)] + [e for e in rungs(ledger) if e in there]
    rest = sorted(there, key=lambda entry: -ledger.gain(entry)[0])
    chosen = list({id(entry): entry for entry in [*first, *rest]}.values())[:_SHOWN]
    found = []
    for entry in chosen:
        once, each = ledger.line(entry) or (0.0, 0.0)
        gain = ledger.gain(entry)[0]
        found.append(Price(entry, once / gain, each / gain))
    return found


def life_rows(ledger: View) -> list[dict[str, str]]:
    """The chart as a table: what a point costs for few and for many answers, and from how many
    answers on it is the best buy or, where it never is, a better one than the first.
    """
    found = buys(ledger)
    best = {id(buy.entry): f"from {roughly(buy.answers)}{between(buy)}" for buy in found[1:]}
    best |= {id(buy.entry): "for few answers" for buy in found[:1]}
    over = {
        id(buy.entry): f"never; a better one than {clean(found[0].entry.variant)} from "
        f"{roughly(buy.answers)}{between(buy)}"
        for buy in overtaking(ledger, found)
    }
    rows = []
    for price in prices(ledger):
        row = {"variant": clean(price.entry.variant), "lever": clean(price.entry.lever)}
        for answers in (1e3, 1e5, 1e7):
            row[f"{answers:,.0f}"] = _written(ledger, price.at(answers))
        row["best"] = (over | best).get(id(price.entry), "never")
        rows.append(row)
    return rows


def _written(ledger: View, price: float) -> str:
    return ledger.write_cost(price) if price > 0 else "nothing more"


def free(ledger: View) -> list[str]:
    """A sentence on the systems that gain and cost nothing more than the base for any number of
    answers in the chart, and on each one that does so only from some number on: neither has a line.
    """
    base, always, later = clean(ledger.meta.base), list[str](), list[str]()
    for entry in sorted(candidates(ledger), key=lambda entry: -ledger.gain(entry)[0]):
        once, each = ledger.line(entry) or (0.0, 0.0)
        name = clean(entry.variant)
        if once + each * FEWEST <= 0 and each <= 0:
            always.append(name)
        elif each < 0 and -once / each < MOST:
            since = roughly(-once / each)
            said = f"{name} costs nothing more than {base} from about {since} answers on"
            later.append(f"{said}, and has no line.")
    if not always:
        return later
    cost, have = ("costs", "has") if len(always) == 1 else ("cost", "have")
    names = " and ".join(filter(None, (", ".join(always[:-1]), always[-1])))
    said = f"{names} {cost} nothing more than {base} from {FEWEST:,.0f} answers on"
    return [f"{said}, and {have} no line.", *later]


def life(ledger: View, width: int, height: int) -> dict[str, Any] | None:
    """The chart as a Vega-Lite specification; None where no system has a price that is above 0 all
    along.
    """
    ratio = (MOST / FEWEST) ** (1 / _STEPS)
    steps = [FEWEST * ratio**step for step in range(_STEPS + 1)]
    shown = [one for one in prices(ledger) if min(one.at(FEWEST), one.at(MOST)) > 0]
    if not shown:
        return None
    values = [price.at(n) for price in shown for n in (FEWEST, MOST)]
    low, high = min(values) / 1.5, max(values) * 1.5
    colour = nominal("lever", scale={"domain": ledger.order}, legend=None)
    names = _names(shown, low, high, height)
    lines = [
        {
            "x": n,
            "y": price.at(n),
            "variant": clean(price.entry.variant),
            "lever": clean(price.entry.lever),
        }
        for price in shown
        for n in steps
    ]
    x = quantitative("x", scale={"type": "log", "domain": [FEWEST, MOST]}, axis=_answers())
    x["title"] = "answers in the life of the model"
    y = quantitative("y", scale={"type": "log", "domain": [low, high], "nice": False})
    y["title"] = f"extra {ledger.words.unit} for a point of {clean(ledger.meta.metric)[:24]}"
    y["axis"] = _costs(ledger, low, high)
    return {
        "$schema": SCHEMA,
        "description": "The price of a gain by the number of answers: the lowest line is the best",
        "width": width,
        "height": height,
        "layer": [
            *_lines(lines, {"x": x, "y": y}, colour),
            *_changes(ledger, {"x": x, "y": y}, (low, high)),
            *_words(names, width, colour),
        ],
    }


def _answers() -> dict[str, Any]:
    values = [10.0**power for power in range(3, 8)]
    names = ", ".join(f"'{value:,.0f}'" for value in values)
    label = f"[{names}][indexof({values}, datum.value)]"
    return {"values": values, "labelExpr": label, "grid": False}


def _costs(ledger: View, low: float, high: float) -> dict[str, Any]:
    values = ticks(low, high, 6)
    names = ", ".join(f"'{ledger.write_tick(value)}'" for value in values)
    return {"values": values, "labelExpr": f"[{names}][indexof({values}, datum.value)]"}


def _lines(
    rows: list[dict[str, Any]], at: dict[str, Any], colour: dict[str, Any]
) -> list[dict[str, Any]]:
    found = []
    for ladder in (True, False):
        chosen = [row for row in rows if (row["lever"] == SCALE) is ladder]
        if chosen:
            mark = {"type": "line", "strokeWidth": 2} | ({"style": "ladder"} if ladder else {})
            encoding = {**at, "detail": nominal("variant")}
            encoding |= {} if ladder else {"color": colour}
            found.append({"data": {"values": chosen}, "mark": mark, "encoding": encoding})
    return found


def _changes(ledger: View, at: dict[str, Any], reach: tuple[float, float]) -> list[dict[str, Any]]:
    """Where another system becomes the best buy: a dotted line with its number of answers."""
    there = [buy.answers for buy in buys(ledger)[1:] if FEWEST < buy.answers < MOST]
    # Numbers that are close to each other stand on lines of their own.
    rows = [
        {"x": answers, "y": reach[1] * (reach[0] / reach[1]) ** (place % 3 / 16), "name": name}
        for place, (answers, name) in enumerate((n, roughly(n)) for n in there)
    ]
    if not rows:
        return []
    rule = {"type": "rule", "style": "control"}
    text = {"type": "text", "style": "control-label", "align": "left", "dx": 4, "dy": 8}
    return [
        {"data": {"values": rows}, "mark": rule, "encoding": {"x": at["x"]}},
        {
            "data": {"values": rows},
            "mark": {**text, "fontSize": 12},
            "encoding": {**at, "text": nominal("name")},
        },
    ]


def _names(
    shown: Sequence[Price], low: float, high: float, height: float
) -> list[tuple[float, Entry]]:
    """Where the names stand at the right end of the lines: in pixels from the top, pushed apart."""
    places = sorted(
        ((height * math.log(high / one.at(MOST)) / math.log(high / low), one) for one in shown),
        key=lambda pair: pair[0],
    )
    found: list[tuple[float, Entry]] = []
    for y, one in places:
        found.append((max(y, found[-1][0] + _LINE) if found else y, one.entry))
    over = max(0.0, found[-1][0] - (height - 4))
    below = height
    moved: list[tuple[float, Entry]] = []
    for y, entry in reversed(found):
        y = min(y, below - _LINE) if over else y
        moved.append((y, entry))
        below = y
    return moved


def _words(
    names: Sequence[tuple[float, Entry]], width: float, colour: dict[str, Any]
) -> list[dict[str, Any]]:
    layers = []
    at = {name: quantitative(name, scale=None) for name in ("x", "y")}
    for ladder in (True, False):
        rows = [
            {"x": width + 6, "y": y, "name": shortened(entry.variant), "lever": clean(entry.lever)}
            for y, entry in names
            if (entry.lever == SCALE) is ladder
        ]
        if not rows:
            continue
        mark = {"type": "text", "align": "left", "fontSize": 12, "fontWeight": "bold"}
        mark |= {"style": "ladder-label"} if ladder else {}
        encoding = {**at, "text": nominal("name")} | ({} if ladder else {"color": colour})
        layers.append({"data": {"values": rows}, "mark": mark, "encoding": encoding})
    return layers
