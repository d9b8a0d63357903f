"""Smooth and broken curves: the truth of synthetic ladders is found, or it is said that it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.scale import Inflection, inflection
from pomona.scale.curves.shapes import BROKEN, SMOOTH, Shapes

SIZES = np.geomspace(1e6, 1e9, 10)
NOISE = np.random.default_rng(3).normal(size=(4, 10))
SEVEN = Shapes(SIZES[:7])
LENGTH = 400  # tokens of an answer that is right as a whole


def ladder() -> pa.Table:
    """One model by three metrics: its loss for a token is a power law; what is truly broken is
    beside them.
    """
    wrong = (SIZES / 1e6) ** -1.0
    return pa.table(
        {
            "params": SIZES,
            "exact_match": 100 * np.exp(-LENGTH * wrong) + 0.2 * NOISE[0],
            "loss": 0.8 + 1.5 * (SIZES / 1e6) ** -0.3 + 0.005 * NOISE[1],
            "skill": np.maximum(0, np.log(SIZES / 3e7)) + 0.03 * NOISE[2],
        }
    )


@pytest.fixture(scope="module")
def found() -> Inflection:
    return inflection(ladder(), simulations=199)


def test_a_smooth_law_looks_broken_by_exact_match_of_long_answers(found: Inflection) -> None:
    exact, loss, _ = found.curves
    assert (exact.verdict, loss.verdict) == ("broken", "smooth")
    assert exact.shape == "kink" and 3e7 < (exact.turn or 0) < 3e8
    assert loss.shape == "power law" and loss.turn is None
    assert (loss.detectable or 9) <= 1
    assert abs(exact.breakthrough or 0) > 5 * abs(loss.breakthrough or 0)
    assert "the break is the metric's" in found.headline()


def test_a_curve_that_is_truly_broken_is_found_where_it_breaks(found: Inflection) -> None:
    skill = found.curves[2]
    assert skill.verdict == "broken" and skill.shape == "kink"
    assert 2e7 < (skill.turn or 0) < 5e7
    jump = np.log(SIZES) * 0.2 + (SIZES > 3e7) + 0.03 * NOISE[3]
    curve = inflection(pa.table({"params": SIZES, "skill": jump}), simulations=199).curves[0]
    assert (curve.verdict, curve.shape) == ("broken", "jump")


def test_few_sizes_cannot_tell() -> None:
    few = inflection(ladder().slice(0, 4))
    assert {curve.verdict for curve in few.curves} == {"cannot tell"}
    assert all(curve.note.startswith("4 sizes cannot tell") for curve in few.curves)
    assert all(curve.p_value is None and curve.difference is None for curve in few.curves)
    noise = pa.table({"params": SIZES[:6], "loss": NOISE[0, :6]})
    assert inflection(noise, simulations=199).curves[0].verdict == "cannot tell"


def test_items_give_intervals_by_group_and_cluster() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=30)
    rows = [
        {
            "params": size,
            "item": f"{item}{group}",
            "cluster": str(item),
            "group": group,
            "right": float(hard[item] + rng.normal() < np.log(size / 3e7) - (group == "cy")),
        }
        for size in SIZES[:5]
        for item in range(30)
        for group in ("de", "cy")
    ]
    result = inflection(pa.Table.from_pylist(rows), simulations=99)
    assert [curve.group for curve in result.curves] == ["overall", "cy", "de"]
    for curve in result.curves:
        assert all(
            low <= v <= high
            for low, v, high in zip(curve.lows, curve.values, curve.highs, strict=True)
        )
        assert curve.low is not None and curve.low <= (curve.high or 0)
    assert any("30 clusters of the 60 items" in note for note in result.notes)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.floats(0, 100), min_size=7, max_size=7).filter(lambda v: np.ptp(v) > 1),
    st.floats(0.01, 50) | st.floats(-50, -0.01),
    st.floats(-100, 100),
)
def test_the_unit_of_a_metric_does_not_matter(values: list[float], scale: float, by: float) -> None:
    shapes = SEVEN
    one = shapes.totals(np.array([values]))
    other = shapes.totals(np.array([values]) * scale + by)
    for name in (*SMOOTH, *BROKEN):
        # densities are of a unit: they differ by its logarithm
        shifted = other[name] + 7 * np.log(abs(scale))
        assert shifted == pytest.approx(one[name], abs=0.02)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"loss": [1.0]}, "there is no column of sizes: size, params, tokens or flops"),
        ({"params": [1e6], "loss": [1.0]}, "nothing varies"),
        ({"size": ["s", "m"], "loss": [1.0, 2.0]}, 'how large "s" is is not known'),
        ({"params": [1e6, 2e6], "loss": [1.0, float("nan")]}, "row 2: \"loss\" is nan"),
        ({"params": [1e6, -2e6], "loss": [1.0, 2.0]}, "row 2: parameters is -2e+06"),
        ({"params": [1e6, 2e6, 2e6], "loss": [1.0, 2.0, 3.0]}, "row 2 is of the same system"),
        ({"params": [1e6, 2e6], "note": ["a", "b"]}, "there is no column of values"),
        ({"params": [1e6, 2e6], "value": ["1", "much"]}, "row 2: \"value\" is 'much'"),
    ({"params": [1e6, 2e6, 3e6], "loss": [3.0, 2e200, 1.0]}, 'row 2: "loss" is 2e+200'),
        ({"params": ["1", "2", "3"], "em": ["1", "2", "3"], "loss": ["3", "n/a", "1"]}, 'row 2: "loss" is \'n/a\''),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_row(columns: dict, text: str) -> None:
    with pytest.raises(PomonaError) as error:
        inflection(pa.table(columns))
    assert text in str(error.value)


def test_sizes_at_several_numbers_of_tokens_are_curves_of_their_own() -> None:
    rows = [
        {"params": n, "tokens": d, "loss": 1 + (n / 1e6) ** -0.3 + (d / 1e6) ** -0.3}
        for n in (1e6, 2e6, 4e6)
        for d in (1e6, 2e6)
    ]
    table = pa.Table.from_pylist(rows)
    assert [c.series for c in inflection(table).curves] == ["tokens 1000000", "tokens 2000000"]
    along = inflection(table, along="tokens").curves
    assert [len(curve.sizes) for curve in along] == [2, 2, 2]


def test_the_command_prints_writes_a_page_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{n:.0f},{10 + n / 1e8:.3f}\n" for n in SIZES[:4])
    Path("ladder.csv").write_text("params,chrf\n" + rows)
    assert main(["scale", "inflection", "ladder.csv", "--page", "page", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["curves"][0]["verdict"] == "cannot tell" and told["signature"]
    assert "cannot tell" in Path("page/index.html").read_text()
    assert main(["scale", "inflection", "ladder.csv"]) == 0
    assert "4 sizes cannot tell" in capsys.readouterr().out
    assert main(["scale", "inflection", "ladder.csv", "--group", "cy"]) == 2
    assert "no value has this group" in capsys.readouterr().err
