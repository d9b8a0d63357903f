from __future__ import annotations

import pytest
import yaml
from hypothesis import given, strategies as st

from pomona.data.mixing import (
    Mixture,
    Phase,
    Schedule,
    constant,
    curve,
    exposures,
    leave_one_out,
    schedule_of,
    upsample_end,
)
from pomona.data.value import effective_data
from pomona.errors import PomonaError

BASE = Mixture({"large": 34.35, "small": 36.70, "domain": 7.17, "code": 21.78})
FINAL = Mixture({"large": 0, "small": 30, "domain": 35, "code": 35})
SIZES = {"large": 4000, "small": 4000, "domain": 100, "code": 1000}


def test_upsampling_at_the_end_of_blakeney() -> None:
    schedule = upsample_end(BASE, FINAL, 0.2)
    assert schedule.bounds.tolist() == [0, 0.8, 1]
    assert schedule.shares == pytest.approx(
        {"large": 0.2748, "small": 0.3536, "domain": 0.12736, "code": 0.24424}
    )


def test_exposures_count_epochs_and_warn_past_four() -> None:
    by_name = {item.name: item for item in exposures(upsample_end(BASE, FINAL, 0.2), SIZES, 4000)}
    assert by_name["domain"].tokens == pytest.approx(509.44)
    assert by_name["domain"].epochs == pytest.approx(5.0944)
    assert by_name["domain"].worth == pytest.approx(effective_data(5.0944))
    assert by_name["domain"].warning == (
        '"domain" is seen 5.1 times; past 4 epochs repeated data loses its worth (these '
        "count as 4.6), "
        "and the model may learn it by heart — lower its weight, or add data"
    )
    assert [name for name, item in by_name.items() if item.warning] == ["domain"]
    exactly = exposures(constant(Mixture({"a": 1})), {"a": 10}, 40)[0]
    assert (exactly.epochs, exactly.warning) == (4, None)


def test_leave_one_out_changes_the_last_phase_alone() -> None:
    plans = leave_one_out(upsample_end(BASE, FINAL, 0.3))
    assert list(plans) == ["small", "domain", "code"]
    assert plans["domain"].phases[0].mixture == BASE
    assert plans["domain"].phases[1].mixture.shares == pytest.approx(
        {"large": 0, "small": 30 / 65, "domain": 0, "code": 35 / 65}
    )


def test_the_curve_has_shares_and_epochs_at_both_ends_of_each_phase() -> None:
    rows = curve(upsample_end(BASE, FINAL, 0.2), SIZES, 4000)
    domain = [
        (row["progress"], row["share"], row["epochs"]) for row in rows if row["dataset"] == "domain"
    ]
    assert len(rows) == 16
    expected = [(0, 0.0717, 0), (0.8, 0.0717, 2.2944), (0.8, 0.35, 2.2944), (1, 0.35, 5.0944)]
    for found, wanted in zip(domain, expected, strict=True):
        assert found == pytest.approx(wanted)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.data())
def test_a_schedule_survives_yaml(widths: list[float], data: st.DataObject) -> None:
    edges = [sum(widths[:i]) / sum(widths) for i in range(len(widths))] + [1.0]
    weights = [
        data.draw(st.dictionaries(st.sampled_from("abc"), st.floats(0.1, 9), min_size=1))
        for _ in widths
    ]
    schedule = Schedule(
        tuple(Phase(edges[i], edges[i + 1], Mixture(w)) for i, w in enumerate(weights))
    )
    again = schedule_of(yaml.safe_load(yaml.safe_dump(schedule.to_list())), dict.fromkeys("abc", 1))
    for one, two in zip(schedule.phases, again.phases, strict=True):
        assert (one.start, one.end) == (two.start, two.end)
        assert all(
            two.mixture.shares[name] == pytest.approx(share)
            for name, share in one.mixture.shares.items()
        )
    assert sum(schedule.shares.values()) == pytest.approx(1)


def test_yaml_may_leave_out_what_is_clear() -> None:
    sizes = {"en": 900, "sw": 100}
    schedule = schedule_of(
        [{"to": 0.5}, {"to": 0.9, "temperature": 2}, {"weights": {"sw": 1}}], sizes
    )
    assert schedule.bounds.tolist() == [0, 0.5, 0.9, 1]
    assert schedule.phases[1].mixture.shares == pytest.approx({"en": 0.75, "sw": 0.25})
    assert schedule_of({"weights": {"sw": 1}}, sizes) == constant(Mixture({"en": 0, "sw": 1}))


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (
            [{"to": 0.5}, {"from": 0.6}],
            r"phase 2: goes from 0.6 to 1 where 0.5 is reached — let each phase start",
        ),
        ([{"to": 0.5}, {"to": 0.5}, {}], r"phase 2: goes from 0.5 to 0.5"),
        (
            [{"to": 0.5}, {"to": 0.9}],
            r"schedule: the phases end at 0.9 — let the last one end at 1",
        ),
        ([{}, {}], r"phase 1: goes from 0.0 to None — give shares of training"),
        ([{"weights": {"ne": 1}}], r'phase 1, weights: no dataset is named "ne"'),
        ([1], r"phase 1: 1 is not a mapping"),
        ([], r"schedule: the phases end at 0"),
    ],
)
def test_mistakes_are_named(spec: list, match: str) -> None:
    with pytest.raises(PomonaError, match=match):
        schedule_of(spec, {"en": 900, "sw": 100})


def test_a_dataset_that_is_to_be_shown_must_be_there() -> None:
    with pytest.raises(PomonaError, match='schedule: no dataset is named "code"'):
        exposures(constant(BASE), {"large": 1, "small": 1, "domain": 1}, 10)
    with pytest.raises(
        PomonaError,
        match=r'schedule: "code" has 21.8% of the training and is empty — give it weight 0',
    ):
        exposures(constant(BASE), SIZES | {"code": 0}, 10)
    with pytest.raises(PomonaError, match="tokens: 0 is not a number of tokens"):
        exposures(constant(BASE), SIZES, 0)
    with pytest.raises(PomonaError, match=r"share: 20 is not a share between 0 and 1 — use 0.2"):
        upsample_end(BASE, FINAL, 20)
