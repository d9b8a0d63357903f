"""The report: what it says, and how it behaves in a browser."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import altair as alt
import pytest

from pomona.errors import PomonaError
from pomona.ledger import GroupCount, Ledger
from pomona.ledger.report import write_picture, write_report
from pomona.ledger.report.life import life
from pomona.ledger.report.page import panel, span, split
from pomona.ledger.report.picture import Spot, picture, place
from pomona.ledger.report.points import (
    drawn,
    frame_of,
    heading,
    left_out,
    lines,
    paths,
    set_apart,
    shortened,
)
from pomona.ledger.systems import View
from pomona.pages import flops, gained, interval, signed

Make = Callable[..., Ledger]
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=http://x.invalid/ "
    "onerror=\"document.title='taken'\">'"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


def _hostile(ledger: Ledger) -> Ledger:
    entries = [
        replace(e, lever=HOSTILE, variant=HOSTILE, signature=HOSTILE)
        if e.variant == "experts"
        else e
        for e in ledger.entries
    ]
    entries = [replace(e, group=HOSTILE) if e.group == "cy" else e for e in entries]
    groups = [
        GroupCount(HOSTILE, 1, True) if each.group == "cy" else each for each in ledger.meta.groups
    ]
    meta = replace(
        ledger.meta,
        name=HOSTILE,
        metric=HOSTILE,
        notes=[HOSTILE],
        versions={HOSTILE: HOSTILE},
        groups=groups,
        created=HOSTILE,
    )
    return Ledger(meta, entries)


def _changed(ledger: Ledger, variant: str, **changes: Any) -> Ledger:
    entries = [
        replace(entry, **changes) if entry.variant == variant else entry for entry in ledger.entries
    ]
    return Ledger(ledger.meta, entries)


def test_the_smallest_and_largest_costs_are_written() -> None:
    assert [flops(5e-324), flops(-9.96e99), flops(2.94e12)] == [
        "4.9×10⁻³²⁴",
        "−1×10¹⁰⁰",
        "2.9×10¹²",
    ]


def test_with_several_seeds_the_page_says_one_thing_of_its_intervals(
    make_ledger: Make, folder: Path
) -> None:
    ledger = make_ledger(groups=False)
    notes = ["Intervals resample test items and, for what is fine-tuned, its 2 training seeds."]
    write_report(Ledger(replace(ledger.meta, notes=notes), ledger.entries), folder / "seeds.html")
    text = (folder / "seeds.html").read_text(encoding="utf-8")
    assert notes[0] in text
    assert "another seed" not in text


def test_groups_are_counted_by_what_they_are(make_ledger: Make, folder: Path) -> None:
    ledger = make_ledger()
    groups = [GroupCount(g.group, None, g.tail, g.train_examples) for g in ledger.meta.groups]
    counted = Ledger(replace(ledger.meta, groups=groups), ledger.entries)
    write_report(counted, folder / "counted.html")
    text = (folder / "counted.html").read_text(encoding="utf-8")
    assert "Rows run from the most test items (on the right" in text
    assert "training examples" not in text


def test_what_is_not_drawn_is_named_with_the_reason(make_ledger: Make) -> None:
    ledger = make_ledger()
    assert left_out(View(ledger))[0].endswith("; not a size above the base.")
    assert left_out(View(ledger))[1].endswith("; a choice by chance.")
    other = replace(ledger.of("overall")[-1], variant="hope+risk", baseline="hope")
    more = View(Ledger(ledger.meta, [*ledger.entries, other]))
    assert left_out(more)[-1].endswith("; measured against hope.")


@pytest.mark.parametrize("shape", [{}, {"ladder": False, "groups": False}])
def test_specifications_are_valid_vega_lite(make_ledger: Make, shape: dict[str, bool]) -> None:
    ledger = View(make_ledger(**shape))
    for width in (960, 290):
        alt.LayerChart.from_dict(picture(ledger, width, 400) or {}, validate=True)
    alt.LayerChart.from_dict(life(ledger, 740, 240) or {}, validate=True)
    first, _ = split(ledger)
    assert bool(first) is shape.get("groups", True)
    for entry in first[:1]:
        alt.LayerChart.from_dict(panel(ledger, entry, span(ledger, first)), validate=True)


def _stacked(ledger: Ledger) -> Ledger:
    """With controls, and a stack of three on the experts."""
    like = [e for e in ledger.entries if e.variant == "experts"]
    more = []
    for name, gain in (("copy", -9.0), ("lookup", 6.1), ("consensus5", 6.9)):
        told = {"lever": "control", "variant": name, "flops_once": 0.0, "flops_per_item": 0.0}
        ends = {"delta": gain, "ci_low": gain - 0.5, "ci_high": gain + 0.5}
        more += [replace(e, **told, **ends) for e in like]
    before = "experts"
    for step, name in enumerate(("experts+mbr", "experts+mbr+selector")):
        ends = {"delta": 4.0 + 3 * step, "ci_low": 3.5 + 3 * step, "ci_high": 4.5 + 3 * step}
        told = {"lever": "stack", "variant": name, "flops_per_item": 3e8 + 1e8 * step}
        more += [replace(e, **told, **ends) for e in like]
        more += [replace(e, **told, baseline=before, delta=3.0) for e in like]
        before = name
    return Ledger(ledger.meta, [*ledger.entries, *more])


def test_a_stack_is_a_path_and_a_control_a_line(make_ledger: Make, folder: Path) -> None:
    ledger = View(_stacked(make_ledger()))
    points = drawn(ledger)
    assert [[point.entry.variant for point in path] for path in paths(ledger, points)] == [
        ["experts", "experts+mbr", "experts+mbr+selector"]
    ]
    assert [entry.variant for entry in lines(ledger)] == ["consensus5", "lookup"]
    assert any(line.startswith("copy (control): −9.00") for line in left_out(ledger))
    write_picture(ledger, folder / "stack.svg")
    words = [element.text for element in ET.parse(folder / "stack.svg").iter() if element.text]
    assert {"consensus5, no model", "lookup, no model", "+ mbr", "+ selector"} <= set(words)


def test_what_nobody_would_use_is_drawn_on_request(make_ledger: Make) -> None:
    made = _stacked(make_ledger())
    bounded = replace(made.meta, bounds=["hope"])
    entries = [
        replace(e, delta=30.0, ci_high=31) if e.variant == "hope" else e for e in made.entries
    ]
    ledger = View(Ledger(bounded, entries))
    usual, asked = ({p.entry.variant for p in drawn(ledger, asked=a)} for a in (False, True))
    assert asked - usual == {"hope", "prune/random"}
    assert [entry.variant for entry in lines(ledger, asked=True)][-1] == "copy"
    sizes = {"size": (960, 440)}
    frame = frame_of(ledger, drawn(ledger), lines(ledger), **sizes, asked=False)
    assert -5 < frame.bottom < 0 < frame.top < 12
    wide = frame_of(
        ledger, drawn(ledger, asked=True), lines(ledger, asked=True), **sizes, asked=True
    )
    assert wide.bottom < -9 and wide.top > 30


def test_a_box_shows_what_is_drawn_on_request(
    make_ledger: Make, folder: Path, browser: Any
) -> None:
    page = folder / "asked.html"
    shown = (
        "[...document.querySelectorAll('.chart')].filter(one => "
        "one.offsetWidth).map(one => one.dataset.chart)[0]"
    )
    for bounds in (False, True):
        write_report(make_ledger(groups=False), page, bounds=bounds)
        browser.open(page, 1280)
        names = ["picture-wide", "asked-wide"]
        assert browser.run(shown) == names[bounds]
        browser.run("document.getElementById('ask').click()")
        assert browser.run(shown) == names[not bounds]


def test_names_of_twenty_systems_hide_nothing(
    make_ledger: Make, folder: Path, browser: Any
) -> None:
    ledger = _free(_stacked(make_ledger()))
    assert len(drawn(View(ledger))) + len(lines(View(ledger))) >= 18
    page = folder / "twenty.html"
    write_report(ledger, page)
    boxes = (
        "JSON.stringify([...document.querySelectorAll('[data-chart=NAME] svg text')]"
        ".filter(one => getComputedStyle(one).fontWeight == 'bold' || one.getAttribute("
        "'font-weight') == 'bold' || one.textContent.startsWith('no more')).map(one => "
        "{ const b = one.getBoundingClientRect(); return "
        "[one.textContent, b.left, b.top, b.right, b.bottom] }))"
    )
    for width, name in ((1280, "picture-wide"), (390, "picture-narrow")):
        browser.open(page, width)
        found = {tuple(box) for box in json.loads(browser.run(boxes.replace("NAME", name)))}
        names = {box[0] for box in found}
        assert len(names) >= 8 and any(name.startswith("no more") for name in names)
        assert {"memory/phrases", "cache"} <= names
        for one in found:
            for other in found:
                apart = one[3] <= other[1] + 1 or other[3] <= one[1] + 1
                apart |= one[4] <= other[2] + 3 or other[4] <= one[2] + 3
                assert one[0] == other[0] or apart, (one, other)


def _free(ledger: Ledger) -> Ledger:
    """With systems that ask no model, or less of one than the base, and gain much."""
    like, more = [e for e in ledger.entries if e.variant == "experts"], []
    for place_, name in enumerate(("memory/phrases", "memory/selector without a model", "cache")):
        gain = 10.0 + place_ / 3
        told = {"lever": "memory", "variant": name, "flops_once": 0.0, "flops_per_item": 1e6}
        ends = {"delta": gain, "ci_low": gain - 0.5, "ci_high": gain + 0.5}
        more += [replace(e, **told, **ends) for e in like]
    return Ledger(ledger.meta, [*ledger.entries, *more])


@pytest.mark.parametrize("width", [960, 290])
def test_what_takes_no_more_than_the_base_has_a_lane_at_the_left(
    make_ledger: Make, folder: Path, width: int
) -> None:
    ledger = View(_free(_stacked(make_ledger())))
    points, level = drawn(ledger), lines(ledger)
    frame = frame_of(ledger, points, level, size=(width, 400), asked=False)
    places_ = {p.entry.variant: frame.x(p.x) for p in set_apart(points, frame)}
    lane = {name for name, x in places_.items() if x < frame.lane}
    assert lane == {"risk", "memory/phrases", "memory/selector without a model", "cache"}
    inside = sorted(places_[name] for name in lane)
    assert inside[0] > 6 and inside[-1] < frame.lane - 6
    assert all(b - a > 8 for a, b in pairwise(inside))
    assert min(x for name, x in places_.items() if name not in lane) > frame.lane + 6
    assert min(frame.y(p.high) for p in points) > heading(width)[1]
    text = json.dumps(picture(ledger, width, 400))
    assert '"low": 9.5, "high": 10.5' in text and '"memory/phrases"' in text
    write_picture(ledger, folder / "lane.svg")
    words = [element.text for element in ET.parse(folder / "lane.svg").iter() if element.text]
    assert {"no more than the base", "memory/phrases", "cache"} <= set(words)


def test_a_narrow_picture_names_the_best_of_what_costs_no_more(make_ledger: Make) -> None:
    made = make_ledger(groups=False)
    like = next(e for e in made.entries if e.variant == "experts")
    rows = (
        ("memory/phrases", 36.3, 0.0),
        ("memory/selector without a model", 37.2, 0.0),
        ("memory/selector", 37.4, 1e8),
    )
    more = [
        replace(like, variant=name, delta=gain, ci_low=gain - 3, ci_high=gain + 3)
        for name, gain, _ in rows
    ]
    more = [
        replace(e, lever="memory", flops_once=0.0, flops_per_item=cost)
        for e, (_, _, cost) in zip(more, rows, strict=True)
    ]
    shown = picture(View(Ledger(made.meta, [*made.entries, *more])), 290, 380) or {}
    texts = [layer for layer in shown["layer"] if layer["mark"].get("fontWeight") == "bold"]
    names = {row["name"] for layer in texts for row in layer["data"]["values"]}
    # The whole name would reach under the next point, and seem to be its.
    assert {"memory/phrases", "memory/selector", shortened(rows[1][0], 14)} <= names


def test_where_nothing_costs_more_the_lane_is_the_picture(make_ledger: Make) -> None:
    made = _free(make_ledger(ladder=False, groups=False))
    free = Ledger(made.meta, [e for e in made.entries if e.lever in ("scale", "memory")])
    assert {point.free for point in drawn(View(free))} == {True}
    alt.LayerChart.from_dict(picture(View(free), 290, 400) or {}, validate=True)


def test_twenty_systems_have_room_in_a_narrow_lane(make_ledger: Make) -> None:
    made = make_ledger(groups=False)
    one = _free(made).entries[-1]
    ledger = View(
        Ledger(made.meta, [*made.entries, *(replace(one, variant=f"free-{i}") for i in range(20))])
    )
    points = drawn(ledger)
    frame = frame_of(ledger, points, [], size=(290, 400), asked=False)
    places_ = sorted(frame.x(p.x) for p in set_apart(points, frame) if p.free)
    assert len(places_) == 21 and 6 < places_[0] < places_[-1] < frame.lane - 6 < 0.5 * 290


def test_labels_never_overlap() -> None:
    spots = [
        Spot(f"variant-{i}", "lever", 40 + 7 * i, 100 + i % 5, 80, 130, i % 3) for i in range(30)
    ]
    labels = place(spots, 400, 300)
    assert 4 <= len(labels) < 30
    for one in labels:
        for other in labels:
            apart = abs(one.y - other.y) >= 15 or abs(_left(one) - _left(other)) >= 9 * 7.6
            assert one is other or apart


def _left(label: Any) -> float:
    long = len(label.spot.name) * 7.6
    return label.x - {"left": 0, "center": long / 2, "right": long}[label.align]


def test_numbers_read_well() -> None:
    assert [flops(value) for value in (0, 2.94e12, 9.96e12, -1e9, 1e13)] == [
        "0",
        "2.9×10¹²",
        "1×10¹³",
        "−1×10⁹",
        "1×10¹³",
    ]
    assert [signed(value) for value in (1.3, -0.2, 0.001, -0.004, 12.34)] == [
        "+1.30",
        "−0.20",
        "0.00",
        "0.00",
        "+12.3",
    ]


@pytest.mark.parametrize(
    ("gain", "low", "high", "said"),
    [
        (1.3, -0.1, 2.52, "+1.30 [−0.10, +2.52]"),
        (12.34, 9.87, 14.2, "+12.3 [+9.87, +14.2]"),
        (0.03, 0.01, 0.05, "+0.030 [+0.010, +0.050]"),
        (-0.00312, -0.00491, 0.00004, "−0.0031 [−0.0049, 0.0000]"),
        (0.0000021, 0.0000012, 0.0000049, "+0.0000021 [+0.0000012, +0.0000049]"),
        (0, 0, 0, "0.00 [0.00, 0.00]"),
        (0.002, 0.002, 0.002, "+0.0020 [+0.0020, +0.0020]"),
    ],
)
def test_gains_are_as_exact_as_their_intervals(
    gain: float, low: float, high: float, said: str
) -> None:
    assert f"{gained(gain, low, high)} {interval(low, high)}" == said


def test_tables_agree_with_the_entries(make_ledger: Make, folder: Path) -> None:
    ledger = make_ledger()
    write_report(ledger, folder / "plain.html")
    text = (folder / "plain.html").read_text()
    assert len(text.encode()) < 3_000_000
    rows = [
        re.findall(r"<td[^>]*>(.*?)</td>", row)
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", text, re.S)
    ]
    found = [
        tuple(html.unescape(re.sub("<.*?>", "", cell)) for cell in row[:6])
        for row in rows
        if len(row) == 16
    ]
    wanted = []
    for group in ("overall", "tail", "head"):
        for e in ledger.of(group):
            low, high = signed(e.ci_low), signed(e.ci_high)
            wanted.append(
                (group, e.lever, e.variant, f"{e.value:.2f}", signed(e.delta), f"[{low}, {high}]")
            )
    assert found[-len(wanted) :] == wanted
    assert len([row for row in rows if len(row) == 7]) == 13 * 28
    assert ledger.entries[0].signature in text


def test_names_are_escaped_in_page_and_picture(make_ledger: Make, folder: Path) -> None:
    ledger = _hostile(make_ledger())
    write_report(ledger, folder / "hostile.html")
    text = (folder / "hostile.html").read_text()
    assert text.count("<script") == text.count("</script>") == 3
    assert "<img src=http://x" not in text
    data = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.S)
    assert data
    assert HOSTILE in json.dumps(json.loads(data[1])).replace('\\"', '"')
    write_picture(ledger, folder / "hostile.svg")
    tags = {element.tag.rpartition("}")[2] for element in ET.parse(folder / "hostile.svg").iter()}
    assert not tags & {"script", "img", "image", "foreignObject"}


def test_the_picture_is_an_svg_with_its_labels(make_ledger: Make, folder: Path) -> None:
    write_picture(make_ledger(), folder / "picture.svg")
    words = [element.text for element in ET.parse(folder / "picture.svg").iter() if element.text]
    for word in (
        "prune/bottom",
        "experts",
        "hedged5/chrf-mbr",
        "ui-m",
        "ui-l",
        "extra FLOPs to make it and answer 100,000 items",
    ):
        assert word in words
    with pytest.raises(
        PomonaError,
        match=r"none.svg: no variant of known cost is .*: .* — print the ledger as a table",
    ):
        write_picture(
            Ledger(make_ledger().meta, make_ledger().of("overall")[1:2]), folder / "none.svg"
        )
    assert not (folder / "none.svg").exists()


@pytest.mark.parametrize("shape", ["full", "bare", "hostile", "nothing", "unknown"])
def test_opens_offline_without_a_complaint(
    make_ledger: Make, folder: Path, browser: Any, shape: str
) -> None:
    ledger, charts = {
        "full": (make_ledger(), 19),
        "bare": (make_ledger(ladder=False, groups=False), 6),
        "hostile": (_hostile(make_ledger()), 19),
        "nothing": (Ledger(make_ledger().meta, make_ledger().of("overall")[1:2]), 0),
        "unknown": (_changed(make_ledger(), "ui-m", flops_once=None, tokens=None), 19),
    }[shape]
    page = folder / f"{shape}.html"
    write_report(ledger, page)
    for width, shown in ((1280, "wide"), (390, "narrow")):
        browser.open(page, width)
        assert browser.complaints == []
        assert browser.requests == [page.as_uri()]
        assert browser.run("document.querySelectorAll('.chart > svg').length") == charts
        browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert browser.run("document.documentElement.scrollWidth") == width
        assert (
            browser.run("document.title")
            == (HOSTILE if shape == "hostile" else "levers-on-ui") + " · Pomona ledger"
        )
        if charts:
            visible = (
                "[...document.querySelectorAll('.chart')].filter(one => "
                "one.offsetWidth).map(one => one.dataset.chart)[0]"
            )
            assert browser.run(visible) == f"picture-{shown}"
            assert (
                browser.run(
                    "document.querySelectorAll('.chart svg "
                    "path[aria-roledescription=point]').length"
                )
                > 10
            )


def test_the_policy_stops_a_script_that_is_not_its_own(
    make_ledger: Make, folder: Path, browser: Any
) -> None:
    page = folder / "smuggled.html"
    write_report(make_ledger(groups=False), page)
    smuggled = "<script>document.title='taken'</script><img src='http://127.0.0.1:9/x.png'></main>"
    page.write_text(page.read_text().replace("</main>", smuggled))
    browser.open(page, 1280)
    assert browser.run("document.title") == "levers-on-ui · Pomona ledger"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints)


def test_dark_colours_follow_the_reader(make_ledger: Make, folder: Path, browser: Any) -> None:
    page = folder / "dark.html"
    write_report(make_ledger(groups=False), page)
    for dark, paper in ((True, "rgb(21, 26, 23)"), (False, "rgb(255, 255, 255)")):
        browser.open(page, 1280, dark=dark)
        assert (
            browser.run("getComputedStyle(document.querySelector('.wide svg')).backgroundColor")
            == paper
        )
