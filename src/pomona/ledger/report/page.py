"""The page: template, charts and the scripts that draw them, in one text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from pomona.ledger.report.answer import SCALE, answer, rungs
from pomona.ledger.report.groups import panel, rows_of, span, split
from pomona.ledger.report.numbers import clean, count, decimals_of, flops, gained, interval, short
from pomona.ledger.report.picture import picture
from pomona.ledger.report.points import drawn, left_out
from pomona.ledger.report.theme import dark, light
from pomona.ledger.store import Entry, Ledger

_DRAW = """
const page = JSON.parse(document.getElementById("charts").textContent);
const scheme = matchMedia("(prefers-color-scheme: dark)");
async function draw() {
  const theme = scheme.matches ? "dark" : "light";
  const options = {
    actions: false, ast: true, renderer: "svg", config: page[theme], tooltip: {theme},
  };
  const boxes = [...document.querySelectorAll("[data-chart]")];
  await Promise.all(boxes.map(box => vegaEmbed(box, page.charts[box.dataset.chart], options)));
  document.documentElement.dataset.charts = "drawn";
}
scheme.addEventListener("change", draw);
draw();
"""


def render(ledger: Ledger) -> str:
    """The whole HTML text. The policy in its head forbids the network and every script but the two
    it carries.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pomona.ledger.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"clean": clean, "count": count, "flops": flops, "short": short}
    scripts = [_library(), _DRAW]
    return environment.get_template("page.html.j2").render(
        scripts=scripts, hashes=[_hash(script) for script in scripts], **_content(ledger)
    )


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that may stand between script tags."""
    import vl_convert

    return (
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        .replace("\r", "")
        .replace("</script", "<\\/script")
    )


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _content(ledger: Ledger) -> dict[str, Any]:
    first, others = split(ledger)
    reach = span(ledger, [*first, *others])
    signatures, decimals = (
        list(dict.fromkeys(entry.signature for entry in ledger.entries)),
        decimals_of(ledger),
    )
    charts = {
        f"variant-{place}": panel(ledger, entry, reach)
        for place, entry in enumerate([*first, *others])
    }
    for name, width, height in (("picture-wide", 960, 440), ("picture-narrow", 290, 380)):
        chart = picture(ledger, width, height)
        if chart:
            charts[name] = chart
    panels = [
        _panel(ledger, f"variant-{place}", entry, signatures, decimals)
        for place, entry in enumerate([*first, *others])
    ]
    named = [name for name in ("overall", "tail", "head") if ledger.of(name)]
    return {
        "meta": ledger.meta,
        "answer": answer(ledger),
        "items": max(entry.n for entry in ledger.of("overall")),
        "has_picture": "picture-wide" in charts,
        "has_ladder": bool(rungs(ledger)),
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
        "charts": {"light": light(), "dark": dark(), "charts": charts},
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
        "signature": signatures.index(entry.signature) + 1,
    }
