"""What a doubling buys: the published rows, known laws, a shift, and tables that cannot tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pomona import stats
from pomona.cli import main
from pomona.errors import PomonaError
from pomona.scale import Columns, Estimate, returns
from pomona.scale.tables.fits import estimate, exact_line

Write = Callable[..., Path]
Real = Callable[[str], Path]


def test_the_stated_rows_of_kornblith(table: Write) -> None:
    path = table(
        "model,params,top1",
        "Inception v1,5.6M,69.8",
        "Inception-ResNet v2,54.3M,80.4",
        "NASNet-A Large,84.7M,82.7",
    )
    last = returns(path).metrics[0].steps[-1]
    assert (last.smaller, last.larger) == ("Inception-ResNet v2", "NASNet-A Large")
    assert last.ratio == pytest.approx(1.56, abs=0.005)  # and not "almost double"
    assert last.gain == pytest.approx(2.3)
    assert last.points == pytest.approx(2.3 / np.log2(84.7 / 54.3))


def law(table: Write, families: int = 4, seed: int = 0) -> Path:
    """Errors that shrink by a fifth with each doubling, each family at a level of its own."""
    rng = np.random.default_rng(seed)
    rows = []
    for family in range(families):
        for doubling in range(6):
            error = 60 * (1 + 0.1 * family) * 0.8**doubling * np.exp(rng.normal(0, 0.01))
            shifted = 90 * (1 + 0.02 * family) * 0.9**doubling
            params = 1e7 * 2 ** (doubling + family / 2)
            scores = f"{100 - error:.3f},{100 - shifted:.3f}"
            rows.append(f"m{family}-{doubling},{params:.0f},{scores},f{family}")
    return table("model,params,score,shifted,family", *rows)


def test_a_law_of_errors_is_found_within_families(table: Write) -> None:
    told = returns(law(table)).metrics[0]
    assert told.within is not None and told.within.error is not None
    assert told.within.error.value == pytest.approx(0.2, abs=0.01)
    low, high = told.within.error.low, told.within.error.high
    assert low is not None and high is not None and low < 0.2 < high
    assert told.within.halving is not None
    assert told.within.halving.value == pytest.approx(1 / -np.log2(0.8), rel=0.03)
    assert set(told.families) == {"f0", "f1", "f2", "f3"}
    one = told.families["f0"]
    assert one.error is not None and one.error.value == pytest.approx(0.2, abs=0.01)
    assert one.fit_error is not None and one.fit_points is not None
    assert one.fit_error > one.fit_points
    # In points each doubling buys less, which is no saturation.
    assert told.overall.bend.value is not None and told.overall.bend.value < 0


def test_what_size_buys_under_a_shift_is_compared_over_the_same_models(table: Write) -> None:
    (contrast,) = returns(law(table), beside=["shifted"]).contrasts
    assert (contrast.metric, contrast.against) == ("shifted", "score")
    assert contrast.log_error is not None
    value, low = contrast.log_error.value, contrast.log_error.low
    assert value is not None and low is not None and low > 0  # errors fall less there


def test_real_models_under_natural_shifts(real: Real) -> None:
    path = real("timm/results-imagenet.csv")
    told = returns(path, columns=Columns(params_unit="millions")).metrics[0]
    assert told.overall.n == 1556
    assert told.overall.points.value == pytest.approx(2.21, abs=0.01)
    assert told.overall.bend.high is not None and told.overall.bend.high < 0
    gains = [band.points.value for band in told.bands.values()]
    assert len(gains) == 3 and None not in gains
    assert all(step.ratio >= 1.25 for step in told.steps)


def test_the_command_prints_json_and_a_page(
    table: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(law(table))
    assert main(["scale", "returns", path, "--beside", "shifted", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["metric"] for one in told["metrics"]] == ["score", "shifted"]
    assert told["signature"].startswith("returns|table:") and told["seed"] == 0
    page = tmp_path / "page"
    assert main(["scale", "returns", path, "--page", str(page)]) == 0
    assert "within families" in capsys.readouterr().out
    assert "data:image/svg+xml" in (page / "index.html").read_text()


def test_what_a_table_cannot_tell_is_unknown(table: Write) -> None:
    told = returns(
        table("model,params,loss", "a,1e9,200", "b,2e9,150"), columns=Columns(score="loss")
    )
    gain = told.metrics[0].overall
    assert (gain.error, gain.halving, gain.points.low, gain.bend.value) == (None, None, None, None)
    assert "scores have no ceiling, so that there is no error to halve" in told.notes
    assert "the models are of 2 models: too few for an interval" in told.notes
    with pytest.raises(PomonaError) as caught:
        returns(table("model,params,score", "a,7e9,30", "b,7e9,40"))
    assert "row 1 (a): all models have 7,000,000,000 parameters — give models of two" in str(
        caught.value
    )


def test_scores_of_two_kinds_are_not_compared(table: Write) -> None:
    path = table("model,params,score,shifted", "a,1e9,60,0.3", "b,2e9,70,0.4")
    with pytest.raises(PomonaError) as caught:
        returns(path, beside=["shifted"])
    assert '"shifted" holds shares, and the first column percentages — write all in one' in str(
        caught.value
    )


def test_a_bend_is_that_of_a_parabola_and_ends_are_in_order(table: Write) -> None:
    curve = [f"m{i},{2**i}e6,{50 + 10 * i - i * i}" for i in range(5)]
    assert returns(table("model,params,score", *curve)).metrics[0].overall.bend.value == (
        pytest.approx(-2)
    )
    rough = [f"m{i},{2**i}e6,{40 + 6 * i + 3 * (i % 3)}" for i in range(8)]
    halving = returns(table("model,params,score", *rough)).metrics[0].overall.halving
    assert halving is not None and halving.low and halving.value and halving.high
    assert halving.low < halving.value < halving.high


def test_few_points_have_students_interval_and_undefined_resamples_none() -> None:
    x, y = np.arange(5.0), np.array([0.0, 1, 1, 3, 3])
    told = exact_line(x, y).slope
    # By hand: slope .8, residual sum of squares .8, so that its error is √(.8 / 3 / 10) of it.
    wide = 3.182446 * (0.8 / 3 / 10) ** 0.5
    assert (told.value, told.high) == (pytest.approx(0.8), pytest.approx(0.8 + wide, rel=1e-5))
    draws = stats.Resamples(5)
    drawn = np.linspace(0, 1, draws.resamples)
    assert estimate(0.5, drawn, draws, 5).low is not None
    drawn[::10] = np.nan
    assert estimate(0.5, drawn, draws, 5) == Estimate(0.5, n=5)
