"""The report: what it says, and how it behaves in a browser."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair as alt
import pytest

from pomona.errors import PomonaError
from pomona.ledger import GroupCount, Ledger
from pomona.ledger.report import write_picture, write_report
from pomona.ledger.report.answer import answer
from pomona.ledger.report.costs import crossing
from pomona.ledger.report.page import panel, span, split
from pomona.ledger.report.picture import Spot, picture, place
from pomona.ledger.report.points import drawn, left_out
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


def test_the_answer_names_the_best_buy_and_is_honest(make_ledger: Make) -> None:
    said = answer(make_ledger())
    text = " ".join([said.headline, *said.details]).replace("\u00a0", " ")
    assert said.headline.startswith("The best buy per FLOP is data (prune/bottom): +0.90 chrF [")
    assert (
        "The largest gain of a lever is merging (experts): +1.90 chrF [+1.41, +2.41] for 9.4×10¹² extra FLOPs."
        in text
    )
    assert "In the tail prune/bottom gives no measurable gain, +0.30 chrF" in text
    assert "No measurable gain (the interval includes zero): data (all)" in text
    assert "Measurably worse than the base: data (prune/top)" in text
    assert "12 variants were compared" in text


def test_a_gain_without_extra_compute_is_the_best_buy(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    ledger.entries[-1] = replace(ledger.entries[-1], delta=0.4, ci_low=0.1, ci_high=0.7)
    assert answer(ledger).headline.startswith(
        "The best buy per FLOP is sampling (risk): +0.40 chrF"
    )
    assert "at no extra compute" in answer(ledger).headline


def _changed(ledger: Ledger, variant: str, **changes: Any) -> Ledger:
    entries = [
        replace(entry, **changes) if entry.variant == variant else entry for entry in ledger.entries
    ]
    return Ledger(ledger.meta, entries)


def _said(ledger: Ledger) -> str:
    conclusion = answer(ledger)
    return " ".join([conclusion.headline, *conclusion.details]).replace("\u00a0", " ")


def _only(ledger: Ledger, *levers: str) -> Ledger:
    return Ledger(
        ledger.meta, [e for e in ledger.entries if e.lever == "scale" or e.variant in levers]
    )


def test_a_lever_that_was_trained_and_answers_shorter_is_not_free(make_ledger: Make) -> None:
    ledger = _changed(make_ledger(groups=False), "prune/bottom", flops_per_item=0.6e8)
    assert ledger.extra(ledger.of("overall")[5]) < 0  # pyright: ignore[reportOptionalOperand]
    assert answer(ledger).headline.startswith("The best buy per FLOP is data (prune/bottom): ")
    assert (
        "for 2.9×10¹² FLOPs once, which its cheaper answers save within 73,000 answers"
        in answer(ledger).headline
    )
    assert "no extra compute" not in _said(ledger)
    kept = next(line for line in left_out(ledger) if line.startswith("prune/bottom"))
    assert kept.endswith("; its cheaper answers save more than making it took.")


def test_the_headline_says_from_how_many_answers_a_bigger_model_is_cheaper(
    make_ledger: Make,
) -> None:
    ledger = _only(make_ledger(groups=False), "hedged5/chrf-mbr")
    headline = answer(ledger).headline
    assert headline.startswith("The best buy per FLOP is sampling (hedged5/chrf-mbr): +1.60")
    assert headline.endswith("; from about 330,000 answers on the larger ui-m is cheaper per gain.")
    assert "largest gain" not in _said(ledger)
    # Both prices are lines in the number of answers: the same at the crossing, apart beyond it.
    mbr, larger = (
        next(e for e in ledger.of("overall") if e.variant == name)
        for name in ("hedged5/chrf-mbr", "ui-m")
    )
    crossed = crossing(ledger, mbr, [larger])
    assert crossed is not None
    assert crossed.above
    at = Ledger(replace(ledger.meta, serve_items=round(crossed.answers)), ledger.entries)
    prices = [(at.extra(e) or 0) / at.gain(e)[0] for e in (mbr, larger)]
    assert prices[0] == pytest.approx(prices[1], rel=1e-5)


def test_a_bigger_model_is_named_where_it_is_the_best_buy(make_ledger: Make) -> None:
    ledger = _only(make_ledger(groups=False), "hedged5/chrf-mbr")
    many = Ledger(replace(ledger.meta, serve_items=1_000_000), ledger.entries)
    headline = answer(many).headline
    assert headline.startswith("The best buy per FLOP is a bigger model, ui-m: +4.21 chrF [")
    assert "The best lever is sampling (hedged5/chrf-mbr): +1.60 chrF" in headline
    assert headline.endswith("; it is the cheaper per gain up to about 330,000 answers.")


def test_what_is_not_known_is_neither_free_nor_drawn(make_ledger: Make, folder: Path) -> None:
    ledger = make_ledger()
    for name in ("ui-m", "ui-l"):
        ledger = _changed(ledger, name, flops_once=None, tokens=None, seconds=None)
    text = _said(ledger)
    assert (
        "The next size up, ui-m, gains +4.21 chrF [+3.73, +4.73] at a cost that is not known."
        in text
    )
    assert (
        "What making it took is not known, so no gain per FLOP is told of ui-m, ui-l: give the "
        "tokens it was trained on in the recipe's ladder." in text
    )
    assert "cheaper per gain" not in text
    assert not {"ui-m", "ui-l"} & {point.entry.variant for point in drawn(ledger)}
    assert any(
        line.startswith("ui-m") and line.endswith("; what making it took is not known.")
        for line in left_out(ledger)
    )
    write_report(ledger, folder / "unknown.html")
    page = (folder / "unknown.html").read_text(encoding="utf-8")
    assert page.count('<td class="n">unknown</td>') == 2 * 3 * 4  # models, groups, columns
    ledger.write(folder / "ledger.json")
    assert Ledger.read(folder / "ledger.json") == ledger
    row = next(row for row in ledger.rows() if row["variant"] == "ui-m")
    assert [row[n] for n in ("flops_once", "extra_flops", "tokens", "seconds")] == [None] * 4
    lever = _changed(
        _only(make_ledger(groups=False), "hope"),
        "hope",
        delta=1.0,
        ci_low=0.5,
        ci_high=2,
        flops_once=None,
    )
    assert answer(lever).headline.startswith("The largest gain of a lever is sampling (hope): ")


@pytest.mark.parametrize(
    ("value", "copied", "why"),
    [
        (0.01, 0.0, "is near zero, chrF 0.01"),
        (12.3, 14.5, "does no better than copying the source, chrF 12.30 against 14.50"),
    ],
)
def test_a_base_of_no_use_is_said_to_be_none(
    make_ledger: Make, value: float, copied: float, why: str
) -> None:
    made = make_ledger(groups=False)
    meta = replace(made.meta, copying={"overall": copied})
    ledger = Ledger(meta, [replace(e, value=value + max(e.delta, 0) / 10) for e in made.entries])
    headline = answer(ledger).headline
    assert headline == (f"The base ui-s {why}: differences between answers of no use mean nothing.")
    assert "best buy" not in _said(ledger)
    assert "Above the base, and of no use: data (prune/bottom) " in _said(ledger)
    # What rises above copying and zero is a gain, and the base is still told for what it is.
    good = _changed(ledger, "prune/bottom", value=value + 20, delta=20.0, ci_low=19.0, ci_high=21.0)
    assert answer(good).headline.startswith("The best buy per FLOP is data (prune/bottom): +20.0")
    assert answer(good).details[0] == headline


def test_gains_of_no_use_over_a_base_of_some(make_ledger: Make) -> None:
    made = make_ledger(groups=False)
    base = [replace(e, value=0.0 if e.delta else 50.0) for e in made.entries]
    assert answer(Ledger(made.meta, base)).headline.startswith("Above the base, and of no use: ")


def test_the_smallest_and_largest_costs_are_written() -> None:
    assert [flops(5e-324), flops(-9.96e99), flops(2.94e12)] == [
        "4.9×10⁻³²⁴",
        "−1×10¹⁰⁰",
        "2.9×10¹²",
    ]


def test_a_base_better_than_copying_is_warned_of_by_nobody(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    ledger = Ledger(replace(ledger.meta, copying={"overall": 25.1}), ledger.entries)
    assert "no use" not in _said(ledger)


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


def test_intervals_that_include_zero_are_no_gain(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    flat = [replace(e, delta=0.1, ci_low=0.0, ci_high=0.9) for e in ledger.entries]
    assert answer(Ledger(ledger.meta, flat)).headline.startswith(
        "No lever shows a measurable gain over ui-s"
    )
    only = [e for e in ledger.entries if e.variant == "ui-s"]
    assert (
        answer(Ledger(ledger.meta, only)).headline == "This ledger measures no lever against ui-s."
    )


def test_lower_is_better_turns_the_answer(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    said = answer(Ledger(replace(ledger.meta, higher_is_better=False), ledger.entries))
    assert said.headline.startswith("The best buy per FLOP is sampling (risk): +0.60 chrF")


def test_what_is_not_drawn_is_named_with_the_reason(make_ledger: Make) -> None:
    ledger = make_ledger()
    assert all(point.extra > 0 for point in drawn(ledger))
    assert left_out(ledger)[0].endswith("; not a size above the base.")
    assert left_out(ledger)[1].endswith("; takes no extra compute.")
    other = replace(ledger.of("overall")[-1], variant="hope+risk", baseline="hope")
    assert left_out(Ledger(ledger.meta, [*ledger.entries, other]))[-1].endswith(
        "; measured against hope."
    )


@pytest.mark.parametrize(
    "shape", [{}, {"ladder": False}, {"groups": False}, {"ladder": False, "groups": False}]
)
def test_specifications_are_valid_vega_lite(make_ledger: Make, shape: dict[str, bool]) -> None:
    ledger = make_ledger(**shape)
    for width in (960, 290):
        alt.LayerChart.from_dict(picture(ledger, width, 400) or {}, validate=True)
    first, _ = split(ledger)
    assert bool(first) is shape.get("groups", True)
    for entry in first[:1]:
        alt.LayerChart.from_dict(panel(ledger, entry, span(ledger, first)), validate=True)


def test_labels_never_overlap() -> None:
    spots = [
        Spot(f"variant-{i}", "lever", 40 + 7 * i, 100 + i % 5, 80, 130, i % 3) for i in range(30)
    ]
    labels = place(spots, 400, 300)
    assert 4 <= len(labels) < 30
    for one in labels:
        for other in labels:
            apart = abs(one.y - other.y) >= 15 or abs(_left(one) - _left(other)) >= 9 * 6.8
            assert one is other or apart


def _left(label: Any) -> float:
    long = len(label.spot.name) * 6.8
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
    assert len([row for row in rows if len(row) == 7]) == 14 * 28
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
        match=r"none.svg: no variant is known to take extra compute, .* — print the ledger as a table",
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
        "full": (make_ledger(), 16),
        "bare": (make_ledger(ladder=False, groups=False), 2),
        "hostile": (_hostile(make_ledger()), 16),
        "nothing": (Ledger(make_ledger().meta, make_ledger().of("overall")[1:2]), 0),
        "unknown": (_changed(make_ledger(), "ui-m", flops_once=None, tokens=None), 16),
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
