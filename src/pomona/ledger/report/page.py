"""The page of a run: its charts, one for every variant, and the numbers below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pomona.ledger.entry import AXES, Entry, GroupCount
from pomona.ledger.examples import Examples
from pomona.ledger.report.answer import answer
from pomona.ledger.report.life import free, life, life_rows
from pomona.ledger.report.picture import picture
from pomona.ledger.report.points import drawn, left_out, lines, paths
from pomona.ledger.systems import (
    SCALE,
    SIGNED,
    View,
    best_of_levers,
    levers,
    on_request,
    rungs,
)
from pomona.pages import (
    SCHEMA,
    UNKNOWN,
    clean,
    count,
    gained,
    interval,
    nominal,
    p_value,
    places,
    quantitative,
    render,
    short,
    size,
)

_ROW, _WIDTH = 15, 200
# The groups of which the page has every entry.
PARTS = (
    *(
        "overall",
        "warm",
        "cold",
        "tail",
        "head",
        "warm tail",
        "warm head",
        "cold tail",
        "cold head",
    ),
    *("near", "middle", "far"),
)
_BARE: dict[str, Any] = {
    "title": None,
    "ticks": False,
    "domain": False,
    "grid": False,
    "labelLimit": 70,
    "labelOverlap": False,
}


def report_text(ledger: View, *, asked: bool = False, has_examples: bool = False) -> str:
    """The report as HTML; see `write_report`."""
    shown: dict[str, Any] = {"asked": asked, "has_examples": has_examples, **_content(ledger)}
    return render("pomona.ledger.report", "page.html.j2", **shown).text


def examples_text(shown: Examples, name: str) -> str:
    """The examples of the run of a name, as HTML."""
    pick = max if shown.higher_is_better else min
    best = [pick((s for s in e.scores if s is not None), default=None) for e in shown.examples]
    content = {"shown": shown, "best": best, "name": name}
    return render("pomona.ledger.report", "examples.html.j2", **content).text


def _content(ledger: View) -> dict[str, Any]:
    first, others = split(ledger)
    variants = {f"variant-{place}": entry for place, entry in enumerate([*first, *others])}
    signatures = list(dict.fromkeys(entry.signature for entry in ledger.entries))
    rows = _Rows(ledger, {signature: i + 1 for i, signature in enumerate(signatures)})
    charts = _charts(ledger, variants)
    panels = [_panel(ledger, name, entry, rows) for name, entry in variants.items()]
    points, systems = drawn(ledger), ledger.of(ledger.parts()["all"])
    return {
        "meta": ledger.meta,
        "answer": answer(ledger),
        "items": max(entry.n for entry in ledger.of("overall")),
        "parts": ledger.parts(),
        "words": ledger.words,
        "write_cost": ledger.write_cost,
        "other_metrics": ledger.metrics[1:],
        "has_picture": "picture-wide" in charts,
        "has_asked": "asked-wide" in charts,
        "has_life": "life-wide" in charts,
        "has_lane": any(point.free for point in points),
        "has_ladder": bool(rungs(ledger)),
        "has_controls": bool(lines(ledger)),
        "has_stacks": bool(paths(ledger, points)),
        "has_tail": any(each.tail for each in ledger.meta.groups),
        "has_distance": bool(ledger.of("near") or ledger.of("middle") or ledger.of("far")),
        "has_tests": any(entry.p_holm is not None for entry in systems),
        "has_scale": any(entry.scale_equivalent for entry in systems),
        "has_bytes": any(entry.bytes is not None for entry in systems),
        "has_marks": any(entry.optimised for entry in systems),
        "drawn": rows([*(point.entry for point in points), *lines(ledger)]),
        "left_out": left_out(ledger),
        "life": life_rows(ledger),
        "free": free(ledger),
        "panels": panels[: len(first)],
        "more_panels": panels[len(first) :],
        "rows": rows([entry for name in PARTS for entry in ledger.of(name)]),
        "exchange": _exchange(ledger),
        "headed_warm": ledger.parts()["all"] == "warm",
        "signatures": signatures,
        "charts": charts,
    }


def _exchange(ledger: View) -> list[dict[str, Any]]:
    """What the best system costs whom, as rows of a table."""
    verdicts = {(e.variant, e.baseline, e.group): ledger.verdict(e) for e in ledger.entries[::-1]}
    rows = []
    for each in ledger.meta.exchange:
        ends = (each.low, each.high)
        cells = [each.part, count(each.gained), count(each.lost), count(each.n)]
        cells.append(f"{gained(each.gain, *ends)} {interval(*ends)}")
        verdict = verdicts.get((each.variant, ledger.meta.base, each.part), "unclear")
        rows.append({"cells": cells, "verdict": verdict})
    return rows


def _charts(ledger: View, variants: Mapping[str, Entry]) -> dict[str, Any]:
    reach = span(ledger, list(variants.values()))
    charts = {name: panel(ledger, entry, reach) for name, entry in variants.items()}
    more = bool(on_request(ledger))
    for shape, width, height in (("wide", 960, 440), ("narrow", 290, 380)):
        found = {f"picture-{shape}": picture(ledger, width, height)}
        if more:
            found[f"asked-{shape}"] = picture(ledger, width, height, asked=True)
        small = (740, 260) if shape == "wide" else (200, 240)
        found[f"life-{shape}"] = life(ledger, *small)
        charts |= {name: chart for name, chart in found.items() if chart}
    return charts


def _panel(ledger: View, chart: str, entry: Entry, rows: _Rows) -> dict[str, Any]:
    told = []
    for part, name in ledger.parts().items():
        if part in ("all", "cold") and (there := ledger.within(entry, name)):
            gain, low, high = ledger.gain(there)
            told.append(f"{name} {gained(gain, low, high)} {interval(low, high)}")
    return {
        "chart": chart,
        "entry": entry,
        "ladder": entry.lever == SCALE,
        "gain": "; ".join(told),
        "rows": rows(rows_of(ledger, entry)),
    }


class _Rows:
    """Entries as rows of a table, with what stands in more than one of its cells."""

    def __init__(self, ledger: View, signatures: Mapping[str, int]) -> None:
        self.ledger, self.signatures, self.decimals = ledger, signatures, ledger.decimals()

    def __call__(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        return [self._row(entry) for entry in entries]

    def _row(self, entry: Entry) -> dict[str, Any]:
        ledger = self.ledger
        gain, low, high = ledger.gain(entry)
        once, each = AXES[ledger.axis]
        others = [ledger.within(entry, entry.group, name) for name in ledger.metrics[1:]]
        return {
            "entry": entry,
            "value": f"{entry.value:.{self.decimals[entry.group]}f}",
            "gain": gained(gain, low, high),
            "interval": interval(low, high),
            "verdict": ledger.verdict(entry),
            "extra": ledger.write_cost(ledger.extra(entry)),
            "once": ledger.write_cost(getattr(entry, once)),
            "each": ledger.write_cost(getattr(entry, each)),
            "bytes": size(entry.bytes) if entry.bytes is not None else UNKNOWN,
            "scale": str(entry.scale_equivalent) if entry.scale_equivalent else "—",
            "p": p_value(entry.p_holm),
            "others": [self._other(one) for one in others],
            "signature": self.signatures[entry.signature],
        }

    def _other(self, entry: Entry | None) -> dict[str, str]:
        """A value by another metric, with its gain."""
        if entry is None:
            return {"value": "—", "gain": "", "verdict": "unclear"}
        gain, low, high = self.ledger.gain(entry)
        return {
            "value": f"{entry.value:.{places(entry.ci_low, entry.ci_high)}f}",
            "gain": f"{gained(gain, low, high)} {interval(low, high)}",
            "verdict": self.ledger.verdict(entry),
        }


def rows_of(ledger: View, entry: Entry) -> list[Entry]:
    """The entries of one variant (given by any of its entries), a row per group of the header that
    was measured, head first.
    """
    found = (ledger.within(entry, each.group, ledger.leading) for each in ledger.meta.groups)
    return [one for one in found if one is not None]


def split(ledger: View) -> tuple[list[Entry], list[Entry]]:
    """Entries of all items with measured groups: the next size up and the best variant of each
    lever, and then all the others.
    """
    first = [*rungs(ledger)[:1], *best_of_levers(ledger)]
    shown = {id(entry) for entry in first}
    others = [entry for entry in [*rungs(ledger), *levers(ledger)] if id(entry) not in shown]
    first, others = ([e for e in some if rows_of(ledger, e)] for some in (first, others))
    return first, others


def span(ledger: View, variants: Sequence[Entry]) -> tuple[float, float]:
    """The range of gains that holds every interval of these variants and zero, so that their charts
    can be compared.
    """
    ends = [
        end for entry in variants for row in rows_of(ledger, entry) for end in ledger.gain(row)[1:]
    ]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = (high - low) * 0.04 or 1.0
    return low - margin, high + margin


def panel(ledger: View, entry: Entry, reach: tuple[float, float]) -> dict[str, Any]:
    """A variant's gain in each group as a Vega-Lite specification; `reach` is the range of the
    gains' axis.
    """
    rows = rows_of(ledger, entry)
    counts = {each.group: each for each in ledger.meta.groups}
    ladder = entry.lever == SCALE
    by_lever = nominal("lever", scale={"domain": ledger.order}, legend=None)
    colour, style = ({}, {"style": "ladder-point"}) if ladder else ({"color": by_lever}, {})
    names = [clean(row.group) for row in rows]
    group = nominal("group", scale={"domain": names, "paddingOuter": 0.2})
    at = {"x": quantitative("x"), "y": {**group, "axis": None}}
    # An axis on the right shows the training examples of each row.
    sizes = ", ".join(f"'{short(counts[row.group].size)}'" for row in rows)
    label = f"[{sizes}][round(datum.index * {len(rows) - 1})]"
    axis = {**_BARE, "orient": "right", "labelExpr": label}
    bar = {"x": quantitative("low"), "x2": {"field": "high"}, "y": {**group, "axis": axis}}
    told = [nominal(name) for name in ("group", "gain", "items", ledger.meta.counted)]
    mark = {"type": "point", "size": 42, "strokeWidth": 1.6, "opacity": 1}
    line = {"type": "rule", "strokeWidth": 1.4, "opacity": 0.7, **style}
    drawn = {**mark, "filled": True, **style}
    sure = {"transform": [{"filter": "datum.sure"}], "mark": drawn, "encoding": {**at, **colour}}
    ring = {**mark, "filled": False, **style}
    about = f"{clean(entry.variant)}: gain over {clean(entry.baseline)} in each group"
    return {
        "$schema": SCHEMA,
        "description": f"{about}, from head to tail",
        "width": _WIDTH,
        "height": {"step": _ROW},
        "resolve": {"axis": {"y": "independent"}},
        "data": {"values": [_datum(ledger, row, counts[row.group]) for row in rows]},
        "layer": [
            *_ground(ledger, rows, group, reach),
            {"mark": line, "encoding": {**bar, **colour}},
            {"mark": {**mark, "filled": True, "style": "hollow"}, "encoding": at},
            sure,
            {"mark": ring, "encoding": {**at, **colour, "tooltip": told}},
        ],
    }


def _datum(ledger: View, entry: Entry, counted: GroupCount) -> dict[str, Any]:
    gain, low, high = ledger.gain(entry)
    return {
        "x": gain,
        "low": low,
        "high": high,
        "sure": ledger.verdict(entry) != "unclear",
        "lever": clean(entry.lever),
        "group": clean(entry.group),
        "gain": f"{gained(gain, low, high)} {interval(low, high)}",
        ledger.meta.counted: count(counted.size),
        "items": count(entry.n),
    }


def _ground(
    ledger: View, rows: Sequence[Entry], group: dict[str, Any], reach: tuple[float, float]
) -> list[dict[str, Any]]:
    tail = {each.group for each in ledger.meta.groups if each.tail}
    shaded = [{"group": clean(row.group)} for row in rows if row.group in tail]
    title = f"gain, {clean(ledger.meta.metric)[:24]}"
    gain = quantitative(
        "x",
        scale={"domain": list(reach), "nice": False, "zero": False},
        axis={"title": title, "tickCount": 5, "labelExpr": SIGNED, "titlePadding": 6},
    )
    band = {"type": "bar", "style": "tail-band", "x": 0, "x2": _WIDTH, "height": {"band": 1.12}}
    word = {"type": "text", "style": "tail-word", "x": _WIDTH - 4, "align": "right"}
    word |= {"text": "tail", "dy": 1}
    zero = {"type": "rule", "style": "zero", "y": 0, "y2": "height"}
    return [
        {"data": {"values": shaded}, "mark": band, "encoding": {"y": {**group, "axis": _BARE}}},
        {"data": {"values": shaded[:1]}, "mark": word, "encoding": {"y": {**group, "axis": None}}},
        {"data": {"values": [{"x": 0}]}, "mark": zero, "encoding": {"x": gain}},
    ]
