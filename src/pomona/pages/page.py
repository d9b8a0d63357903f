"""Pages: a room's template on the common base, in one text that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pomona.pages.drawing import scripts as drawing_scripts
from pomona.pages.numbers import clean, count, flops, short
from pomona.pages.theme import dark, light

if TYPE_CHECKING:
    import jinja2

_SERVED = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'self'",
)


@dataclass(frozen=True)
class Page:
    """A page's text, and the Content-Security-Policy that is in its head: no network, and no script
    but those it carries, by their hashes.
    """

    text: str
    policy: str


def render(
    package: str,
    template: str,
    *,
    charts: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = (),
    talks: bool = False,
    served: bool = False,
    **content: Any,
) -> Page:
    """The page that `template` in the folder of `package` makes of `content`.

    It extends `base.html.j2`; `parts.html.j2` has tables and pictures, and `figures.html.j2` is a
    whole page of them. `charts` are Vega-Lite specifications for the boxes that name them in
    `data-chart`, `scripts` the page's own. With `talks` it may ask the server that it came from. A
    `served` page has no script and no style within: they come from that server too, and its forms
    go there.
    """
    carried = [*scripts, *([] if charts is None else drawing_scripts())]
    policy = "; ".join(_SERVED if served else _rules(carried, talks))
    text = (
        _environment(package)
        .get_template(template)
        .render(
            policy=policy,
            stylesheet=files("pomona.pages").joinpath("style.css").read_text(encoding="utf-8"),
            scripts=carried,
            charts=None if charts is None else {"light": light(), "dark": dark(), "charts": charts},
            **content,
        )
    )
    return Page(text, policy)


def _rules(carried: Sequence[str], talks: bool) -> list[str]:
    return [
        "default-src 'none'",
        *(["script-src " + " ".join(map(_hash, carried))] if carried else []),
        "style-src 'unsafe-inline'",  # Vega and the widths of bars set styles of their own
        *(["connect-src 'self'"] if talks else []),
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]


@cache
def _environment(package: str) -> jinja2.Environment:
    import jinja2

    folders = [jinja2.PackageLoader(name, ".") for name in (package, "pomona.pages")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"clean": clean, "count": count, "flops": flops, "short": short}
    environment.filters["lines"] = lambda text: "\n".join(map(clean, text.splitlines()))
    return environment


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
