"""What models wrote, as HTML that can do nothing: no script, style, form, frame, image or address
of our own, whatever it says.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    import nh3
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore

_LONG = 100_000  # characters, from which on a text is shown as it is
_HEADINGS = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6", "h6": "h6"}
_TAGS = {
    *("a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p"),
    *("pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}


def to_html(text: str) -> Markup:
    """Markdown (CommonMark with tables and strikethrough) as HTML.

    HTML within is shown as text, and an image is a link, since loading it would tell somebody else
    who looks. Links lead to http and https alone. A sanitiser goes over the result, so that a
    mistake of one of the two does no harm.
    """
    if len(text) > _LONG:
        return Markup("<pre>{}</pre>").format(text)
    return Markup(_cleaner().clean(_parser().render(text)))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.enable(["table", "strikethrough"]).disable("image")
    parser.core.ruler.push("headings", _lower_headings)
    return parser


def _lower_headings(state: StateCore) -> None:
    """The page has headings of its own above those of a text."""
    for token in state.tokens:
        token.tag = _HEADINGS.get(token.tag, token.tag)


@cache
def _cleaner() -> nh3.Cleaner:
    import nh3

    return nh3.Cleaner(
        tags=_TAGS,
        attributes={"*": set(), "a": {"href"}, "ol": {"start"}},
        url_schemes={"http", "https"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
