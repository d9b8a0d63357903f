"""What the report says of a ledger, and what a gain costs over the life of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.ledger import Entry, Ledger, Meta
from pomona.ledger.report import write_report
from pomona.ledger.report.answer import answer
from pomona.ledger.report.costs import FEWEST, MOST, buys, overtaking, share, worth
from pomona.ledger.report.life import free, life, life_rows
from pomona.ledger.report.points import drawn, left_out
from pomona.ledger.systems import View

Make = Callable[..., Ledger]
CHEAPER = {"flops_per_item": 0.6e8}


def _changed(ledger: Ledger, variant: str, **changes: Any) -> Ledger:
    entries = [
        replace(entry, **changes) if entry.variant == variant else entry for entry in ledger.entries
    ]
    return Ledger(ledger.meta, entries)


def _said(ledger: Ledger) -> str:
    conclusion = answer(View(ledger))
    told = [conclusion.headline, *conclusion.details, *conclusion.more]
    return " ".join(told).replace("\u00a0", " ")


def _only(ledger: Ledger, *levers: str) -> Ledger:
    return Ledger(
        ledger.meta, [e for e in ledger.entries if e.lever == "scale" or e.variant in levers]
    )


def test_the_headline_names_the_best_system_and_the_best_lever(make_ledger: Make) -> None:
    said = answer(View(make_ledger()))
    assert said.headline.replace("\u00a0", " ") == (
        "A bigger model gives the most: ui-l, chrF 42.43, +8.73 [+8.24, +9.24] over ui-s "
        "(+9.13 in the tail). The best lever, experts, gives +1.90 [+1.41, +2.41] "
        "(+2.80 in the tail), for 1.1 % of ui-l's extra compute."
    )
    text = " ".join([*said.details, *said.more]).replace("\u00a0", " ")
    assert "In the tail experts gives +2.80 chrF [+1.63, +4.03] on 420 items." in text
    assert "No measurable gain: data (all)" in text
    assert "Measurably worse than the base: data (prune/top)" in text
    assert "11 variants were compared" in text


@pytest.mark.parametrize(
    ("gain", "half", "says"), [(0.26, 0.39, "not measurable"), (2.0, 0.5, "a gain")]
)
def test_what_the_best_gives_over_its_own_control_comes_first(
    make_ledger: Make, gain: float, half: float, says: str
) -> None:
    made = make_ledger(groups=False)
    experts = next(e for e in made.entries if e.variant == "experts")
    best = replace(experts, delta=12.0, ci_low=11.0, ci_high=13.0, value=52.0)
    ends = {"delta": 12 - gain, "ci_low": 11 - gain, "ci_high": 13 - gain, "value": 52 - gain}
    own = replace(experts, variant="no experts", flops_once=0.0, flops_per_item=0.0, **ends)
    control = replace(own, lever="control", variant="lookup", delta=3.0, ci_low=2.5, ci_high=3.5)
    over = {"delta": gain, "ci_low": gain - half, "ci_high": gain + half}
    against = [replace(best, baseline="no experts", **over), replace(best, baseline="lookup")]
    others = [e for e in made.entries if e.variant != "experts"]
    ledger = Ledger(made.meta, [*others, best, own, control, *against])
    said = [line.replace("\u00a0", " ") for line in answer(View(ledger)).details]
    told = f"{gain:+.2f} [{gain - half:+.2f}, {gain + half:+.2f}]".replace("-", "−")
    assert said[0] == f"Over no experts, experts gives {told}: {says}."
    cheaper = (
        "no experts costs less and is not measurably below experts: chrF 51.74, "
        "at no extra compute."
    )
    assert (said[1] == cheaper) is (says != "a gain")
    assert not any("Over lookup" in line or "Over ui-s" in line for line in said)


def test_a_gain_without_extra_compute_is_the_best_buy(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    ledger.entries[-1] = replace(ledger.entries[-1], delta=0.4, ci_low=0.1, ci_high=0.7)
    assert "Per FLOP the best buy is risk, for any number of answers" in _said(ledger)
    assert free(View(ledger)) == [
        "risk costs nothing more than ui-s from 1,000 answers on, and has no line."
    ]
    row = next(row for row in life_rows(View(ledger)) if row["variant"] == "risk")
    assert [row[n] for n in ("1,000", "100,000", "10,000,000")] == ["nothing more"] * 3
    only = answer(View(_only(ledger, "risk"))).headline
    assert only.endswith(
        "The best lever, risk, gives +0.40 [+0.10,\u00a0+0.70], at no extra compute."
    )


def test_a_lever_that_was_trained_and_answers_shorter_is_not_free(make_ledger: Make) -> None:
    ledger = _changed(_only(make_ledger(groups=False), "prune/bottom"), "prune/bottom", **CHEAPER)
    assert ledger.extra(ledger.of("overall")[-1]) < 0  # pyright: ignore[reportOptionalOperand]
    assert (
        "for 2.9×10¹² FLOPs once, which its cheaper answers save within 73,000 answers"
        in answer(View(ledger)).headline
    )
    assert "no extra compute" not in _said(ledger)
    kept = next(p for p in drawn(View(ledger)) if p.entry.variant == "prune/bottom")
    assert kept.free and not any(line.startswith("prune/bottom") for line in left_out(View(ledger)))
    assert free(View(ledger)) == [
        "prune/bottom costs nothing more than ui-s from about 73,000 answers on, and has no line."
    ]


def test_what_is_not_known_is_neither_free_nor_drawn(make_ledger: Make, tmp_path: Path) -> None:
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
    assert "ui-m from about" not in text
    assert not {"ui-m", "ui-l"} & {point.entry.variant for point in drawn(View(ledger))}
    assert any(
        line.startswith("ui-m") and line.endswith("; what making it took is not known.")
        for line in left_out(View(ledger))
    )
    write_report(ledger, tmp_path / "unknown.html")
    page = (tmp_path / "unknown.html").read_text(encoding="utf-8")
    assert page.count('<td class="n">unknown</td>') == 2 * 3 * 4  # models, groups, columns
    ledger.write(tmp_path / "ledger.json")
    assert Ledger.read(tmp_path / "ledger.json") == ledger
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
    told = answer(View(lever)).headline
    assert "The best lever, hope, gives +1.00" in told and "at a cost that is not known" in told


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
    headline = answer(View(ledger)).headline
    assert headline == (f"The base ui-s {why}: differences between answers of no use mean nothing.")
    assert "best buy" not in _said(ledger)
    assert "Above the base, and of no use: scale (ui-m) " in _said(ledger)
    # What rises above copying and zero is a gain, and the base is still told for what it is.
    good = _changed(ledger, "prune/bottom", value=value + 20, delta=20.0, ci_low=19.0, ci_high=21.0)
    assert answer(View(good)).headline.startswith("prune/bottom gives the most: chrF ")
    assert answer(View(good)).details[0] == headline


def test_gains_of_no_use_over_a_base_of_some(make_ledger: Make) -> None:
    made = make_ledger(groups=False)
    base = [replace(e, value=0.0 if e.delta else 50.0) for e in made.entries]
    assert _said(Ledger(made.meta, base)).startswith("Above the base, and of no use: ")


def test_a_base_better_than_copying_is_warned_of_by_nobody(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    ledger = Ledger(replace(ledger.meta, copying={"overall": 25.1}), ledger.entries)
    assert "no use" not in _said(ledger)


def test_intervals_that_include_zero_are_no_gain(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    flat = [replace(e, delta=0.1, ci_low=0.0, ci_high=0.9) for e in ledger.entries]
    assert answer(View(Ledger(ledger.meta, flat))).headline.startswith(
        "Nothing shows a measurable gain over ui-s."
    )
    only = [e for e in ledger.entries if e.variant == "ui-s"]
    assert (
        answer(View(Ledger(ledger.meta, only))).headline
        == "This ledger measures no lever against ui-s."
    )


def test_lower_is_better_turns_the_answer(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    said = _said(Ledger(replace(ledger.meta, higher_is_better=False), ledger.entries))
    assert said.startswith(
        "prune/top gives the most: chrF 32.30, +1.40 [+0.89, +1.89] over ui-s, for "
    )
    assert "Per FLOP the best buy is risk" in said


def _with(ledger: Ledger, like: str, **changes: Any) -> Ledger:
    """Entries like those of a variant, changed, after all others."""
    more = [replace(e, **changes) for e in ledger.entries if e.variant == like]
    return Ledger(ledger.meta, [*ledger.entries, *more])


def _control(ledger: Ledger, gain: float) -> Ledger:
    ends = {"delta": gain, "ci_low": gain - 0.5, "ci_high": gain + 0.5, "value": 33 + gain}
    free = {"flops_once": 0.0, "flops_per_item": 0.0, "tokens": 0, "scale_equivalent": None}
    return _with(ledger, "experts", lever="control", variant="consensus5", **ends, **free)


def test_a_control_that_is_best_is_said_first(make_ledger: Make) -> None:
    said = _said(_control(make_ledger(), 17.7))
    assert said.startswith(
        "Best is a control that asks no model: consensus5, chrF 50.70 overall, 50.70 in the tail. "
        "Of what asks a model, a bigger one gives the most: ui-l, "
    )
    assert "the control consensus5 is better, 50.70 against" in said
    assert "Per FLOP the best buy among models is " in said
    made = _control(make_ledger(ladder=False), 17.7)
    alone = _said(_only(made, "prune/top", "consensus5"))
    assert alone.startswith(
        "Best is a control that asks no model: consensus5, chrF 50.70 overall, 50.70 in the tail. "
        "Nothing shows a measurable gain over ui-s."
    )
    weak = _said(_control(make_ledger(), 3.0))
    assert "The strongest control, consensus5, has chrF 36.00 without a model." in weak
    assert "control (consensus5)" not in weak


def test_what_the_best_system_is_above_the_control_is_told_where_it_was_measured(
    make_ledger: Make,
) -> None:
    ledger = _with(
        _control(make_ledger(groups=False), 3.0),
        "ui-l",
        baseline="consensus5",
        delta=5.73,
        ci_low=5.1,
        ci_high=6.3,
    )
    assert "without a model; the difference is +5.73 [+5.10, +6.30]." in _said(ledger)
    unsure = [replace(e, p_holm=0.2) if e.delta == 5.73 else e for e in ledger.entries]
    said = _said(Ledger(ledger.meta, unsure))
    assert "the difference is +5.73 [+5.10, +6.30], no measurable difference." in said


def _warm_and_cold(ledger: Ledger) -> Ledger:
    more = []
    for e in [*ledger.of("overall"), *ledger.of("tail")]:
        name = {"overall": "warm", "tail": "warm tail"}[e.group]
        ends = {"ci_low": e.ci_low + 1, "ci_high": e.ci_high + 1}
        more.append(replace(e, group=name, delta=e.delta + 1, **ends))
    for e in ledger.of("overall"):
        more.append(replace(e, group="cold", delta=0.0, ci_low=-0.4, ci_high=0.4))
    return Ledger(ledger.meta, [*ledger.entries, *more])


def test_warm_and_cold_items_are_told_apart(make_ledger: Make) -> None:
    ledger = _warm_and_cold(make_ledger())
    assert ledger.parts() == {
        "all": "warm",
        "head": "head",
        "tail": "warm tail",
        "cold": "cold",
    }
    said = _said(ledger)
    assert said.startswith(
        "A bigger model gives the most: ui-l, chrF 42.43, +9.73 [+9.24, +10.2] over ui-s on warm "
        "items (+10.1 in the tail, no measurable gain on cold items)."
    )
    assert "On cold items ui-l gives no measurable gain, 0.00 chrF [−0.40, +0.40] on" in said


def test_a_gain_that_many_comparisons_explain_is_none(make_ledger: Make) -> None:
    ledger = _only(make_ledger(groups=False), "experts", "mixed")
    tested = _changed(_changed(ledger, "experts", p_holm=0.06), "mixed", p_holm=0.01)
    said = _said(tested)
    assert "The best lever, mixed, gives +0.70" in said
    assert "No measurable gain: merging (experts)." in said
    assert View(tested).verdict(tested.of("overall")[-1]) == "unclear"


def test_a_choice_by_chance_is_no_result(make_ledger: Make) -> None:
    said = _said(make_ledger())
    assert "prune/random" not in said
    assert "prune/top" in said


def test_a_base_that_copying_beats_in_the_tail_is_told(make_ledger: Make) -> None:
    made = make_ledger()
    tail = next(e for e in made.of("tail") if e.variant == "ui-s")
    meta = replace(made.meta, copying={"overall": 20.0, "tail": tail.value + 0.01})
    told = "In the tail the base ui-s does no better than copying the source, chrF 24.70 against"
    assert told in _said(Ledger(meta, made.entries))


def test_a_choice_by_the_metric_that_judges_it_is_marked(make_ledger: Make, tmp_path: Path) -> None:
    ledger = _changed(_only(make_ledger(), "hedged5/chrf-mbr"), "hedged5/chrf-mbr", optimised=True)
    name = "hedged5/chrf-mbr ‡ chose its answers by chrF, which judges them here"
    assert f"{name}; no second metric was measured." in _said(ledger)
    exact = [
        replace(e, metric="exact", value=8.0, delta=-0.72, ci_low=-1.2, ci_high=-0.2)
        for e in ledger.entries
    ]
    meta = replace(ledger.meta, metric="chrf")
    both = Ledger(meta, [*ledger.entries, *exact])
    assert "; by exact it gives −0.72 [−1.20, −0.20]." in _said(both)
    fewer = Ledger(replace(meta, higher={"exact": False}), both.entries)
    assert "; by exact it gives +0.72 [+0.20, +1.20]." in _said(fewer)
    write_report(both, tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "<b>hedged5/chrf-mbr</b> ‡</td>" in page
    assert '<th class="n">exact</th><th class="n">its gain</th>' in page
    assert '<td class="n">8.00</td><td class="n worse">−0.72 [−1.20, −0.20]</td>' in page


def test_break_even_numbers_stand_where_prices_cross(make_ledger: Make) -> None:
    ledger = View(_only(make_ledger(groups=False), "hedged5/chrf-mbr"))
    mbr, larger = buys(ledger)
    (largest,) = overtaking(ledger, [mbr, larger])
    assert [b.entry.variant for b in (mbr, larger, largest)] == ["hedged5/chrf-mbr", "ui-m", "ui-l"]
    for buy in (larger, largest):
        counted = replace(ledger.meta, serve_items=round(buy.answers))
        at = Ledger(counted, ledger.entries)
        prices = [(at.extra(e) or 0) / at.gain(e)[0] for e in (mbr.entry, buy.entry)]
        assert prices[0] == pytest.approx(prices[1], rel=1e-5)
        assert buy.low is not None and buy.high is not None and buy.low < buy.answers < buy.high
    said = _said(ledger)
    assert (
        "Per FLOP the best buy is hedged5/chrf-mbr for few answers, ui-m from about 330,000 "
        "[210,000, 480,000] answers on." in said
    )
    assert (
        "Than hedged5/chrf-mbr a better buy is ui-l from about 490,000 [310,000, 740,000] "
        "answers on." in said
    )
    assert life(ledger, 740, 260) is not None
    assert [row["best"] for row in life_rows(ledger)] == [
        "for few answers",
        "from 330,000 [210,000, 480,000]",
        "never; a better one than hedged5/chrf-mbr from 490,000 [310,000, 740,000]",
    ]


@given(
    st.lists(
        st.tuples(st.floats(0.1, 20), st.just(0.0) | st.floats(1, 1e15), st.floats(-1e7, 1e10)),
        min_size=1,
        max_size=6,
    )
)
def test_the_best_buy_is_the_best_at_every_number_of_answers(
    shapes: list[tuple[float, float, float]],
) -> None:
    ledger = View(_synthetic(shapes))
    found = buys(ledger)
    assert [buy.answers for buy in found] == sorted(buy.answers for buy in found)
    for answers in np.geomspace(FEWEST, MOST, 60).tolist():
        named = [buy for buy in found if buy.answers <= answers][-1].entry
        rank, price = max(worth(ledger, e, answers) for e in ledger.of("overall")[1:])
        ours = worth(ledger, named, answers)
        assert ours[0] == rank or abs(ours[1]) > 1e15  # to the rounding of a price at zero
        assert ours[1] == pytest.approx(price, rel=1e-6)


def _synthetic(shapes: list[tuple[float, float, float]]) -> Ledger:
    """Levers with these gains, costs once, and costs of an answer beyond the base's."""
    meta = Meta("any", "chrF", True, "base", 1, 1000, 0, "2026-01-01T00:00:00+00:00")
    costs = {"tokens": 0, "seconds": 0.0, "scale_equivalent": None, "seed": 0, "signature": ""}
    entries = [
        Entry(
            lever="any",
            variant=f"v{place}" if place else "base",
            metric="chrf",
            group="overall",
            baseline="base",
            value=40 + gain,
            delta=gain,
            ci_low=gain * 0.9,
            ci_high=gain * 1.1,
            n=1,
            flops_once=once,
            flops_per_item=1e8 + each,
            **costs,
        )
        for place, (gain, once, each) in enumerate([(0.0, 0.0, 0.0), *shapes])
    ]
    return Ledger(meta, entries)


def test_the_interval_of_a_break_even_covers_it() -> None:
    chance, times, true, wide = np.random.default_rng(0), 400, (1.6, 4.2), 0.25
    (once, each), (its_once, its_each) = shapes = ((0.0, 4e8), (3e14, 1.5e8))
    ratio = true[0] / true[1]
    number = (ratio * its_once - once) / (each - ratio * its_each)
    covered = 0
    for gains in chance.normal(true, wide, (times, 2)).tolist():
        ledger = _synthetic([(g, *shape) for g, shape in zip(gains, shapes, strict=True)])
        base, *others = ledger.entries
        ends = [(e.delta - 1.96 * wide, e.delta + 1.96 * wide) for e in others]
        drawn_ = [replace(e, ci_low=a, ci_high=b) for e, (a, b) in zip(others, ends, strict=True)]
        _, buy = buys(View(Ledger(ledger.meta, [base, *drawn_])))
        assert buy.low is not None and buy.high is not None
        covered += buy.low <= number <= buy.high
    assert 0.92 <= covered / times <= 0.98


def test_the_share_of_the_ladders_compute_is_told(make_ledger: Make) -> None:
    ledger = View(make_ledger(groups=False))
    told = {e.variant: share(ledger, e).replace("\u00a0", " ") for e in ledger.of("overall")[1:]}
    assert told["ui-l"] == "for 8.6×10¹⁴ extra FLOPs"
    assert told["hedged5/chrf-mbr"] == "for 4.7 % of ui-l's extra compute"
    assert told["experts"] == "for 1.1 % of ui-l's extra compute"
    assert told["risk"] == "at no extra compute"
    dear = View(_changed(make_ledger(groups=False), "experts", flops_once=9e15))
    assert share(dear, dear.of("overall")[-4]) == "for 11 times ui-l's extra compute"


def test_costs_are_counted_on_an_axis_that_is_known(make_ledger: Make, tmp_path: Path) -> None:
    made = make_ledger(groups=False)
    served = Ledger(
        made.meta,
        [
            replace(
                e,
                flops_per_item=None,
                money_once=0.0 if e.variant == "ui-s" else (e.flops_once or 0) / 1e13,
                money_per_item=0.0001 if e.variant == "ui-s" else 0.0005,
            )
            for e in made.entries
        ],
    )
    assert View(made).axis == "flops"
    assert View(served).axis == "money"
    assert all(row["extra_flops"] is None for row in served.rows())
    assert "for 1.1 % of ui-l's extra money" not in _said(made)
    assert "Per unit of money the best buy is " in _said(served)
    assert "FLOP" not in _said(served)
    view = View(served)
    assert [view.write_tick(n) for n in (0.2, 10.0, 2000.0)] == ["0.2", "10", "2,000"]
    assert [View(made).write_tick(n) for n in (1e12, 2e12)] == ["10¹²", "2×10¹²"]
    lever = next(e for e in view.of("overall") if e.variant == "experts")
    assert view.extra(lever) == pytest.approx(0.94 + 0.0004 * 100_000)
    served.write(tmp_path / "ledger.json")
    assert Ledger.read(tmp_path / "ledger.json") == served
    write_report(served, tmp_path / "money.html")
    page = (tmp_path / "money.html").read_text(encoding="utf-8")
    assert "extra money to make it and answer 100,000 items" in page
    write_report(served, tmp_path / "flops.html", axis="flops")
    assert "so there is no picture to draw" in (tmp_path / "flops.html").read_text(encoding="utf-8")
