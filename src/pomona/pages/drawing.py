"""Charts as SVG, drawn here, and the scripts with which a page draws them itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from pomona.files import cache_folder, write_text
from pomona.pages.theme import SCHEMA, dark, light

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


def quantitative(field: str, **more: Any) -> dict[str, Any]:
    """A channel of a chart that shows the numbers of a field."""
    return {"field": field, "type": "quantitative", **more}


def nominal(field: str, **more: Any) -> dict[str, Any]:
    """A channel of a chart that shows the names of a field."""
    return {"field": field, "type": "nominal", **more}


def forest(rows: Sequence[Mapping[str, Any]], title: str, *, zero: bool = True) -> dict[str, Any]:
    """A chart of estimates below each other: of each row its `name`, its `value`, and an interval
    from `low` to `high`; with a line at zero, where that is shown.
    """
    labels = {"labelLimit": 260, "labelPadding": 6}
    y = nominal("name", sort=[row["name"] for row in rows], title=None, axis=labels)

    def x(field: str) -> dict[str, Any]:
        return quantitative(field, title=title, scale={"zero": zero, "nice": True})

    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.5},
            "encoding": {"y": y, "x": x("low"), "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 50},
            "encoding": {"y": y, "x": x("value")},
        },
    ]
    if zero:
        line = {"mark": {"type": "rule", "style": "zero"}, "encoding": {"x": {"datum": 0}}}
        layers.insert(0, line)
    return {
        "$schema": SCHEMA,
        "padding": {"left": 24, "right": 24, "top": 5, "bottom": 5},
        "width": 520,
        "height": {"step": 20},
        "data": {"values": list(rows)},
        "layer": layers,
    }


def svg(chart: dict[str, Any], config: dict[str, Any] | None = None) -> str:
    """A Vega-Lite specification drawn as SVG, in light colours unless told otherwise. It loads
    nothing.
    """
    import vl_convert

    return vl_convert.vegalite_to_svg(chart, config=config or light(), allowed_base_urls=[])


def picture(chart: dict[str, Any]) -> dict[str, str]:
    """The drawing for pages without scripts: data addresses for `light` and `dark` screens."""
    return {
        name: "data:image/svg+xml;base64," + base64.b64encode(svg(chart, config).encode()).decode()
        for name, config in (("light", light()), ("dark", dark()))
    }


def scripts() -> list[str]:
    """What a page with charts carries: Vega with its relatives, and the few lines that call it."""
    return [_vega(), _DRAW]


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that may stand between script tags."""
    import vl_convert

    # Bundling takes a second of CPU, more than all else that a small merge does, and gives the
    # same text for a version: it is kept beside the compiled loops.
    version: str = getattr(vl_convert, "__version__")  # noqa: B009  (its stubs leave it out)
    kept = cache_folder() / f"vega-{version}.js"
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    script = (
        vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        .replace("\r", "")
        .replace("</script", "<\\/script")
    )
    with suppress(OSError):  # a home that cannot be written to: bundle again next time
        write_text(kept, script)
    return script
