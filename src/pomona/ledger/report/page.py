"""The page of a run: its charts, one for every variant, and the numbers below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pomona.files import remove_from, write_into, write_text
from pomona.ledger.report.answer import SCALE, SIGNED, answer, best_of_levers, levers, rungs
from pomona.ledger.report.picture import picture, picture_text
from pomona.ledger.report.points import drawn, left_out
from pomona.ledger.store import Entry, GroupCount, Ledger, ledger_of
from pomona.pages import (
    SCHEMA,
    clean,
    count,
    flops,
    gained,
    interval,
    nominal,
    p_value,
    quantitative,
    render,
    short,
)

_ROW, _WIDTH = 15, 200
PARTS = ("overall", "tail", "head", "near", "middle", "far")  # of which the page has every entry
_BARE: dict[str, Any] = {
    "title": None,
    "ticks": False,
    "domain": False,
    "grid": False,
    "labelLimit": 70,
    "labelOverlap": False,
}


def publish(ledger: Ledger, folder: Path) -> list[Path]:
    """Write `report.html` and, where some variant takes extra compute, `picture.svg` into the run's
    folder; the paths written. Raises PomonaError where a file of that name is not one of ours.
    """
    files, drawing = {"report.html": report_text(ledger)}, picture_text(ledger)
    if drawing is not None:
        files["picture.svg"] = drawing
    else:
        remove_from(folder, "picture.svg")
    write_into(folder, files)
    return [folder / name for name in files]


def republish(run: str | Path, *, browse: bool = False) -> tuple[Path, ...]:
    """Write report.html and picture.svg of a run again from its ledger.json; the paths written.

    Args:
        run: Folder of the run.
        browse: Open the report in the browser.

    Raises:
        PomonaError: there is no such run, it is not finished, or its ledger.json cannot be read.
    """
    run = Path(run)
    written = publish(ledger_of(run), run if run.is_dir() else run.parent)
    if browse:
        import webbrowser

        webbrowser.open(written[0].resolve().as_uri())
    return tuple(written)


def write_report(ledger: Ledger, path: str | Path) -> None:
    """Write the report as one HTML file of about 1 MB that loads nothing. Raises PomonaError if a
    baseline has no entry.
    """
    write_text(path, report_text(ledger))


def report_text(ledger: Ledger) -> str:
    """The report as HTML; see `write_report`."""
    return render("pomona.ledger.report", "page.html.j2", **_content(ledger)).text


def _content(ledger: Ledger) -> dict[str, Any]:
    first, others = split(ledger)
    variants = {f"variant-{place}": entry for place, entry in enumerate([*first, *others])}
    reach = span(ledger, list(variants.values()))
    signatures = list(dict.fromkeys(entry.signature for entry in ledger.entries))
    decimals = ledger.decimals()
    charts = {name: panel(ledger, entry, reach) for name, entry in variants.items()}
    for name, width, height in (("picture-wide", 960, 440), ("picture-narrow", 290, 380)):
        chart = picture(ledger, width, height)
        if chart:
            charts[name] = chart
    panels = [_panel(ledger, name, entry, signatures, decimals) for name, entry in variants.items()]
    named = [name for name in PARTS if ledger.of(name)]
    return {
        "meta": ledger.meta,
        "answer": answer(ledger),
        "items": max(entry.n for entry in ledger.of("overall")),
        "has_picture": "picture-wide" in charts,
        "has_ladder": bool(rungs(ledger)),
        "has_tail": any(each.tail for each in ledger.meta.groups),
        "has_distance": bool(ledger.of("near") or ledger.of("middle") or ledger.of("far")),
        "has_tests": any(entry.p_holm is not None for entry in ledger.entries),
        "has_scale": any(entry.scale_equivalent for entry in ledger.entries),
        "drawn": [_row(ledger, point.entry, signatures, decimals) for point in drawn(ledger)],
        "left_out": left_out(ledger),
        "panels": panels[: len(first)],
        "more_panels": panels[len(first) :],
        "rows": [
            _row(ledger, entry, signatures, decimals)
            for group in named
            for entry in ledger.of(group)
        ],
        "signatures": signatures,
        "charts": charts,
    }


def _panel(
    ledger: Ledger, chart: str, entry: Entry, signatures: list[str], decimals: Mapping[str, int]
) -> dict[str, Any]:
    rows = [_row(ledger, row, signatures, decimals) for row in rows_of(ledger, entry)]
    gain, low, high = ledger.gain(entry)
    return {
        "chart": chart,
        "entry": entry,
        "ladder": entry.lever == SCALE,
        "gain": f"{gained(gain, low, high)} {interval(low, high)}",
        "rows": rows,
    }


def _row(
    ledger: Ledger, entry: Entry, signatures: list[str], decimals: Mapping[str, int]
) -> dict[str, Any]:
    gain, low, high = ledger.gain(entry)
    return {
        "entry": entry,
        "value": f"{entry.value:.{decimals[entry.group]}f}",
        "gain": gained(gain, low, high),
        "interval": interval(low, high),
        "verdict": "better" if low > 0 else "worse" if high < 0 else "unclear",
        "extra": flops(ledger.extra(entry)),
        "scale": str(entry.scale_equivalent) if entry.scale_equivalent else "—",
        "p": p_value(entry.p_holm),
        "signature": signatures.index(entry.signature) + 1,
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
    shown = {id(entry) for entry in first}
    others = [entry for entry in [*rungs(ledger), *levers(ledger)] if id(entry) not in shown]
    first, others = ([e for e in some if rows_of(ledger, e)] for some in (first, others))
    return first, others


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
    by_lever = nominal("lever", scale={"domain": levers_}, legend=None)
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


def _datum(ledger: Ledger, entry: Entry, counted: GroupCount) -> dict[str, Any]:
    gain, low, high = ledger.gain(entry)
    return {
        "x": gain,
        "low": low,
        "high": high,
        "sure": not low <= 0 <= high,
        "lever": clean(entry.lever),
        "group": clean(entry.group),
        "gain": f"{gained(gain, low, high)} {interval(low, high)}",
        ledger.meta.counted: count(counted.size),
        "items": count(entry.n),
    }


def _ground(
    ledger: Ledger, rows: Sequence[Entry], group: dict[str, Any], reach: tuple[float, float]
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
