"""report.html: heat maps of what a merge measured, layer by layer, as a page without scripts, for
light and dark screens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from pomona.ledger.report.numbers import clean, count
from pomona.merge.checkpoints.names import place_of

if TYPE_CHECKING:
    from pomona.merge.report.survey import Layers

_LEFT, _WIDTH, _ROW, _TOP, _BOTTOM = 190, 1060, 24, 6, 62
_STYLE = """
:root { --paper: #fff; --ink: #1c2420; --soft: #5c6862; --line: #dfe5e1; --wash: #f5f7f4; --warm: #c2500a; --cool: #0b6fae; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #151a17; --ink: #eef2ef; --soft: #a3aea8; --line: #2f3833; --wash: #1c221f; --warm: #ff9a5c; --cool: #6db9ee; }
}
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 56px; }
h1 { font-size: clamp(1.35rem, 1.1rem + 1.2vw, 1.9rem); line-height: 1.25; margin: 4px 0 12px; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 40px 0 4px; }
p { max-width: 48em; margin: 0 0 10px; }
.quiet, summary { color: var(--soft); font-size: 0.875rem; }
.scroll { overflow-x: auto; }
svg { display: block; min-width: 640px; width: 100%; height: auto; font-size: 12px; }
svg text { fill: var(--soft); } svg text.name { fill: var(--ink); }
rect.cell { stroke: var(--paper); stroke-width: 1; } rect.ground { fill: var(--wash); }
.warm { fill: var(--warm); } .cool { fill: var(--cool); }
table { border-collapse: collapse; font-size: 0.8125rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th { text-align: left; color: var(--soft); background: var(--wash); }
th, td { padding: 4px 10px 4px 6px; border-bottom: 1px solid var(--line); } .n { text-align: right; }
code { font-size: 0.8125rem; }
"""


@dataclass(frozen=True)
class Map:
    """One heat map: its heading and note, names of rows, and a value (or None) for each row and
    layer.
    """

    heading: str
    note: str
    values: Mapping[str, Sequence[float | None]]
    show: Callable[[float], str]
    least: float
    most: float


def page(title: str, signature: str, layers: Layers) -> str:
    """The page as HTML text. Names come from recipes and files, so they are escaped and cannot
    steer the text's direction.
    """
    maps = _maps(layers)
    names = [row["layer"] for row in layers.rows]
    parts = [
        f"<h2>{_safe(one.heading)}</h2><p class=quiet>{_safe(one.note)}</p>{_drawn(one, names)}"
        for one in maps
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_safe(title)} · Pomona merge</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<p class="quiet">Pomona merge · {_safe(title)}</p>
<h1>{_safe(_headline(layers))}</h1>
<p class="quiet">{_safe(_measured(layers))}</p>
{"".join(parts)}
<details><summary>All numbers</summary>{_table(layers)}</details>
<p class="quiet"><code>{_safe(signature)}</code></p>
</main>
</body>
</html>
"""


def _maps(layers: Layers) -> list[Map]:
    rows, found = layers.rows, []
    relative = any(row["relative"] for row in rows)
    norms = {
        model: [row["relative" if relative else "norms"].get(model) for row in rows]
        for model in layers.models
    }
    what = (
        "Norm of each task vector, as a share of the base's norm"
        if relative
        else f"Norm of the {layers.of}"
    )
    note = (
        "How far each model has moved from the base."
        if relative
        else "Euclidean norm over all elements of a layer."
    )
    show: Callable[[float], str] = (
        (lambda value: f"{value:.2%}".replace("%", " %"))
        if relative
        else (lambda value: f"{value:.3g}")
    )
    found.append(Map(what, note, norms, show, 0.0, _most(norms)))
    pairs = list(dict.fromkeys(pair for row in rows for pair in row["cosines"]))
    if pairs:
        cosines = {pair: [row["cosines"].get(pair) for row in rows] for pair in pairs}
        words = (
            "Orange: they point the same way; blue: against each other; pale: they are independent."
        )
        bound = max(
            0.1, *(abs(value) for line in cosines.values() for value in line if value is not None)
        )
        found.append(
            Map(
                f"Cosine between {layers.of}",
                words,
                cosines,
                lambda value: f"{value:+.3f}".replace("-", "−"),
                -bound,
                bound,
            )
        )
        unlike = {"all models": [row["conflicts"] for row in rows]}
        words = (
            "Share of elements that one model wants larger than zero and another smaller."
            if layers.of == "weights"
            else ("Share of elements that one model moves up and another down.")
        )
        found.append(
            Map(
                "Sign conflicts",
                words,
                unlike,
                lambda value: f"{value:.1%}".replace("%", " %"),
                0.0,
                _most(unlike),
            )
        )
    return found


def _most(values: Mapping[str, Sequence[float | None]]) -> float:
    return (
        max((value for line in values.values() for value in line if value is not None), default=0.0)
        or 1.0
    )


def _drawn(one: Map, layers: Sequence[str]) -> str:
    width = (_WIDTH - _LEFT) / len(layers)
    height = _TOP + _ROW * len(one.values) + _BOTTOM
    parts = [f'<div class="scroll" tabindex="0" role="region" aria-label="{_safe(one.heading)}">']
    parts.append(
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{_safe(one.heading)}">'
    )
    for line, (name, values) in enumerate(one.values.items()):
        y = _TOP + _ROW * line
        parts.append(
            f'<text class="name" x="{_LEFT - 8}" y="{y + 16}" '
            f'text-anchor="end">{_short(name)}<title>{_safe(name)}</title></text>'
        )
        for place, value in enumerate(values):
            x = _LEFT + width * place
            parts.append(
                f'<rect class="cell ground" x="{x:.1f}" y="{y}" width="{width:.1f}" '
                f'height="{_ROW}"/>'
            )
            if value is not None:
                kind = "cool" if one.least < 0 and value < 0 else "warm"
                deep = min(1.0, abs(value) / one.most)
                told = f"{_safe(layers[place])}, {_safe(name)}: {one.show(value)}"
                parts.append(
                    f'<rect class="cell {kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" '
                    f'height="{_ROW}" fill-opacity="{deep:.3f}">'
                    f"<title>{told}</title></rect>"
                )
    parts += [_axis(layers, width, height - _BOTTOM), _legend(one, height), "</svg></div>"]
    return "".join(parts)


def _axis(layers: Sequence[str], width: float, y: float) -> str:
    parts = []
    every = max(1, round(22 / width))
    for place, name in enumerate(layers):
        found, x = place_of(f"{name}.x"), _LEFT + width * (place + 0.5)
        if found is None:
            word = _short(name.rsplit(".", 1)[-1], 14)
            parts.append(
                f'<text x="{x:.1f}" y="{y + 12}" text-anchor="end" transform="rotate(-35 '
                f'{x:.1f} {y + 12})">{word}</text>'
            )
        elif found.layer % every == 0:
            parts.append(
                f'<text x="{x:.1f}" y="{y + 15}" text-anchor="middle">{found.layer}</text>'
            )
    return "".join(parts)


def _legend(one: Map, height: float) -> str:
    """Seven steps from the least value to the most."""
    x, y = _WIDTH - 330, height - 18
    parts = [f'<text x="{x - 8}" y="{y + 11}" text-anchor="end">{one.show(one.least)}</text>']
    for step in range(7):
        value = one.least + (one.most - one.least) * step / 6
        kind = "cool" if value < 0 else "warm"
        parts.append(
            f'<rect class="cell ground" x="{x + 36 * step}" y="{y}" width="36" height="14"/>'
        )
        parts.append(
            f'<rect class="cell {kind}" x="{x + 36 * step}" y="{y}" width="36" height="14" '
            f'fill-opacity="{abs(value) / one.most:.3f}"/>'
        )
    parts.append(f'<text x="{x + 260}" y="{y + 11}">{one.show(one.most)}</text>')
    return "".join(parts)


def _headline(layers: Layers) -> str:
    found = [row for row in layers.rows if row["conflicts"] is not None]
    if not found:
        return (
            f"{len(layers.rows)} layers, {len(layers.models)} "
            f"model{'s' if len(layers.models) > 1 else ''}"
        )
    elements = sum(row["elements"] for row in found)
    share = sum(row["conflicts"] * row["elements"] for row in found) / elements
    least, most = (end(found, key=lambda row: row["conflicts"]) for end in (min, max))
    range_ = (
        f"from {least['conflicts']:.0%} in {least['layer']} to {most['conflicts']:.0%} in "
        f"{most['layer']}"
    )
    said = "want unlike signs for" if layers.of == "weights" else "pull in opposite directions on"
    return f"The {len(layers.models)} models {said} {share:.0%} of the elements, {range_}".replace(
        "%", " %"
    )


def _measured(layers: Layers) -> str:
    elements, errors = (
        sum(row["elements"] for row in layers.rows),
        [row["error"] for row in layers.rows],
    )
    if layers.share > 0.999:
        return f"Measured on all {count(elements)} elements."
    return (
        f"Measured on {layers.share:.0%} of {count(elements)} elements, the first part of "
        "every block; "
        f"the standard error of a layer's share of sign conflicts is at most {max(errors):.2%}."
    ).replace("%", " %")


def _table(layers: Layers) -> str:
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("elements", lambda row: f"{row['elements']:,}")
    ]
    for model in layers.models:
        columns.append((f"norm {model}", lambda row, model=model: _number(row["norms"].get(model))))
    for pair in dict.fromkeys(pair for row in layers.rows for pair in row["cosines"]):
        columns.append((f"cosine {pair}", lambda row, pair=pair: _number(row["cosines"].get(pair))))
    columns.append(("sign conflicts", lambda row: _number(row["conflicts"])))
    head = "".join(f'<th class="n">{_safe(name)}</th>' for name, _ in columns)
    body = "".join(
        f"<tr><td>{_safe(row['layer'])}</td>{''.join(f'<td class=n>{cell(row)}</td>' for _, cell in columns)}</tr>"
        for row in layers.rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr><th>layer</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"


def _safe(text: str) -> str:
    return escape(clean(text))


def _short(text: str, most: int = 26) -> str:
    """A name cut to `most` letters; of paths the end tells more."""
    text = clean(text)
    return escape(text if len(text) <= most else "…" + text[-(most - 1) :])
